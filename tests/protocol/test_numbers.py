"""Phone numbers: normalised, validated, masked, and only once."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qxt_async.errors import InvalidConfigurationError, InvalidNumberError
from qxt_async.models import InvalidNumber
from qxt_async.protocol import numbers as phones
from qxt_async.protocol.numbers import (
    MOBILE_PATTERN,
    Deduplicator,
    NumberFilter,
    all_mobile,
    allowed,
    canonical,
    deduplicate,
    mask,
    normalize,
)

NUMBER = st.integers(13_000_000_000, 19_999_999_999).map(str)
ANY_FORM = r"(00)?(86)?0?1[3-9][0-9]{9}|[0-9]{5,15}"
FULL_WIDTH = {ord("0") + digit: chr(ord("０") + digit) for digit in range(10)} | {ord("+"): "＋"}


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str]:
    """A mainland mobile number, and a form in which somebody may write it."""
    number = draw(NUMBER)
    raw = draw(st.sampled_from(["", "+86", "0086", "86", "0", "860", "+860"])) + number
    for place in draw(st.lists(st.integers(0, len(raw)), max_size=4)):
        raw = raw[:place] + draw(st.sampled_from([" ", "-", "－", "\u00a0", "\u200b", "\u3000"])) + raw[place:]
    return number, raw.translate(FULL_WIDTH) if draw(st.booleans()) else raw


@pytest.mark.parametrize(
    "raw",
    [
        "13800138000",
        "+8613800138000",
        "008613800138000",
        "8613800138000",
        "+86 138 0013 8000",
        "138-0013-8000",
        "１３８００１３８０００",
        "＋８６１３８００１３８０００",
        "138\u00a00013\u30008000\u200b",
        "\ufeff13800138000\r\n",
        "138－0013—8000",
        "\t138 00138 000 ",
    ],
)
def test_normalize(raw: str) -> None:
    """What people write is brought into the form that goes on the wire."""
    assert normalize(raw) == "13800138000"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "it is empty"),
        (" \t", "it is empty"),
        ("1380013800", "it has 10 digits"),
        ("138001380001", "it has 12 digits"),
        ("+861380013800", "it has 10 digits"),
        ("86861380013800", "it has 12 digits"),
        ("12800138000", "begin with 13 to 19"),
        ("8612800138000", "begin with 13 to 19"),
        ("23800138000", "begin with 13 to 19"),
        ("13800138000,13900139000", "several numbers in one string"),
        ("13800138000，13900139000", "several numbers in one string"),
        ("138.0013.8000", "unexpected character '.' at position 3"),
        ("1380013800O", "unexpected character 'O' at position 10"),
        ("1380013800٣", "unexpected character '٣' at position 10"),
        ("N/A", "unexpected character 'N' at position 0"),
        ("+1 13800138000", "it has 13 digits"),
    ],
)
def test_normalize_says_what_is_wrong(raw: str, reason: str) -> None:
    """A number that is none is refused with the reason, and is shown masked at most."""
    with pytest.raises(InvalidNumberError) as caught:
        normalize(raw)
    assert reason in caught.value.reason
    assert caught.value.masked_number == mask(raw)
    assert not re.search(r"\d{8}", str(caught.value))


def test_normalize_takes_text_only() -> None:
    """A number given as an integer is refused, since its kind of mistake loses zeros and signs."""
    with pytest.raises(InvalidNumberError, match="it is int, not str"):
        normalize(13800138000)  # type: ignore[arg-type]


def test_normalize_with_a_pattern_of_the_callers() -> None:
    """Another pattern takes other numbers, country code or not, and names itself in the refusal."""
    pattern = r"852[0-9]{8}|[569][0-9]{7}"
    assert normalize("852 9123 4567", pattern=pattern) == "85291234567"
    assert normalize("+86 91234567", pattern=pattern) == "91234567"
    with pytest.raises(InvalidNumberError, match="does not match the pattern"):
        normalize("13800138000", pattern=pattern)


@given(st.one_of(NUMBER, st.text(max_size=16), st.text("0123456789+-８１３ ", max_size=16)))
def test_normalize_is_idempotent(raw: str) -> None:
    """What is normalised stays as it is, and matches."""
    try:
        number = normalize(raw)
    except InvalidNumberError:
        return
    assert re.fullmatch(MOBILE_PATTERN, number)
    assert normalize(number) == number


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("13800138000", "138****8000"),
        ("+8613800138000", "+86****8000"),
        ("1380013", "13****13"),
        ("13800", "1****"),
        ("", ""),
    ],
)
def test_mask(number: str, shown: str) -> None:
    """A masked number shows who it may be to one who knows, and to nobody else."""
    assert mask(number) == shown


def test_unique() -> None:
    """The first number of each phone stays where it was, in its form."""
    assert deduplicate(["2", "1", "2", "3", "1"]) == ["2", "1", "3"]
    assert deduplicate(["+86 13800138000", "13800138000", "13800138001"]) == ["+86 13800138000", "13800138001"]


# --- the same phone --------------------------------------------------------------------------------------------------


@given(written())
def test_every_form_of_a_mobile_number_is_one_phone(form: tuple[str, str]) -> None:
    """With country code, trunk zero, separators and full-width digits it is the same 11 digits."""
    number, raw = form
    assert canonical(raw) == number


@given(written(), st.sampled_from([MOBILE_PATTERN, ANY_FORM]))
def test_what_goes_on_the_wire_is_the_phone_that_was_given(form: tuple[str, str], pattern: str) -> None:
    """Normalising with whatever pattern changes the form of a number, and never the phone."""
    number, raw = form
    try:
        sent = normalize(raw, pattern=pattern)
    except InvalidNumberError:
        return
    assert canonical(sent) == number


@given(st.one_of(st.text(max_size=16), st.text("0123456789+-８１３ ", max_size=16), NUMBER))
def test_canonical_is_idempotent_and_refuses_nothing(raw: str) -> None:
    """The canonical form of a canonical form is itself, whatever the text was."""
    assert canonical(canonical(raw)) == canonical(raw)


@given(st.integers(10**4, 10**15).map(str), st.integers(10**4, 10**15).map(str))
def test_other_numbers_are_never_one_phone(one: str, other: str) -> None:
    """Two numbers are one phone only if both are mobile numbers that end in the same 11 digits."""
    if one != other and canonical(one) == canonical(other):
        assert one[-11:] == other[-11:]
        assert re.fullmatch(MOBILE_PATTERN, canonical(one))


@pytest.mark.parametrize(
    ("raw", "phone"),
    [
        ("+852 9123 4567", "+85291234567"),  # another country's
        ("85291234567", "85291234567"),
        ("+1 305 123 4567", "+13051234567"),  # 11 digits that would be a mainland number without the sign
        ("001 305 123 4567", "0013051234567"),
        ("8612345", "8612345"),
        ("861380013800", "861380013800"),  # a digit is missing
        ("010-12345678", "01012345678"),
        ("  not a number ", "not a number"),
        ("-", "-"),
        ("", ""),
    ],
)
def test_canonical_guesses_nothing(raw: str, phone: str) -> None:
    """Foreign numbers keep what they begin with, and what is no number stays as it is."""
    assert canonical(raw) == phone


# --- the check of a whole chunk -------------------------------------------------------------------------------------

NEAR_MISS = st.one_of(
    NUMBER,
    st.integers(10**9, 10**12).map(str),
    NUMBER.map("{}\n".format),
    st.text("0123456789,０１３8٣१", min_size=10, max_size=12),
    st.builds(lambda n, i, c: n[:i] + c + n[i + 1 :], NUMBER, st.integers(0, 10), st.characters()),
    st.builds(lambda a, b: f"{a},{b}", NUMBER, NUMBER),
    st.text(max_size=13),
)


@given(st.lists(NEAR_MISS, min_size=1, max_size=5))
@example(["13800138000,13800138001", "13800138002"])
@example(["1380013800,", "13800138000"])
@example(["138001380001", "3800138000"])
@example(["1380013800", "113800138000"])
@example(["13800138000", ""])
@example(["1380013800０"])
@example(["13800138000\n"])
def test_the_check_of_a_chunk_agrees_with_the_pattern(numbers: list[str]) -> None:
    """The check of a whole chunk as bytes says what the regular expression says of every number."""
    assert all_mobile(numbers) is all(re.fullmatch(MOBILE_PATTERN, number) for number in numbers)


@given(st.lists(NUMBER, min_size=1, max_size=30))
def test_the_check_of_a_chunk_takes_what_is_clean(numbers: list[str]) -> None:
    """A clean chunk of any size passes."""
    assert all_mobile(numbers)


@pytest.mark.parametrize("odd", [None, 13800138000, b"13800138000"])
def test_the_check_of_a_chunk_meets_what_is_no_text(odd: object) -> None:
    """What is not text fails the check instead of raising."""
    assert not all_mobile(["13800138000", odd])  # type: ignore[list-item]


# --- numbers met before ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["compact", "plain"])
def compact(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the extra `compact` and without it."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "pyroaring", None)
        return False
    pytest.importorskip("pyroaring")
    return True


def test_the_extra_is_used_where_it_is_installed(compact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many mobile numbers are remembered in a bitmap if there is one, else and if they are few in a set."""
    monkeypatch.setattr(phones, "MAX_IN_SET", 2)
    seen = Deduplicator()
    seen.new(["13800138000", "13800138001"])
    assert isinstance(seen._keys, set)
    seen.new(["13800138000", "13800138002"])
    assert (type(seen._keys).__name__ == "BitMap64") is compact
    assert list(seen.new(["13800138002", "13800138003", "13800138000"])) == ["13800138003"]


