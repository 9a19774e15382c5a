"""Rows to batches: what a plan does with each block of its sources."""

from __future__ import annotations

import functools
from collections import Counter
from itertools import compress, islice
from operator import not_
from typing import TYPE_CHECKING, Final, cast

import attrs

from qxt_async.campaign.grouping import Grouping
from qxt_async.errors import InvalidConfigurationError, InvalidNumberError, NoValidNumberError, SourceFileError
from qxt_async.files.spreadsheets import restore_digits
from qxt_async.files.tables import open_table
from qxt_async.journal.records import ExcludedNumber, ExclusionReason
from qxt_async.models import repr_count
from qxt_async.protocol.numbers import Deduplicator, NumberFilter, allowed, normalize
from qxt_async.protocol.requests import MAX_NUMBERS
from qxt_async.runtime.tasks import in_a_thread
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping, Sequence

    from qxt_async.campaign.messages import MessageRules, RowMessage
    from qxt_async.files import NumberBlock, RowSource
    from qxt_async.journal.records import PlannedBatch
    from qxt_async.models import Message

KNOWN_ROWS: Final = 20_000  # rows' values whose message is remembered; most templates have few results
_ADD_BATCHES: Final = 1_000  # in one transaction, about 50 ms
_ADD_NUMBERS: Final = 100_000
_ADD_EXCLUDED: Final = 5_000
_MIN_BATCH: Final = 10  # PROTOCOL 1.4: what marketing channels ask for
_SHOWN_FAULTS: Final = 20


@attrs.define
class PlanFindings:
    """What a plan finds in its sources.

    Attributes:
        read: rows.
        first_invalid: where the first invalid number is, and what is wrong with it.
        faulty: rows whose message cannot be made.
        faults: the first of them: source, line and reason.
        is_signed: every text has a signature.
        small_batches: batches with fewer numbers than some channels take.
        by_segments: numbers, by the segments of their texts.
    """

    read: int = 0
    first_invalid: str = attrs.field(default="", repr=False)
    faulty: int = 0
    faults: list[tuple[str, int, str]] = attrs.field(factory=list[tuple[str, int, str]], repr=False)
    is_signed: bool = True
    small_batches: int = 0
    by_segments: Counter[int] = attrs.field(factory=Counter[int])

    @property
    def credits(self) -> int:
        """Messages that will be billed."""
        return sum(count * numbers for count, numbers in self.by_segments.items())

    def add_faults(self, source: str, lines: Sequence[int], faults: Mapping[int, str]) -> None:
        """Count rows whose message cannot be made, and remember the first of them."""
        self.faulty += len(faults)
        room = _SHOWN_FAULTS - len(self.faults)
        self.faults += [(source, lines[place], fault) for place, fault in islice(faults.items(), room)]

    def refuse(self, *, skip_faulty: bool) -> None:
        """Raise the error for sources of which nothing can be planned, or for faulty rows.

        Raises:
            SourceFileError: there are faulty rows, and they are not to be skipped.
            NoValidNumberError: there is no number to send to.
        """
        if self.faults and not skip_faulty:
            (source, line, reason), *others = self.faults
            more = "".join(f"; {file}, line {at}: {why}" for file, at, why in others)
            rest = self.faulty - len(self.faults)
            unsaid = f"; and {rest} more" if rest else ""
            advice = "No campaign is planned; --skip-faulty (in Python skip_faulty=True) leaves such rows out"
            raise SourceFileError(source, line, f"{reason}{more}{unsaid}. {advice}")
        if not self.by_segments:
            none = f"none of {self.read} numbers can be sent to{self.first_invalid}"
            raise NoValidNumberError(none if self.read else "no numbers were given")

    def warnings(self) -> list[str]:
        """What the user should know before anything is sent."""
        found: list[str] = []
        if not self.is_signed:
            found.append("a text has no signature 【…】 at its beginning or end: carriers may refuse it")
        if len(self.by_segments) > 1:
            counts = ", ".join(
                f"{plural(numbers, 'number')} with {plural(count, 'segment')}"
                for count, numbers in sorted(self.by_segments.items())
            )
            found.append(f"some rows' texts are longer than one segment or than others: {counts}")
        if self.small_batches:
            batches = plural(self.small_batches, "batch")
            found.append(f"{batches} with fewer than {_MIN_BATCH} numbers, which some channels refuse")
        if self.faulty:
            found.append(f"{plural(self.faulty, 'row')} left out, because the text cannot be made")
        return found


