"""The gateway's own codec, against bytes written by hand and against the standard library."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxt_async.simulator import codec

gbk_texts = st.text(st.characters(codec="gbk"), max_size=80)


def test_a_form_is_split_before_it_is_decoded():
    """An escaped ``&`` or ``=`` in a value does not split it (PROTOCOL 4.1)."""
    fields = codec.parse_form(b"user=a%26b%3Dc&msg=1%2b1=2&tele=1")
    assert codec.decode_text(fields["user"]) == "a&b=c"
    assert codec.decode_text(fields["msg"]) == "1+1=2"


def test_field_names_come_in_any_case_and_the_first_counts():
    """``USER`` is ``user``; of a repeated field the first value is used; a bare name is no field."""
    assert codec.parse_form(b"USER=one&user=two&%55ser=three&bare&&Msg=") == {"user": b"one", "msg": b""}


def test_golden_text():
    """The bytes of a GBK text, by hand: 你好 is C4 E3 BA C3, ``+`` is a space."""
    assert codec.decode_text(b"%C4%E3%ba%c3+a%20b") == "你好 a b"
    assert codec.decode_text("你好".encode("gbk")) == "你好"


@pytest.mark.parametrize("raw", [b"%FF", b"%C4", b"%E4%BD%A0%E5%A5%BD%E3"])
def test_what_is_not_gbk_is_not_guessed(raw):
    """Bytes that are no GBK are an error, not replacement characters."""
    with pytest.raises(UnicodeDecodeError):
        codec.decode_text(raw)


@pytest.mark.parametrize("raw", [b"1,2", b"1%2C2", b"1%2c2", b"%31,2"])
def test_commas_between_numbers_may_be_escaped(raw):
    """``%2C`` and ``,`` are the same."""
    assert codec.split_numbers(raw) == b"1,2"


def test_a_plus_in_the_numbers_is_a_space():
    """``+86…`` unescaped arrives as a space, as at every form decoder."""
    assert codec.split_numbers(b"+8613800138000") == b" 8613800138000"


def test_golden_push():
    """The bytes of a push, by hand."""
    assert codec.encode_form([("msg", "你 好,&"), ("city", "")]) == "msg=%C4%E3+%BA%C3%2C%26&city="


def test_what_a_push_cannot_carry_is_a_question_mark():
    """A phone's emoji becomes ``?``."""
    assert codec.encode_form([("msg", "a😀")]) == "msg=a%3F"


@given(gbk_texts)
def test_decoding_agrees_with_urllib(text):
    """What the standard library escapes is read back the same."""
    raw = ("msg=" + quote_plus(text, encoding="gbk")).encode("ascii")
    assert codec.decode_text(codec.parse_form(raw)["msg"]) == text


@given(st.lists(st.tuples(st.sampled_from(["mid", "msg", "area"]), gbk_texts), min_size=1, max_size=4))
def test_encoding_agrees_with_urllib(fields):
    """The standard library reads what is written here the same."""
    assert parse_qsl(codec.encode_form(fields), keep_blank_values=True, encoding="gbk", errors="strict") == fields


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form(raw):
    """Whatever arrives is split without an error."""
    codec.parse_form(raw)


@pytest.mark.parametrize(
    ("length", "numbered", "segments"),
    [
        (1, False, 1),
        (70, False, 1),
        (71, False, 2),
        (134, False, 2),
        (135, False, 3),
        (70, True, 1),
        (71, True, 2),
        (132, True, 2),
        (133, True, 3),
        (66 * 9, True, 9),
        (66 * 9 + 1, True, 10),
        (65 * 9 + 64, True, 10),
        (65 * 9 + 65, True, 11),
    ],
)
def test_segments(length, numbered, segments):
    """70 in one, parts of 67; with numbered parts 70 less the ``1/3)`` of each (PROTOCOL 5)."""
    assert codec.segment_count("字" * length, numbered=numbered) == segments
