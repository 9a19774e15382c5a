"""What a campaign's state comes to: the journal keeps what was ordered, and counts what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxt_async.journal.records import CampaignState

if TYPE_CHECKING:
    from qxt_async.journal.records import CampaignCounts, PendingWork

__all__ = ["current_reason", "current_state"]


def current_state(now: CampaignCounts | PendingWork) -> CampaignState:
    """A campaign's state; *done* also for one that was paused, or whose process died, after its last batch had begun.

    *Running* says that something is left to be sent. The journal cannot tell whether a process is sending it.
    """
    ended = not (now.planned or now.sending)
    return CampaignState.DONE if ended and now.state in {CampaignState.RUNNING, CampaignState.PAUSED} else now.state


def current_reason(counts: CampaignCounts) -> str:
    """Why it is in this state; why it was paused is of no interest once everything is accepted."""
    accepted = current_state(counts) is CampaignState.DONE and not (counts.failed or counts.unknown)
    return "" if accepted else counts.reason
