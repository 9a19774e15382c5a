"""Reading what the gateway pushes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qxt_async.errors import InvalidConfigurationError
from qxt_async.models import DeliveryState, Reply, StatusReport
from qxt_async.protocol.pushes import OptOut, Push, PushFlag, PushLimits, decode, parse_push

SAMPLES = Path(__file__).parents[1] / "samples" / "pushes"


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize("expected", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_samples(expected: Path) -> None:
    """Each push written down by hand is read as the protocol says."""
    sample = json.loads(expected.read_text(encoding="utf-8"))
    query, body = _bytes(expected.with_suffix(".query")), _bytes(expected.with_suffix(".body"))
    at = datetime(2024, 1, 1, tzinfo=UTC)

    push = parse_push(query, body, channel_number="1069000", received_at=at)

    assert (push.query, push.body, push.received_at) == (query, body, at)
    assert list(push.flags) == sample["flags"]
    assert [report.state for report in push.reports] == [report.pop("state") for report in sample["reports"]]
    assert push.reports == tuple(StatusReport(**report, received_at=at) for report in sample["reports"])
    assert push.replies == tuple(Reply(**reply, received_at=at) for reply in sample["replies"])


def test_every_flag_is_shown() -> None:
    """The samples and this file show each flag at least once, except the one that a journal gives."""
    shown = {flag for path in SAMPLES.glob("*.json") for flag in json.loads(path.read_text(encoding="utf-8"))["flags"]}
    assert shown | {"list-too-long", "too-long", "too-many-fields", "unstorable"} == {str(flag) for flag in PushFlag}


@pytest.mark.parametrize("named", ["8613800138000", "%2B8613800138000", "008613800138000", "138 0013 8000"])
@pytest.mark.parametrize("more", ["", "&port=1069", ",13800138001"])
def test_a_phone_is_named_in_its_canonical_form(named: str, more: str) -> None:
    """A report or a reply that names 8613800138000 is one of 13800138000, however the push is read."""
    second = more.startswith(",")
    mid, code = ("1,2", "DELIVRD,REJECT") if second else ("1", "DELIVRD")
    push = parse_push(f"type=4&mid={mid}&msg={code}&mobile={named}{more}".encode(), b"")
    assert [report.number for report in push.reports] == ["13800138000", "13800138001"][: 1 + second]
    assert push.flags == ()
    if not second:
        reply = parse_push(f"type=1&mid=1&msg=TD&mobile={named}{more}".encode(), b"")
        assert [one.number for one in reply.replies] == ["13800138000"]


def test_too_many_fields() -> None:
    """Fields beyond the limit, counted over body and query, are not looked at and are flagged."""
    limits = PushLimits(fields=5)
    body = b"type=4&mid=1&mobile=13800138000"

    within = parse_push(b"msg=DELIVRD&port=1", body, limits=limits)
    beyond = parse_push(b"msg=DELIVRD&port=1&city=2", body, limits=limits)
    exhausted = parse_push(b"msg=1", b"type=4&" + b"x&" * 10_000, limits=PushLimits(fields=1))

    assert within.flags == ()
    assert beyond.flags == (PushFlag.TOO_MANY_FIELDS,)
    assert beyond.reports == within.reports
    assert PushFlag.TOO_MANY_FIELDS in exhausted.flags
    assert exhausted.reports == ()


@pytest.mark.parametrize("tail", [b"", b","], ids=["plain", "comma"])
def test_long_list(tail: bytes) -> None:
    """Of a list longer than the limit the first are taken; a comma at the end makes it no longer."""
    limits = PushLimits(items=2)
    three = b"type=4&mid=1,2,3%s&mobile=a,b,c%s&msg=DELIVRD,DELIVRD,DELIVRD%s" % (tail, tail, tail)
    two = b"type=4&mid=1,2%s&mobile=a,b%s&msg=DELIVRD,DELIVRD%s" % (tail, tail, tail)

    assert [report.mid for report in parse_push(three, b"", limits=limits).reports] == ["1", "2"]
    assert parse_push(three, b"", limits=limits).flags == (PushFlag.LIST_TOO_LONG,)
    assert len(parse_push(two, b"", limits=limits).reports) == 2
    assert parse_push(two, b"", limits=limits).flags == ()


def test_long_values() -> None:
    """A value that is too long is cut, except a key: a cut key could be another report's."""
    limits = PushLimits(value=12)
    push = parse_push(
        b"type=4&mid=1,2,3333333333333&mobile=13800138000,1380013800000,13800138002&msg=DELIVRD,DELIVRD,DELIVRD",
        b"port=0123456789012",
        limits=limits,
    )
    assert push.flags == (PushFlag.TOO_LONG,)
    assert push.reports == (StatusReport("1", "13800138000", code="DELIVRD", port="012345678901"),)


