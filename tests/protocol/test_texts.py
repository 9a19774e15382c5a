"""Texts: what GBK carries, how many segments are billed, extension numbers."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxt_async.errors import InvalidConfigurationError, InvalidExtnoError, InvalidTextError
from qxt_async.protocol.texts import (
    SUBSTITUTIONS,
    BadCharacter,
    bad_characters,
    check_extno,
    encode,
    segments,
    substitute,
)


def _in_gbk(character: str) -> bool:
    try:
        character.encode("gbk")
    except UnicodeEncodeError:
        return False
    return True


def test_encode_takes_what_the_codec_takes_without_controls() -> None:
    """Of every character of the basic plane, exactly those of GBK pass that do not control anything."""
    allowed = {"\n", "\r", "\t"}
    wrong = []
    for code in range(0x10000):
        character = chr(code)
        controls = unicodedata.category(character) == "Cc" and character not in allowed
        try:
            # Beside a letter, since a text of only white space is empty.
            accepted = encode(f"x{character}") == b"x" + character.encode("gbk")
        except InvalidTextError:
            accepted = False
        if accepted != (_in_gbk(character) and not controls):
            wrong.append(f"U+{code:04X}")
    assert wrong == []


@pytest.mark.parametrize("text", ["", " ", "\u3000\n\t"])
def test_an_empty_text_is_refused(text: str) -> None:
    """A text of nothing or of white space is refused."""
    with pytest.raises(InvalidTextError, match="the text is empty") as caught:
        encode(text)
    assert caught.value.characters == ()


def test_a_text_is_text() -> None:
    """Bytes are refused: nobody knows their charset."""
    with pytest.raises(InvalidTextError, match="the text is bytes, not str"):
        encode(b"x")  # type: ignore[arg-type]


def test_every_bad_character_is_named_with_its_place() -> None:
    """The error names each character outside GBK, its line and its column, and offers what helps."""
    with pytest.raises(InvalidTextError) as caught:
        encode("【Acme】5€\n今天•😀")
    assert caught.value.characters == (
        BadCharacter("€", 7, line=1, column=8, substitute="EUR"),
        BadCharacter("•", 11, line=2, column=3, substitute="·"),
        BadCharacter("😀", 12, line=2, column=4, substitute=None),
    )
    assert "U+20AC EURO SIGN at line 1, column 8" in str(caught.value)
    assert "U+1F600 GRINNING FACE at line 2, column 4" in str(caught.value)
    assert "Acme" not in str(caught.value)
    assert "substitute" not in str(caught.value)


def test_a_text_that_substitution_would_save() -> None:
    """Where the table knows every bad character, the error says how to use it."""
    with pytest.raises(InvalidTextError, match=r"substitute=True"):
        encode("5€")


def test_many_bad_characters_are_counted() -> None:
    """The message names five, the attribute has all."""
    with pytest.raises(InvalidTextError, match="and 7 more") as caught:
        encode("😀" * 12)
    assert len(caught.value.characters) == 12


def test_control_characters_are_bad() -> None:
    """A null byte or an escape would be carried by GBK, and is refused all the same; it has no Unicode name."""
    (bad,) = bad_characters("a\x00b\n")
    assert (bad.name, bad.position) == ("U+0000 control character", 1)
    assert bad_characters("a\r\n\tb") == ()


def test_the_table_holds_only_what_is_needed() -> None:
    """Every key is outside GBK, and every value can be sent."""
    assert [f"U+{ord(key):04X}" for key in SUBSTITUTIONS if _in_gbk(key)] == []
    assert [value for value in SUBSTITUTIONS.values() if bad_characters(value)] == []


def test_substitute() -> None:
    """The usual characters are replaced, what GBK has stays, and what the table does not know stays to be refused."""
    assert substitute("5€\u00a0• a—b…·\u200b") == "5EUR · a—b…·"
    assert substitute("😀") == "😀"


@given(st.text(max_size=30))
def test_substitute_only_touches_the_table(text: str) -> None:
    """A text without the table's characters stays as it is, and one with them can be sent afterwards."""
    substituted = substitute(text)
    if not set(text) & set(SUBSTITUTIONS):
        assert substituted == text
    assert {bad.character for bad in bad_characters(substituted)} == {
        bad.character for bad in bad_characters(text) if bad.substitute is None
    }


# --- segments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "billed"), [(0, 0), (1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4), (670, 10)]
)
def test_segments(length: int, billed: int) -> None:
    """A text of 70 characters is one message, a longer one is billed in parts of 67."""
    assert segments("字" * length) == billed


def test_segments_count_what_carriers_count() -> None:
    """A character beyond the basic plane counts twice, a Latin letter as much as a Chinese one."""
    assert segments("a" * 70) == 1
    assert segments("😀" * 35) == 1
    assert segments("😀" * 36) == 2
    assert segments("\ud800" * 71) == 2


def _cut_by_hand(length: int, single: int) -> int | None:
    """How many parts a text needs if each begins with its ``1/3)``, by cutting it."""
    if length <= single:
        return 1
    for count in range(2, 200):
        left = length
        for index in range(1, count + 1):
            room = single - len(f"{index}/{count})")
            if room <= 0:
                return None
            left -= min(room, left)
        if not left:
            return count
    return None


@pytest.mark.parametrize(("single", "longest"), [(70, 900), (20, 250), (8, 250)])
def test_segments_with_addseqno(single: int, longest: int) -> None:
    """With `addseqno` every part has room for its prefix, as cutting by hand shows, at each length."""
    for length in range(1, longest):
        by_hand = _cut_by_hand(length, single)
        if by_hand is not None:
            assert segments("字" * length, addseqno=True, single=single) == by_hand, length
        else:
            with pytest.raises(InvalidConfigurationError):
                segments("字" * length, addseqno=True, single=single)


@pytest.mark.parametrize(
    "options", [{"single": 0}, {"part": 0}, {"single": 4, "addseqno": True}, {"single": -1, "addseqno": True}]
)
def test_segments_need_room(options: dict[str, int]) -> None:
    """ReportStatistics that leave no room for a text are refused, not counted for ever."""
    with pytest.raises(InvalidConfigurationError, match="no room"):
        segments("字" * 100, **options)  # type: ignore[arg-type]


# --- extension numbers ----------------------------------------------------------------------


@pytest.mark.parametrize(("extno", "channel"), [("0", 0), ("007", 0), ("1" * 20, 0), ("1" * 14, 6)])
def test_extension_numbers(extno: str, channel: int) -> None:
    """Digits pass, leading zeros too, up to 20 with the channel's own."""
    assert check_extno(extno, channel_digits=channel) == extno


@pytest.mark.parametrize(
    ("extno", "channel", "complaint"),
    [
        ("", 0, "ASCII digits"),
        ("12a", 0, "ASCII digits"),
        ("１２", 0, "ASCII digits"),
        (" 1", 0, "ASCII digits"),
        ("²", 0, "ASCII digits"),
        ("1" * 21, 0, "has 21 digits: at most 20"),
        ("1" * 15, 6, "has 15 digits with the channel's 6: at most 20"),
        (12, 0, "is int, not str"),
    ],
)
def test_extension_numbers_against_the_rules(extno: str, channel: int, complaint: str) -> None:
    """What the gateway would refuse is refused before any I/O, with the reason."""
    with pytest.raises(InvalidExtnoError, match=complaint):
        check_extno(extno, channel_digits=channel)
