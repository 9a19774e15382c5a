"""Plan a campaign: read, check, count and store it. Nothing is sent.

Rows with the same text and extension number share full, balanced batches, also rows of different files. Memory is
bounded: `Deduplicator` holds the numbers in a compact set, and `Grouping` moves what waits for its batch to a file.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import anyio
import attrs

from qxt_async.errors import InvalidRequestError, QxtError
from qxt_async.files import TableFile

if TYPE_CHECKING:
    from qxt_async.campaign.planner import Planner
    from qxt_async.client import QxtClient
    from qxt_async.files import RowSource
    from qxt_async.journal.campaigns import CampaignStore
    from qxt_async.journal.records import Campaign

_DISCARDING: Final = 10.0  # seconds

Sources: TypeAlias = "RowSource | Sequence[RowSource]"


@attrs.frozen(kw_only=True)
class CampaignPlan:
    """A stored plan, of which nothing has been sent.

    Attributes:
        campaign: as it is stored: id, numbers, batches, credits, excluded numbers, balance, warnings.
        messages: how many different texts (with extension number) it sends.
        segments: how many numbers get a text of so many segments.
        faulty: rows left out because their text cannot be made (only with ``skip_faulty``); they count as invalid.
    """

    campaign: Campaign
    messages: int
    segments: dict[int, int]
    faulty: int = 0

    @property
    def id(self) -> int:
        """The campaign's id."""
        return self.campaign.id

    @property
    def enough(self) -> bool | None:
        """Whether the balance covers the campaign; ``None`` if it was not asked."""
        return None if self.campaign.balance is None else self.campaign.balance >= self.campaign.credits


async def plan_campaign(
    store: CampaignStore, client: QxtClient | None, planner: Planner, sources: Sources, *, name: str
) -> CampaignPlan:
    """Read the sources and store the plan; result and errors as for `Campaigns.plan`."""
    listed = _listed(sources)
    names = [os.fspath(source.path) for source in listed if isinstance(source, TableFile)]
    campaign = await store.create(name=name, sources=names)
    findings = planner.findings
    try:
        await planner.read(listed, functools.partial(store.add, campaign))
        warnings = findings.warnings()
        balance = await _balance(client, findings.credits, warnings)
        stored = await store.finish(campaign, balance=balance, warnings=warnings)
    except BaseException:
        # If this fails, too, the plan stays in state *planning*, in which nobody can run it.
        with anyio.move_on_after(_DISCARDING, shield=True), contextlib.suppress(QxtError):
            await store.discard(campaign)
        raise
    finally:
        planner.grouping.close()
    return CampaignPlan(
        campaign=stored,
        messages=planner.grouping.messages,
        segments=dict(sorted(findings.by_segments.items())),
        faulty=findings.faulty,
    )


async def _balance(client: QxtClient | None, needed: int, warnings: list[str]) -> int | None:
    if client is None:
        return None
    try:
        balance = (await client.balance()).sms
    except QxtError as error:
        warnings.append(f"the balance could not be asked: {error}")
        return None
    if balance < needed:
        # PROTOCOL 2.2
        warnings.append(
            f"{needed} credits are needed and the balance is {balance}: what exceeds it is taken and never delivered"
        )
    return balance


def _listed(sources: Sources) -> list[Any]:
    """The sources as a list, with paths as `TableFile`."""
    if isinstance(sources, str | bytes):
        raise InvalidRequestError("the sources are one string: pass Path(…) for a file, or a list of numbers")
    listed: list[Any] = [sources]
    if isinstance(sources, Sequence):
        items = cast("Sequence[Any]", sources)
        if items and not isinstance(items[0], str | Mapping):
            listed = list(items)
    return [TableFile(cast("os.PathLike[str]", one)) if isinstance(one, os.PathLike) else one for one in listed]