def _agrees(pattern: str, chunks: list[list[str]]) -> None:
    seen = Deduplicator(pattern)
    fresh = [number for chunk in chunks for number in seen.new(chunk)]
    every = list(dict.fromkeys(number for chunk in chunks for number in chunk))
    assert fresh == every
    assert len(seen) == len(every)


FEW = st.sampled_from([f"1380013800{n}" for n in range(10)] + ["19999999999", "13000000000"])


@pytest.mark.parametrize("in_set", [0, 3, 100_000])
@given(chunks=st.lists(st.lists(FEW, max_size=6), max_size=6))
def test_seen_numbers_with_whatever_is_installed(in_set: int, chunks: list[list[str]]) -> None:
    """In any cut into chunks, and in whatever they are remembered, exactly the first of each number is new."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phones, "MAX_IN_SET", in_set)
        _agrees(MOBILE_PATTERN, chunks)


def test_seen_numbers_with_and_without_the_extra(compact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bitmap and the set say the same."""
    monkeypatch.setattr(phones, "MAX_IN_SET", 0)
    _agrees(MOBILE_PATTERN, [["13800138000", "13800138001"], [], ["13800138001", "13800138002", "13800138002"]])
    _agrees(MOBILE_PATTERN, [[f"138{n % 700:08d}" for n in range(1000)], [f"138{n:08d}" for n in range(2000)]])


