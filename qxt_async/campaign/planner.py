"""Rows to batches: what a plan does with each block of its sources."""

from __future__ import annotations

import functools
from collections import Counter
from itertools import compress, islice
from operator import not_
from typing import TYPE_CHECKING, Final, cast

import attrs

from qxt_async.campaign.grouping import Grouping
from qxt_async.errors import InvalidExtnoError, InvalidNumberError, NoValidNumberError, SourceFileError
from qxt_async.files.spreadsheets import restore_digits
from qxt_async.files.tables import open_table
from qxt_async.journal.records import ExcludedNumber, ExclusionReason
from qxt_async.models import Message
from qxt_async.protocol.numbers import Deduplicator, NumberFilter, allowed, normalize
from qxt_async.protocol.texts import check_extno, segments, substitute
from qxt_async.runtime.tasks import in_a_thread
from qxt_async.runtime.words import plural

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping, Sequence

    from qxt_async.files import NumberBlock, RowSource, Template
    from qxt_async.journal.records import PlannedBatch

__all__ = ["Planner", "Rules"]

_KNOWN_ROWS: Final = 20_000  # rows' values whose message is remembered; most templates have few results
_ADD_BATCHES: Final = 1_000  # in one transaction, about 50 ms
_ADD_NUMBERS: Final = 100_000
_ADD_LEFT_OUT: Final = 5_000
_MIN_BATCH: Final = 10  # PROTOCOL 1.4: what marketing channels ask for
_SHOWN_FAULTS: Final = 20


@attrs.frozen(kw_only=True)
class Rules:
    """How rows become messages."""

    template: Template
    literal: bool
    extno: str | None
    per_row_extno: bool
    addseqno: bool
    substitute: bool
    channel_digits: int

    def message(self, values: tuple[str, ...]) -> tuple[Message, int] | str:
        """The message of a row with its segments, or what is wrong with the row."""
        extno = self.extno
        if self.per_row_extno:
            values, own = values[:-1], values[-1].strip()
            extno = own or extno
        if self.substitute:
            values = tuple(map(substitute, values))
        if (fault := self.template.fault(values)) is not None:
            return fault
        try:
            if extno is not None:
                check_extno(extno, channel_digits=self.channel_digits)
        except InvalidExtnoError as error:
            return str(error)
        text = self.template.render(values)
        if self.substitute:
            text = substitute(text)
        return Message(text, extno=extno, addseqno=self.addseqno), segments(text, addseqno=self.addseqno)


def _signed(text: str) -> bool:
    """Whether a text has its signature where carriers look for it: at the beginning or at the end."""
    text = text.strip()
    return (text.startswith("【") and "】" in text) or (text.endswith("】") and "【" in text)


