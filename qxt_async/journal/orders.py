"""What an order makes of a campaign's state; ``None`` leaves it. The same for every form of the journal."""

from __future__ import annotations

from typing import Final

from qxt_async.errors import CampaignStateError

from .records import CampaignState

__all__ = ["NOT_SENT_AFTER_ALL", "cancelled", "paused", "resumed", "started"]

NOT_SENT_AFTER_ALL: Final = "a batch that was unknown was not sent, and is planned again"
"""Why a campaign that was done is paused."""


def started(campaign: int, state: CampaignState) -> CampaignState | None:
    """See `Campaigns.start`."""
    if state is CampaignState.PLANNING:
        raise CampaignStateError(campaign, state, "it is still being planned, or its planning was broken off")
    if state is CampaignState.CANCELLED:
        raise CampaignStateError(campaign, state, "resume it first")
    return None if state is CampaignState.RUNNING else CampaignState.RUNNING


def paused(_campaign: int, state: CampaignState) -> CampaignState | None:
    """See `Campaigns.pause`."""
    return CampaignState.PAUSED if state is CampaignState.RUNNING else None


def resumed(campaign: int, state: CampaignState) -> CampaignState | None:
    """See `Campaigns.resume`."""
    if state in (CampaignState.PAUSED, CampaignState.CANCELLED):
        return CampaignState.RUNNING
    if state is not CampaignState.RUNNING:
        raise CampaignStateError(campaign, state, "only what was paused or cancelled can be resumed")
    return None


def cancelled(campaign: int, state: CampaignState) -> CampaignState | None:
    """See `Campaigns.cancel`."""
    if state in (CampaignState.PLANNING, CampaignState.DONE):
        raise CampaignStateError(campaign, state, "there is nothing to cancel")
    return None if state is CampaignState.CANCELLED else CampaignState.CANCELLED