@attrs.define
class _Rows:
    """The rows of a block that are still to be planned.

    Attributes:
        source: name of the table.
        block: as it was read.
        numbers: normalised.
        places: where each of them is in the block.
        messages: of each; empty if all get the same.
    """

    source: str
    block: NumberBlock
    numbers: Sequence[str] = attrs.field(repr=repr_count)
    places: Sequence[int] = attrs.field(repr=repr_count)
    messages: Sequence[RowMessage] = attrs.field(default=(), repr=repr_count)

    def exclude(
        self, wanted: Sequence[bool], reason: ExclusionReason, details: Mapping[int, str] | None = None
    ) -> list[ExcludedNumber]:
        """Keep the wanted rows, and return the others.

        Args:
            wanted: for each row whether to keep it.
            reason: why the others are excluded.
            details: what is wrong with them, by place.
        """
        excluded = [
            ExcludedNumber(
                str(self.block.numbers[place]),
                reason=reason,
                detail="" if details is None else details[place],
                source=self.source,
                line=self.block.lines[place],
            )
            for place in compress(self.places, map(not_, wanted))
        ]
        self.numbers = list(compress(self.numbers, wanted))
        self.places = list(compress(self.places, wanted))
        self.messages = list(compress(self.messages, wanted))
        return excluded


