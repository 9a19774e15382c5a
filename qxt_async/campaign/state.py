"""The state of a campaign, from the state that the journal keeps and from what is left to send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.journal.records import CampaignState

if TYPE_CHECKING:
    from qxt_async.journal.records import CampaignCounts, PendingWork


def current_state(now: CampaignCounts | PendingWork) -> CampaignState:
    """A campaign's state. A paused campaign, or one whose process died, is *done* if nothing is left to send.

    *Running* means that something is left to send. The journal does not know whether a process is sending it.
    """
    ended = not (now.planned or now.sending)
    return CampaignState.DONE if ended and now.state in {CampaignState.RUNNING, CampaignState.PAUSED} else now.state


def current_reason(counts: CampaignCounts) -> str:
    """Why it is in this state. The reason of a pause is dropped when everything is accepted."""
    accepted = current_state(counts) is CampaignState.DONE and not (counts.failed or counts.unknown)
    return "" if accepted else counts.reason