def test_seen_numbers_of_another_pattern() -> None:
    """Numbers that no 64-bit integer can stand for, or that differ in leading zeros, are kept apart."""
    _agrees(r"\d+", [["007", "07", "7"], ["9" * 30, "007", "9" * 30]])


def test_one_phone_in_several_forms_is_met_once() -> None:
    """Whatever forms a pattern admits, only the first number of a phone is new."""
    seen = Deduplicator(ANY_FORM)
    assert list(seen.new(["8613800138000", "13800138000", "13800138001"])) == ["8613800138000", "13800138001"]
    assert list(seen.new(["008613800138000", "8613800138001", "85291234567"])) == ["85291234567"]
    assert len(seen) == 3


# --- the gate ------------------------------------------------------------------------------


def test_the_gate_counts_what_it_leaves_out() -> None:
    """Invalid, repeated and suppressed numbers are left out, counted, and the invalid ones kept with their place."""
    gate = NumberFilter(seen=Deduplicator(), suppressed={"13800138003"})

    first = gate.filter(["13800138000", "nobody", "+8613800138000", "13800138001"])
    second = gate.filter(["13800138001", "13800138002", "13800138003", ""])

    assert list(first) == ["13800138000", "13800138001"]
    assert list(second) == ["13800138002"]
    assert gate.read == 8
    assert (gate.duplicates, gate.suppressed_count, gate.invalid_count) == (2, 1, 2)
    assert gate.invalid == [
        InvalidNumber(1, "nobody", reason="unexpected character 'n' at position 0"),
        InvalidNumber(7, "", reason="it is empty"),
    ]