class Planner:
    """Reads sources once, and adds batches and excluded numbers to a plan.

    Args:
        rules: how rows become messages.
        number_pattern: see `Campaigns.plan`.
        suppressed: the lists of numbers to leave out.
        batch_size, skip_faulty, on_progress: see `Campaigns.plan`.

    Attributes:
        grouping: cuts the batches.
        findings: what was found.

    Raises:
        InvalidConfigurationError: the batch size or the pattern cannot be used.
    """

    def __init__(
        self,
        rules: MessageRules,
        *,
        number_pattern: str,
        suppressed: Sequence[Container[str]],
        batch_size: int,
        skip_faulty: bool,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        if not 1 <= batch_size <= MAX_NUMBERS:
            raise InvalidConfigurationError(f"batch_size is {batch_size}: a request carries 1 to {MAX_NUMBERS} numbers")
        self._rules = rules
        self._message = functools.lru_cache(KNOWN_ROWS)(self._new_message)
        self._pattern = NumberFilter(number_pattern).pattern  # checks it
        self._suppressed = suppressed
        self._skip_faulty = skip_faulty
        self._on_progress = on_progress
        self._seen = Deduplicator(number_pattern)
        self._batches: list[PlannedBatch] = []
        self._excluded: list[ExcludedNumber] = []
        self.grouping = Grouping(batch_size)
        self.findings = PlanFindings()

    async def read(
        self,
        sources: Sequence[RowSource],
        add: Callable[[Sequence[PlannedBatch], Sequence[ExcludedNumber]], Awaitable[None]],
    ) -> None:
        """Read all sources to their end, and add all batches.

        Raises:
            InvalidRequestError: the sources cannot be planned; see `Campaigns.plan`.
        """
        for position, source in enumerate(sources, 1):
            table = await open_table(source, wanted=self._rules.columns, name=f"source {position}")
            try:
                while (block := await table.read()) is not None:
                    if not self._rules.literal:
                        self._rules.template.check(table.header)
                    self._take(block, table.name)
                    if self.grouping.crowded:
                        await in_a_thread(self.grouping.spill)
                    await self._store(add)
                    if self._on_progress is not None:
                        self._on_progress(self.findings.read)
            finally:
                await table.aclose()
        self.findings.refuse(skip_faulty=self._skip_faulty)
        rest = self.grouping.rest()
        while batches := await in_a_thread(lambda: list(islice(rest, _ADD_BATCHES))):
            self._put(batches)
            await self._store(add)
        await add(self._batches, self._excluded)

    async def _store(self, add: Callable[[Sequence[PlannedBatch], Sequence[ExcludedNumber]], Awaitable[None]]) -> None:
        """Add what has been collected, if it is enough for a transaction."""
        numbers = sum(len(batch.numbers) for batch in self._batches)
        if len(self._batches) >= _ADD_BATCHES or numbers >= _ADD_NUMBERS or len(self._excluded) >= _ADD_EXCLUDED:
            await add(self._batches, self._excluded)
            self._batches, self._excluded = [], []

    def _put(self, batches: Sequence[PlannedBatch]) -> None:
        self._batches += batches
        self.findings.small_batches += sum(len(batch.numbers) < _MIN_BATCH for batch in batches)

    # --- one block ----------------------------------------------------------------------------------------------

    def _take(self, block: NumberBlock, source: str) -> None:
        self.findings.read += len(block.numbers)
        rows = self._clean(block, source)
        if block.rows:
            self._make_messages(rows)
        fresh = self._seen.new(rows.numbers)
        if len(fresh) < len(rows.numbers):
            self._excluded += rows.exclude(_first(rows.numbers, fresh), ExclusionReason.DUPLICATE)
        for suppressed in self._suppressed:
            if (wanted := allowed(rows.numbers, suppressed, self._pattern)) is not None:
                self._excluded += rows.exclude(wanted, ExclusionReason.SUPPRESSED)
        self._group(rows)

    def _clean(self, block: NumberBlock, source: str) -> _Rows:
        """The rows with a valid number."""
        given = block.numbers
        number_filter = NumberFilter(self._pattern, keep_invalid=False)
        numbers = number_filter.filter(given)
        if not number_filter.invalid_count:
            return _Rows(source, block, numbers, range(len(given)))
        clean: list[str] = []
        reasons: dict[int, str] = {}
        for place, raw in enumerate(given):
            try:
                clean.append(normalize(restore_digits(raw), pattern=self._pattern))
            except InvalidNumberError as error:
                reasons[place] = error.reason
                clean.append("")
        if reasons and not self.findings.first_invalid:
            place, reason = next(iter(reasons.items()))
            self.findings.first_invalid = f"; the first of them, {source}, line {block.lines[place]}: {reason}"
        rows = _Rows(source, block, clean, range(len(given)))
        self._excluded += rows.exclude([bool(number) for number in clean], ExclusionReason.INVALID, reasons)
        return rows

    def _make_messages(self, rows: _Rows) -> None:
        values = rows.block.rows
        message = self._message
        rows.messages = [message(tuple(values[place])) for place in rows.places]
        faults = {place: one.fault for place, one in zip(rows.places, rows.messages, strict=True) if one.fault}
        if faults:
            self.findings.add_faults(rows.source, rows.block.lines, faults)
            self._excluded += rows.exclude([not one.fault for one in rows.messages], ExclusionReason.INVALID, faults)

    def _new_message(self, values: tuple[str, ...]) -> RowMessage:
        made = self._rules.message(values)
        if made.message is not None:
            self.findings.is_signed = self.findings.is_signed and _is_signed(made.message.text)
        return made

    def _group(self, rows: _Rows) -> None:
        if rows.messages:
            groups: dict[RowMessage, list[str]] = {}
            for number, made in zip(rows.numbers, rows.messages, strict=True):
                groups.setdefault(made, []).append(number)
            for made, numbers in groups.items():
                self._add(made, numbers)
        elif rows.numbers:
            self._add(self._message(()), rows.numbers)

    def _add(self, made: RowMessage, numbers: Sequence[str]) -> None:
        self.findings.by_segments[made.segments] += len(numbers)
        # Rows without a message have been excluded.
        self._put(self.grouping.add(cast("Message", made.message), made.segments, numbers))


def _is_signed(text: str) -> bool:
    """Whether a text has its signature where carriers look for it: at the beginning or at the end."""
    text = text.strip()
    return (text.startswith("【") and "】" in text) or (text.endswith("】") and "【" in text)


def _first(numbers: Sequence[str], fresh: Sequence[str]) -> list[bool]:
    """Which of the numbers are the fresh ones, a subsequence of them in which each is at its first place."""
    left = iter(fresh)
    following = next(left, None)
    wanted: list[bool] = []
    for number in numbers:
        wanted.append(number == following)
        if number == following:
            following = next(left, None)
    return wanted