def test_holes_in_lists() -> None:
    """A report without mid or phone is left to the raw bytes, one without code is kept as unknown."""
    push = parse_push(b"type=4&mid=1,,3,4&mobile=a,b,,d&msg=DELIVRD,DELIVRD,DELIVRD, ,", b"")
    assert push.flags == (PushFlag.MISSING_FIELD,)
    assert [(report.mid, report.state) for report in push.reports] == [
        ("1", DeliveryState.DELIVERED),
        ("4", DeliveryState.UNKNOWN),
    ]


def test_no_phone() -> None:
    """A reply without a phone is nobody's: kept raw."""
    push = parse_push(b"type=1&mid=1&msg=TD", b"")
    assert (push.replies, push.flags) == ((), (PushFlag.MISSING_FIELD,))


def test_field_names_may_be_encoded() -> None:
    """A percent-encoded field name with spaces around it is the same field; empty pieces are nothing."""
    push = parse_push(b"&+%54ype+=4&&mid=1&mobile=a&msg=DELIVRD& &", b"")
    assert push.flags == ()
    assert push.reports == (StatusReport("1", "a", code="DELIVRD"),)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"TD", "TD"),
        ("退订".encode(), "退订"),
        ("退订".encode("gbk"), "退订"),
        ("确".encode("gbk"), "确"),
        ("联通".encode("gbk"), "联通"),
        ("中文é".encode(), "中文é"),
        ("😀".encode(), "😀"),
        (b"\xc3\x89\xc2\x80\x41", "脡聙A"),
        ("\u0393\u0081".encode(), "螕聛"),
    ],
)
def test_decode(raw: bytes, text: str) -> None:
    """UTF-8 is UTF-8 and GBK is GBK, also where GBK pairs look like two-byte UTF-8."""
    assert decode(raw) == (text, True)


def test_gbk_reads_all_two_byte_utf8() -> None:
    """Every character that UTF-8 writes in two bytes is a character of GBK too, so the rule always has an answer."""
    assert all(decode(chr(code).encode()) == (chr(code).encode().decode("gbk"), True) for code in range(0x80, 0x800))


@pytest.mark.parametrize("raw", [b"a\0b", b"\xff\xff", b"\x81\0", b"\xb1\xb1\0"])
def test_decode_replaces(raw: bytes) -> None:
    """What cannot be read or stored is replaced, and said."""
    text, faithful = decode(raw)
    assert not faithful
    assert "\ufffd" in text
    assert "\0" not in text


@settings(max_examples=40)
@given(st.text(st.characters(codec="gb2312", min_codepoint=0x4E00), min_size=1))
def test_gbk_survives(text: str) -> None:
    """What a person wrote and the gateway encoded as GBK is what is read."""
    raw = text.encode("gbk")
    push = parse_push(b"type=1&mid=1&mobile=2&msg=" + quote_from_bytes(raw, safe="").encode(), b"")
    # Three rare characters can also be two of UTF-8, which then count as UTF-8.
    assert push.replies[0].text in {text, raw.decode(errors="replace")}
    assert push.flags == ()


_PIECES = st.sampled_from(
    rb"type=4 type=1 mid= mobile= msg= port= area= city= & = , % + %B1%B1 %% %0 %00 %2c %CE%DE 13800138000 TYPE".split()
)
_BYTES = st.sampled_from([b" ", b", ", b"\xb1", b"\0"])
_RAW = st.one_of(st.binary(max_size=300), st.lists(_PIECES | _BYTES, max_size=40).map(b"".join))


@given(_RAW, _RAW)
@example(b"%  %12", b"%  %1234")
@example(b"type=4&mid=1&mobile=2&msg=%+1%+2", b"")
def test_never_raises(query: bytes, body: bytes) -> None:
    """Whatever the bytes, a push comes out: kept raw, bounded, without NUL, and understood or flagged."""
    limits = PushLimits(fields=8, items=3, value=10)
    push = parse_push(query, body, limits=limits, channel_number="10")

    assert (push.query, push.body) == (query, body)
    assert push.reports or push.replies or push.flags
    assert len(push.reports) <= 3
    assert len(push.replies) <= 1
    for report in push.reports:
        assert 1 <= len(report.mid) <= 10
        assert 1 <= len(report.number) <= 10
        assert "\0" not in repr(report) + report.code
    assert parse_push(query, body, limits=limits, channel_number="10") == push