def test_the_gate_lets_a_clean_chunk_pass_untouched() -> None:
    """A chunk in which nothing is to be done is handed on as it is, not copied."""
    chunk = ["13800138000", "13800138001"]
    assert NumberFilter(seen=Deduplicator(), suppressed=frozenset({"13900139000"})).filter(chunk) is chunk
    assert NumberFilter().filter([]) == []


def test_the_gate_may_only_count_the_invalid() -> None:
    """With `keep_invalid` off, what is invalid takes no memory."""
    gate = NumberFilter(keep_invalid=False)
    assert gate.filter(["x"] * 3) == []
    assert (gate.invalid, gate.invalid_count) == ([], 3)


def test_the_gate_without_a_memory() -> None:
    """Without `seen`, repeated numbers pass."""
    assert NumberFilter().filter(["13800138000", "13800138000"]) == ["13800138000", "13800138000"]


@pytest.mark.parametrize("kind", [set, frozenset, list, tuple, dict.fromkeys])
def test_the_gate_takes_any_container_of_suppressed_numbers(kind: type) -> None:
    """A set is asked once for a chunk, any other container for each number."""
    gate = NumberFilter(suppressed=kind(["13800138001"]))
    assert gate.filter(["13800138000", "13800138001"]) == ["13800138000"]
    assert gate.suppressed_count == 1


@pytest.mark.parametrize("kind", [frozenset, list])
@pytest.mark.parametrize("listed", ["13800138001", "8613800138001"])
def test_the_gate_knows_a_suppressed_phone_in_any_form(kind: type, listed: str) -> None:
    """With a pattern that admits several forms the canonical form suppresses each, and a form suppresses itself."""
    gate = NumberFilter(ANY_FORM, suppressed=kind([listed]))
    assert gate.filter(["8613800138000", "8613800138001", "85291234567"]) == ["8613800138000", "85291234567"]
    assert gate.suppressed_count == 1


def test_what_is_allowed() -> None:
    """Nothing is worked out where nothing is suppressed."""
    numbers = ["8613800138000", "13800138001"]
    assert allowed(numbers, (), ANY_FORM) is None
    assert allowed(numbers, frozenset({"13800138002"}), ANY_FORM) is None
    assert allowed(numbers, ["13800138002"]) is None
    assert allowed(numbers, {"13800138000"}, ANY_FORM) == [False, True]


def test_the_gate_reports_what_is_no_text() -> None:
    """Something that is not text is one invalid number, wherever it comes from."""
    gate = NumberFilter()
    assert gate.filter(["13800138000", 13800138001]) == ["13800138000"]  # type: ignore[list-item]
    assert gate.invalid == [InvalidNumber(1, "13800138001", reason="it is int, not str: pass numbers as text")]


def test_the_gates_pattern_has_to_be_one() -> None:
    """A pattern that is no regular expression is refused at once."""
    with pytest.raises(InvalidConfigurationError, match="number_pattern is not a regular expression"):
        NumberFilter("1[3-")


def test_the_gates_repr_shows_no_number() -> None:
    """The gate can be logged: neither suppressed nor met nor invalid numbers are in its repr."""
    gate = NumberFilter(seen=Deduplicator(), suppressed={"13800138003"})
    gate.filter(["13800138000", "1380013800x"])
    assert "1380013" not in repr(gate)
