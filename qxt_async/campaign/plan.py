"""Planning a campaign: read, check, count, store; nothing is sent.

Equal (text, extension number) share full, balanced batches, however many rows and files they come from. Memory is
bounded: by the compact set of the numbers met before, and by what waits for its batch (`grouping`).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import anyio
import attrs

from qxt_async.campaign.planner import Planner, Rules
from qxt_async.errors import InvalidConfigurationError, InvalidRequestError, QxtError
from qxt_async.files import TableFile, Template
from qxt_async.protocol.numbers import MOBILE_PATTERN, NumberFilter
from qxt_async.protocol.requests import MAX_NUMBERS
from qxt_async.protocol.texts import check_extno, encode, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from qxt_async.client import QxtClient
    from qxt_async.files import RowSource
    from qxt_async.journal import Journal
    from qxt_async.journal.records import Campaign

__all__ = ["CampaignPlan", "plan"]

_DISCARDING: Final = 10.0  # seconds

Sources: TypeAlias = "RowSource | Sequence[RowSource]"


@attrs.frozen(kw_only=True)
class CampaignPlan:
    """What a plan found; stored, and nothing of it sent.

    Attributes:
        campaign: as it is stored: id, numbers, batches, credits, what was left out, balance, warnings.
        messages: how many different texts (with extension number) it sends.
        segments: how many numbers get a text of so many segments.
        faulty: rows left out because their text could not be made (only with ``skip_faulty``); they count as invalid.
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
        """Whether the balance covers it; ``None`` if it was not asked."""
        return None if self.campaign.balance is None else self.campaign.balance >= self.campaign.credits


async def plan(
    journal: Journal,
    client: QxtClient | None,
    sources: Sources,
    text: str,
    *,
    name: str = "",
    extno: str | None = None,
    extno_column: str | None = None,
    addseqno: bool = False,
    suppressed: Container[str] = (),
    substitute_characters: bool = False,
    literal: bool = False,
    skip_faulty: bool = False,
    batch_size: int = MAX_NUMBERS,
    channel_digits: int = 0,
    number_pattern: str = MOBILE_PATTERN,
    on_progress: Callable[[int], None] | None = None,
) -> CampaignPlan:
    """Plan a campaign: read the sources, check every row, store batches. Sends nothing.

    Args:
        journal: where it is kept; its suppression list is honoured.
        client: to ask the balance; ``None`` not to ask.
        sources: a file (`TableFile`, a path object), an iterable or async iterable of numbers or mappings, or a list of
            such sources.
        text: the text, with columns as in ``尊敬的{name}``; ``{{`` and ``}}`` are braces.
        name: what to call the campaign.
        extno: extension number of the whole campaign.
        extno_column: column with the extension number of each row; where it is empty, `extno` holds.
        addseqno: see `Message`.
        suppressed: numbers to leave out beside the journal's suppression list.
        substitute_characters: replace the usual characters outside GBK (`texts.SUBSTITUTIONS`) instead of refusing.
        literal: send what looks like a column and is none (``｛name｝``, ``${name}``, ``%name%``) as it stands, instead
            of refusing it. ``{name}`` is a column all the same.
        skip_faulty: leave out rows whose text cannot be made, instead of refusing the plan.
        batch_size: numbers in a batch at most.
        channel_digits: digits of extension that the channel has already.
        number_pattern: what a number has to match.
        on_progress: told after every few thousand rows how many were read.

    Returns:
        The plan, committed. Until then nobody sees it, and a plan that was broken off can never be run.

    Raises:
        InvalidTextError: the text cannot be sent, has a column that a source has not (lists those it has), or has
            something that looks like a column and is none.
        InvalidExtnoError: the extension number cannot be used.
        SourceFileError: a source cannot be read, or has rows that cannot be sent; says file, line and why. There is
            no campaign then, but its id is used up.
        NoValidNumberError: nothing is left to send to.
        JournalError: the journal refused.

    Cancelling: the plan is discarded.
    """
    template = Template.parse(text)
    if not literal:
        template.check()
    rules = Rules(
        template=template,
        literal=literal,
        extno=extno if extno is None else check_extno(extno, channel_digits=channel_digits),
        per_row_extno=extno_column is not None,
        addseqno=addseqno,
        substitute=substitute_characters,
        channel_digits=channel_digits,
    )
    example = template.render(["x"] * len(template.columns))
    encode(substitute(example) if substitute_characters else example)
    if not 1 <= batch_size <= MAX_NUMBERS:
        raise InvalidConfigurationError(f"batch_size is {batch_size}: a request carries 1 to {MAX_NUMBERS} numbers")
    listed = _listed(sources)
    number_filter = NumberFilter(number_pattern)  # checks the pattern
    names = [os.fspath(source.path) for source in listed if isinstance(source, TableFile)]
    listed_numbers = await journal.suppressed_numbers()
    campaign = await journal.campaigns.create(name=name, sources=names)
    planner = Planner(
        functools.partial(journal.campaigns.add, campaign),
        rules,
        number_pattern=number_filter.pattern,
        suppressed=(listed_numbers, suppressed),
        batch_size=batch_size,
        skip_faulty=skip_faulty,
        on_progress=on_progress,
    )
    try:
        await planner.read(listed, extno_column)
        warnings = planner.warnings()
        balance = await _balance(client, planner.credits, warnings)
        stored = await journal.campaigns.finish(campaign, balance=balance, warnings=warnings)
    except BaseException:
        # Should this fail too, the plan stays in state planning, where nobody can run it.
        with anyio.move_on_after(_DISCARDING, shield=True), contextlib.suppress(QxtError):
            await journal.campaigns.discard(campaign)
        raise
    finally:
        planner.grouping.close()
    return CampaignPlan(
        campaign=stored,
        messages=planner.grouping.messages,
        segments=dict(sorted(planner.by_segments.items())),
        faulty=planner.faulty,
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
    """One source, or several."""
    if isinstance(sources, str | bytes):
        raise InvalidRequestError("the sources are one string: pass Path(…) for a file, or a list of numbers")
    listed: list[Any] = [sources]
    if isinstance(sources, Sequence):
        items = cast("Sequence[Any]", sources)
        if items and not isinstance(items[0], str | Mapping):
            listed = list(items)
    return [TableFile(cast("os.PathLike[str]", one)) if isinstance(one, os.PathLike) else one for one in listed]