class Planner:
    """Takes blocks of rows, and adds batches and what it leaves out to the plan."""

    def __init__(
        self,
        add: Callable[[Sequence[PlannedBatch], Sequence[ExcludedNumber]], Awaitable[None]],
        rules: Rules,
        *,
        number_pattern: str,
        suppressed: tuple[Container[str], ...],
        batch_size: int,
        skip_faulty: bool,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._add = add
        self._rules = rules
        self._message = functools.lru_cache(_KNOWN_ROWS)(self._new_message)
        self._pattern = number_pattern
        self._suppressed = suppressed
        self._skip_faulty = skip_faulty
        self._on_progress = on_progress
        self._seen = Deduplicator(number_pattern)
        self._batches: list[PlannedBatch] = []
        self._batched = 0
        self._left_out: list[ExcludedNumber] = []
        self._faults: list[tuple[str, int, str]] = []
        self._example = ""
        self._read = 0
        self._small = 0
        self._unsigned = False
        self.grouping = Grouping(batch_size)
        self.by_segments: Counter[int] = Counter()
        self.faulty = 0

    @property
    def credits(self) -> int:
        """Messages that will be billed."""
        return sum(count * numbers for count, numbers in self.by_segments.items())

    async def read(self, sources: Sequence[RowSource], extno_column: str | None) -> None:
        """Read all sources to their end, and add all batches."""
        wanted = self._rules.template.columns + ((extno_column,) if extno_column is not None else ())
        for position, source in enumerate(sources, 1):
            table = await open_table(source, wanted=wanted, name=f"source {position}")
            try:
                while (block := await table.read()) is not None:
                    if not self._rules.literal:
                        self._rules.template.check(table.header)
                    self._take(block, table.name)
                    await self._store()
                    if self._on_progress is not None:
                        self._on_progress(self._read)
            finally:
                await table.aclose()
        if self._faults:
            raise self._refusal()
        if not self.by_segments:
            raise NoValidNumberError(
                f"none of {self._read} numbers can be sent to{self._example}" if self._read else "no numbers were given"
            )
        rest = self.grouping.rest()
        while batches := await in_a_thread(lambda: list(islice(rest, _ADD_BATCHES))):
            self._put(batches)
            await self._store()
        await self._store(everything=True)

    async def _store(self, *, everything: bool = False) -> None:
        if self.grouping.crowded:
            await in_a_thread(self.grouping.spill)
        full = (
            everything
            or len(self._batches) >= _ADD_BATCHES
            or self._batched >= _ADD_NUMBERS
            or len(self._left_out) >= _ADD_LEFT_OUT
        )
        if full:
            await self._add(self._batches, self._left_out)
            self._batches, self._left_out, self._batched = [], [], 0

    def _put(self, batches: Sequence[PlannedBatch]) -> None:
        self._batches += batches
        self._batched += sum(len(batch.numbers) for batch in batches)
        self._small += sum(len(batch.numbers) < _MIN_BATCH for batch in batches)

    # --- one block ----------------------------------------------------------------------------------------------

    def _take(self, block: NumberBlock, source: str) -> None:
        self._read += len(block.numbers)
        rows = self._clean(block, source)
        if block.rows:
            self._write_texts(rows, block.rows)
        fresh = self._seen.new(rows.numbers)
        if len(fresh) < len(rows.numbers):
            rows.keep(_first(rows.numbers, fresh), self._leave(rows, ExclusionReason.DUPLICATE))
        for suppressed in self._suppressed:
            if (wanted := allowed(rows.numbers, suppressed, self._pattern)) is not None:
                rows.keep(wanted, self._leave(rows, ExclusionReason.SUPPRESSED))
        self._group(rows)

    def _clean(self, block: NumberBlock, source: str) -> _Rows:
        given = block.numbers
        number_filter = NumberFilter(self._pattern, keep_invalid=False)
        numbers = number_filter.filter(given)
        rows = _Rows(source, numbers, block.lines, range(len(given)), given)
        if not number_filter.invalid_count:
            return rows
        rows.numbers = given
        clean: list[str] = []
        reasons: dict[int, str] = {}
        for place, raw in enumerate(given):
            try:
                clean.append(normalize(restore_digits(raw), pattern=self._pattern))
            except InvalidNumberError as error:
                reasons[place] = error.reason
                clean.append("")
        if reasons and not self._example:
            place, reason = next(iter(reasons.items()))
            self._example = f"; the first of them, {source}, line {block.lines[place]}: {reason}"
        rows.keep([place not in reasons for place in rows.places], self._leave(rows, ExclusionReason.INVALID, reasons))
        rows.numbers = [number for number in clean if number]
        return rows

    def _write_texts(self, rows: _Rows, values: Sequence[Sequence[str]]) -> None:
        message = self._message
        made = [message(tuple(values[place])) for place in rows.places]
        faults = {place: fault for place, fault in zip(rows.places, made, strict=True) if isinstance(fault, str)}
        rows.messages = made
        if not faults:
            return
        self.faulty += len(faults)
        if not self._skip_faulty:
            room = _SHOWN_FAULTS - len(self._faults)
            self._faults += [(rows.source, rows.lines[place], fault) for place, fault in islice(faults.items(), room)]
        rows.keep([place not in faults for place in rows.places], self._leave(rows, ExclusionReason.INVALID, faults))

    def _new_message(self, values: tuple[str, ...]) -> tuple[Message, int] | str:
        made = self._rules.message(values)
        if not isinstance(made, str):
            self._unsigned = self._unsigned or not _signed(made[0].text)
        return made

    def _group(self, rows: _Rows) -> None:
        if not rows.numbers:
            return
        if rows.messages is None:
            self._add_group(self._message(()), rows.numbers)
            return
        groups: dict[int, tuple[tuple[Message, int] | str, list[str]]] = {}
        for number, made in zip(rows.numbers, rows.messages, strict=True):
            groups.setdefault(id(made), (made, []))[1].append(number)
        for made, numbers in groups.values():
            self._add_group(made, numbers)

    def _add_group(self, made: tuple[Message, int] | str, numbers: Sequence[str]) -> None:
        message, count = cast("tuple[Message, int]", made)
        self.by_segments[count] += len(numbers)
        self._put(self.grouping.add(message, count, numbers))

    def _leave(
        self, rows: _Rows, reason: ExclusionReason, details: Mapping[int, str] | None = None
    ) -> Callable[[int], None]:
        def leave(place: int) -> None:
            detail = "" if details is None else details[place]
            raw = str(rows.given[place])
            self._left_out.append(
                ExcludedNumber(raw, reason=reason, detail=detail, source=rows.source, line=rows.lines[place])
            )

        return leave

    # --- what there is to say -----------------------------------------------------------------------------------

    def _refusal(self) -> SourceFileError:
        (source, line, reason), *others = self._faults
        more = "".join(f"; {file}, line {at}: {why}" for file, at, why in others)
        rest = self.faulty - len(self._faults)
        unsaid = f"; and {rest} more" if rest else ""
        advice = "No campaign is planned; --skip-faulty (in Python skip_faulty=True) leaves such rows out"
        return SourceFileError(source, line, f"{reason}{more}{unsaid}. {advice}")

    def warnings(self) -> list[str]:
        """What is worth saying before anything is sent."""
        said: list[str] = []
        if self._unsigned:
            said.append("a text has no signature 【…】 at its beginning or end: carriers may refuse it")
        if len(self.by_segments) > 1:
            counts = ", ".join(
                f"{plural(numbers, 'number')} with {plural(count, 'segment')}"
                for count, numbers in sorted(self.by_segments.items())
            )
            said.append(f"some rows' texts are longer than one segment or than others: {counts}")
        if self._small:
            batches = plural(self._small, "batch")
            said.append(f"{batches} with fewer than {_MIN_BATCH} numbers, which some channels refuse")
        if self.faulty:
            said.append(f"{plural(self.faulty, 'row')} left out, because the text cannot be made")
        return said


class _Rows:
    """What is left of a block.

    Attributes:
        source: name of the table.
        given: the numbers as they stand in the block.
        lines: their lines.
        numbers: those that are left, normalised.
        places: where each of them stands in the block.
        messages: the message of each with its segments; ``None`` if all get the same.
    """

    __slots__ = ("given", "lines", "messages", "numbers", "places", "source")

    def __init__(
        self, source: str, numbers: Sequence[str], lines: Sequence[int], places: Sequence[int], given: Sequence[str]
    ) -> None:
        self.source = source
        self.given = given
        self.lines = lines
        self.numbers = numbers
        self.places = places
        self.messages: Sequence[tuple[Message, int] | str] | None = None

    def keep(self, wanted: Sequence[bool], leave: Callable[[int], None]) -> None:
        """Keep some rows; `leave` is told the places of the others."""
        for place in compress(self.places, map(not_, wanted)):
            leave(place)
        self.numbers = list(compress(self.numbers, wanted))
        self.places = list(compress(self.places, wanted))
        if self.messages is not None:
            self.messages = list(compress(self.messages, wanted))


def _first(numbers: Sequence[str], fresh: Sequence[str]) -> list[bool]:
    """Which of the numbers are the fresh ones: a subsequence, of which each stands at its first place."""
    left = iter(fresh)
    following = next(left, None)
    wanted: list[bool] = []
    for number in numbers:
        wanted.append(number == following)
        if number == following:
            following = next(left, None)
    return wanted