_ORDINARY = b"type=4&mid=6398619&mobile=13800138000&msg=DELIVRD&port=106900001&area=%B9%E3%B6%AB&city=%c9%ee%db%da"


@given(st.permutations(_ORDINARY.split(b"&")), st.booleans())
def test_the_order_of_the_fields_makes_no_difference(fields: list[bytes], body: bool) -> None:
    """A push is read the same whatever the order of its fields, in the query or in the body."""
    raw = b"&".join(fields)
    push = parse_push(*((b"", raw) if body else (raw, b"")))
    report = StatusReport("6398619", "13800138000", code="DELIVRD", port="106900001", area="广东", city="深圳")
    assert (push.reports, push.flags) == ((report,), ())


@pytest.mark.parametrize("place", ["广东", "广东" * 20, "广东" * 60])
def test_a_place_is_read_the_same_again(place: str) -> None:
    """A province that came before, and one that is too long to be remembered, are read like any other."""
    raw = b"type=4&mid=1&mobile=13800138000&msg=DELIVRD&area=" + quote_from_bytes(place.encode("gbk")).encode()
    assert [parse_push(b"", raw).reports[0].area for _ in range(2)] == [place[:128]] * 2


def test_repr_hides_the_bytes() -> None:
    """A push may be logged: neither the text nor the whole phone shows."""
    shown = repr(parse_push(b"type=1&mid=1&mobile=13800138000&msg=secret", b""))
    assert "13800138000" not in shown
    assert "secret" not in shown
    assert "42 bytes" in shown


def test_push_is_frozen() -> None:
    """A push cannot be changed."""
    with pytest.raises(AttributeError):
        Push(query=b"", body=b"").flags = ()  # type: ignore[misc]


WORDS = ["R", "T", "TD", "N", "退订", "拒收", "取消订阅"]


@pytest.mark.parametrize("form", ["{}", " {}。", "“{}”！", "回复{}", "请回复{}", "请回复：{} ", "【回复】\n{}"])
@pytest.mark.parametrize("word", WORDS)
def test_opt_out(word: str, form: str) -> None:
    """A reply that is a keyword, alone or after `回复` or `请回复`, opts out; spaces and punctuation do not matter."""
    assert OptOut().matches(form.format(word))


@pytest.mark.parametrize(
    "text", ["r", "Ｒ", "ｒ.", "td", "ＴＤ", " t d ", "Ｔｄ\n", "n!", "退 订。", "\u3000取消 订阅\u3000", "回 复 ｒ"]
)
def test_opt_out_in_any_width_and_case(text: str) -> None:
    """Case, full-width letters and spaces inside do not matter."""
    assert OptOut().matches(text)


@pytest.mark.parametrize("blank", [" ", "\u3000", "\n"], ids=ascii)
def test_opt_out_with_many_blanks(blank: str) -> None:
    """Blanks around a keyword do not count, however many there are."""
    assert OptOut().matches(f"{blank * 100}R{blank * 100}")


@pytest.mark.parametrize(
    "text",
    [
        *("", "。", "TD 退订", "请勿退订", "怎么退订单", "NO", "thanks", "RR", "T" * 65, "R" + "." * 64),
        *("回复", "请回复", "请R", "R回复", "回复回复R", "请回复我", "勿回复R"),
    ],
)
def test_no_opt_out(text: str) -> None:
    """Whatever is not a keyword alone, or after `回复`, does not opt out."""
    assert not OptOut().matches(text)


def test_own_keywords() -> None:
    """Keywords are the caller's choice, folded as replies are; one without letters is none."""
    opt_out = OptOut(frozenset({"ＳＴＯＰ", " 取消 ", "!"}))
    assert opt_out.keywords == {"stop", "取消"}
    assert opt_out.matches("Stop.")
    assert opt_out.matches("回复STOP")
    assert not opt_out.matches("TD")
    assert not opt_out.matches("!")
    with pytest.raises(InvalidConfigurationError, match="one string"):
        OptOut("STOP")  # type: ignore[arg-type]
