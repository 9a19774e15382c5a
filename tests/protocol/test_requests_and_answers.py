"""Requests to bytes, answers to values, without I/O."""

from __future__ import annotations

import base64
import contextlib
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxt_async import errors
from qxt_async.errors import (
    InvalidConfigurationError,
    InvalidExtnoError,
    InvalidNumberError,
    InvalidTextError,
    QxtError,
    RefusedError,
    RequestTooLargeError,
    UnusableAnswerError,
)
from qxt_async.protocol.answers import parse_balance, parse_send, redact, refusal_by_status
from qxt_async.protocol.requests import URL_LIMIT, Credentials, FormTemplate, balance_form, join, send_form
from qxt_async.runtime.secret import Secret

SAMPLES = Path(__file__).parents[1] / "samples"
INDEX = tomllib.loads((SAMPLES / "index.toml").read_text(encoding="utf-8"))
ACCOUNT = Credentials.from_digest("demo", INDEX["account"]["digest"])


def _files(section: str) -> list[Any]:
    """One parameter for each file of a section."""
    return [
        pytest.param(entry, file, id=file)
        for entry in INDEX[section]
        for file in ([entry["file"]] if isinstance(entry["file"], str) else entry["file"])
    ]


def _answer(file: str) -> bytes:
    return (SAMPLES / "answers" / f"{file}.bin").read_bytes()


def _tele(numbers: list[str]) -> bytes:
    return ",".join(numbers).encode()


# --- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "file"), _files("request"))
def test_requests_have_exactly_these_bytes(entry: dict[str, Any], file: str) -> None:
    """A request's form is, byte for byte, the one written down from the document."""
    expected = (SAMPLES / "requests" / f"{file}.form").read_bytes()
    account = Credentials.from_password(entry["user"], INDEX["account"]["password"])
    if "text" in entry:
        form = send_form(account, entry["text"], extno=entry.get("extno"), addseqno=entry.get("addseqno", False))
        tele, endpoint = join(entry["numbers"]), "smssenderv2"
    else:
        form, tele, endpoint = balance_form(account), b"", "surplus"

    assert form.fill(tele).reveal() == expected
    assert form.endpoint == endpoint


def test_every_sample_is_in_the_index() -> None:
    """No sample lies about unused."""
    named = {f"requests/{p.values[1]}.form" for p in _files("request")}
    named |= {f"answers/{p.values[1]}.bin" for p in _files("answer") + _files("balance")}
    there = {path.relative_to(SAMPLES).as_posix() for kind in ("requests", "answers") for path in _samples(kind)}
    assert named == there


def _samples(kind: str) -> list[Path]:
    return [path for path in (SAMPLES / kind).iterdir() if path.suffix in (".form", ".bin")]


def test_every_documented_refusal_has_samples_and_a_code_of_its_own() -> None:
    """The eight descriptions of PROTOCOL 2.1 map to eight different codes, each shown by a sample."""
    documented = [entry for entry in INDEX["answer"] if entry["rule"].startswith("2.1 n.")]
    assert len({entry["code"] for entry in documented}) == 8
    assert all(issubclass(getattr(errors, entry["error"]), RefusedError) for entry in documented)


def test_a_get_is_refused_beyond_8000_bytes_of_url() -> None:
    """A URL of 8,000 bytes passes, one more is refused, and the error says how many numbers would fit."""
    base = "http://127.0.0.1:8080/qxt"
    form = send_form(ACCOUNT, "t")
    head = len(f"{base}/smssenderv2?".encode() + form.fill(b"").reveal())
    many = [f"138{n:08d}" for n in range((URL_LIMIT - head + 1) // 12)]
    padded = FormTemplate(form.endpoint, form.head + b"x" * (URL_LIMIT - head - len(_tele(many))), form.tail)

    padded.check_url(base, _tele(many))
    assert len(f"{base}/smssenderv2?".encode() + padded.fill(_tele(many)).reveal()) == URL_LIMIT

    with pytest.raises(RequestTooLargeError) as caught:
        padded.check_url(base, _tele([*many, "13900000000"]))
    assert caught.value.size == URL_LIMIT + 12
    assert caught.value.limit == URL_LIMIT
    assert caught.value.fits == len(many)
    assert f"at most {len(many)} numbers" in str(caught.value)
    assert "POST" in str(caught.value)


@pytest.mark.parametrize(("beyond", "fits"), [(0, 4), (1, 3), (11, 3), (12, 3), (13, 2)])
def test_how_many_numbers_fit(beyond: int, fits: int) -> None:
    """The error of a GET with five numbers says exactly how many would fit, whatever the length of the address."""
    form = send_form(ACCOUNT, "t")

    def tele(count: int) -> bytes:
        return join([f"1380013800{n}" for n in range(count)])

    padding = URL_LIMIT - len(f"http://127.0.0.1/{form.endpoint}?") - len(form.fill(tele(4)).reveal())
    base = "http://127.0.0.1" + "x" * (padding + beyond)
    with pytest.raises(RequestTooLargeError) as caught:
        form.check_url(base, tele(5))
    assert caught.value.fits == fits
    form.check_url(base, tele(fits))
    with pytest.raises(RequestTooLargeError):
        form.check_url(base, tele(fits + 1))


def test_a_text_alone_too_long_for_a_url() -> None:
    """Where not even one number would fit, the advice is not to send fewer numbers."""
    with pytest.raises(RequestTooLargeError, match="the text alone is too long") as caught:
        send_form(ACCOUNT, "长" * 2000).check_url("http://127.0.0.1/qxt", b"13800138000")
    assert caught.value.fits == 0


def test_a_send_is_checked_before_it_is_built() -> None:
    """An unencodable text and a bad extension number are refused where the form is made."""
    with pytest.raises(InvalidTextError):
        send_form(ACCOUNT, "€")
    with pytest.raises(InvalidExtnoError):
        send_form(ACCOUNT, "t", extno="1" * 20, channel_digits=1)


def test_join_takes_a_thousand_numbers() -> None:
    """One request carries 1000 numbers and not one more."""
    assert join(["1"] * 1000) == b"1," * 999 + b"1"
    with pytest.raises(RequestTooLargeError, match="send_bulk"):
        join(["1"] * 1001)


def test_join_names_the_number_that_cannot_be_sent() -> None:
    """The error speaks of the number that would change the form, not of one beside it."""
    with pytest.raises(InvalidNumberError) as caught:
        join(["13800138000", "7&b", "13800138001"])
    assert "138" not in str(caught.value)


def test_credentials_from_a_digest() -> None:
    """A ready-made digest is taken in either case, with space around it, and goes out in lowercase."""
    account = Credentials.from_digest("demo", f" {INDEX['account']['digest'].upper()}\n")
    assert account == ACCOUNT == Credentials.from_password("demo", "password")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Credentials.from_password("", "x"), "user is empty"),
        (lambda: Credentials.from_password("demo", ""), "password is empty"),
        (lambda: Credentials.from_password("demo", "密码"), "password_md5 instead"),
        (lambda: Credentials.from_password("€", "x"), "GBK"),
        (lambda: Credentials.from_digest("demo", "5f4dcc"), "32 hexadecimal digits"),
        (lambda: Credentials.from_digest("demo", "g" * 32), "32 hexadecimal digits"),
        (lambda: Credentials("demo", Secret("A" * 32)), "32 hexadecimal digits"),
        (lambda: Credentials.from_digest("demo", "0" * 31 + "０"), "32 hexadecimal digits"),
    ],
    ids=["no user", "no password", "non-ASCII", "user", "short", "not hex", "uppercase", "full-width"],
)
def test_credentials_that_cannot_work(make: Any, complaint: str) -> None:
    """An account that the gateway could not accept is refused with a reason that shows no secret."""
    with pytest.raises(InvalidConfigurationError, match=complaint) as caught:
        make()
    assert "5f4dcc" not in str(caught.value)


def test_reprs_hide_what_is_secret() -> None:
    """No repr of the wire's values has the digest, the text or a number."""
    form = send_form(ACCOUNT, "secret text")
    request = form.fill(b"13800138000")
    answer = parse_send(b"ok:1:13800138000\nfail:2:13800138001", ["13800138000", "13800138001", "13800138002"], b"-")
    redact = repr((ACCOUNT, form, request, answer))
    for secret in (ACCOUNT.digest.reveal(), "secret", "13800138000", "13800138001", "13800138002"):
        assert secret not in redact


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "file"), _files("answer"))
def test_answers_mean_what_the_document_says(entry: dict[str, Any], file: str) -> None:
    """Each answer written down from the document is read as the index says."""
    numbers = INDEX["sent"][entry["sent"]]

    answer = parse_send(_answer(file), numbers, _tele(numbers))

    assert [[acceptance.mid, list(acceptance.numbers)] for acceptance in answer.acceptances] == entry.get(
        "acceptances", []
    )
    assert list(answer.failed) == entry.get("failed", [])
    assert list(answer.unknown) == entry.get("unknown", [])
    assert list(answer.codes) == entry.get("codes", [])
    assert (None if answer.error is None else type(answer.error).__name__) == entry.get("error")
    assert getattr(answer.error, "code", None) == entry.get("code")
    assert answer.trusted is entry.get("trusted", True)
    if "redact" in entry:
        assert _shown(answer.error) == entry["redact"]


@pytest.mark.parametrize(("entry", "file"), _files("balance"))
def test_balances_mean_what_the_document_says(entry: dict[str, Any], file: str) -> None:
    """Each balance answer is read as the index says."""
    if "error" not in entry:
        balance = parse_balance(_answer(file))
        assert (balance.sms, balance.mms) == (entry["sms"], entry["mms"])
        return
    with pytest.raises(QxtError) as caught:
        parse_balance(_answer(file))
    assert type(caught.value).__name__ == entry["error"]
    assert getattr(caught.value, "code", None) == entry.get("code")
    if "redact" in entry:
        assert _shown(caught.value) == entry["redact"]


def _shown(error: object) -> str:
    if isinstance(error, RefusedError):
        return error.description
    assert isinstance(error, UnusableAnswerError)
    return error.answer


@pytest.mark.parametrize(
    ("status", "advice"),
    [*((status, "check base_url") for status in (400, 401, 404, 405, 411)), (413, "lower batch_size"), (414, "POST")],
)
def test_statuses_that_refuse(status: int, advice: str) -> None:
    """Some HTTP statuses say that the request was not handled; the error has the status, a code and what to do."""
    error = refusal_by_status(status)
    assert type(error) is RefusedError
    assert (error.status, error.code, error.description) == (status, f"http-{status}", f"HTTP {status}")
    assert advice in error.advice
    assert not error.concerns_every_batch


@pytest.mark.parametrize("status", [200, 302, 403, 408, 409, 429, 500, 503])
def test_statuses_that_refuse_nothing(status: int) -> None:
    """Every other status leaves open whether the request was accepted, or is decided elsewhere."""
    assert refusal_by_status(status) is None


def test_an_empty_answer_is_called_empty() -> None:
    """The reason tells an empty answer from one that cannot be read."""
    assert "is empty" in str(parse_send(b" \r\n", ["13800138000"], b"13800138000").error)
    assert "nobody understands" in str(parse_send(b"?", ["13800138000"], b"13800138000").error)


@pytest.mark.parametrize(
    "page",
    [
        "<html>\nerror: not found\n</html>",
        "<p>busy</p>\nerror:无此用户或者密码不对",
        "error:无此用户或者密码不对\n<!-- made by a filter -->",
        "Service status\n\n error: the upstream is away\n",
        "error: mobile\ncode: 500",
        "error:closed\n:",
    ],
    ids=["HTML", "HTML, documented", "documented, HTML", "text", "YAML", "colon"],
)
def test_a_page_with_a_line_of_error_refuses_nothing(page: str) -> None:
    """Where a line is not of the protocol, an ``error:`` line is no refusal, also a documented one: unknown."""
    told = parse_send(page.encode("gbk"), ["13800138000"], b"13800138000")
    assert isinstance(told.error, UnusableAnswerError)
    assert (told.failed, told.unknown) == ((), ("13800138000",))
    assert told.error.answer
    with pytest.raises(UnusableAnswerError):
        parse_balance(page.encode("gbk"))


def test_a_refusal_of_several_lines() -> None:
    """Empty lines and further ``error:`` lines are of the protocol; the first one tells the error."""
    body = "\r\n失败:error:通道关闭\r\n \r\nerror:mobile\r\n".encode("gbk")
    told = parse_send(body, ["13800138000"], b"13800138000")
    assert isinstance(told.error, errors.RefusedError)
    assert told.error.code == "undocumented"
    assert (told.error.description, told.failed) == ("通道关闭", ("13800138000",))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("13800138000", "138****"),
        ("call 1380013 now", "call 138**** now"),
        ("code 123456", "code 123456"),
        ("password=5f4dcc3b5aa765d61d8327deb882cf99&x", "password=****&x"),
        ("msg=%C4%FA%BA%C3&tele=1", "msg=****&tele=1"),
        ("msg=a%C4%FAb%BA%C3", "msg=a****"),
        ("138 0013 8000 or 138-0013-8000", "138**** or 138****"),
        (r'{"msg": "\u60a8\u597d"}', '{"msg": "****"}'),
        ("100% sure", "100% sure"),
        ("  padded\n", "padded"),
        ("。" * 500, "。" * 200),
        ("x" * 500, "****"),
        ("Bearer NWY0ZGNjM2I1YWE3NjVkNjFkODMyN2RlYjg4MmNmOTk=", "Bearer ****"),
        ("msg=&#24744;&#22909; or &#x60A8;&#x597D;", "msg=**** or ****"),
        ("A &amp; B", "A &amp; B"),
        ("1 3 8, 0.0.1-3(8)0_0_0", "1 3****"),
        ("１３８００１３８０００", "１３８****"),
        ("at 12:30:59 or 127.0.0", "at 12:30:59 or 127.0.0"),
        # A part of a digest that the cut leaves.
        (f"{'&#24744;' * 46} 5f4dcc3b5aa765d61d8327deb882cf99", "**** ****"),
    ],
)
def test_what_a_gateway_said_is_masked(said: str, expected: str) -> None:
    """What is shown of an answer has no whole number, no digest and no encoded text, even if it repeats the request."""
    assert redact(said) == expected


def test_what_is_cut_of_a_long_answer() -> None:
    """An answer of 400 characters is whole; one character more is cut off, and the answer says that it was cut."""
    assert redact("1" * 398 + "!") == "****!"
    assert redact("1" * 399 + "!") == "****!"
    assert redact("1" * 399 + "!?") == "****!****"


@pytest.mark.parametrize(
    "answer",
    [
        "error:内容含敏感词: {text}",
        "fail:{text}:13800138000",
        '{{"code": 1, "msg": "{text}", "again": "{text}"}}',
        "error:not allowed: Your code is 482913.",
        "<p>482913</p>",
    ],
)
def test_what_a_gateway_repeats_of_the_text_is_not_shown(answer: str) -> None:
    """Its own words are shown, whatever of the text is among them is not, in whole or in part."""
    text = "【Acme】Your code is 482913."
    told = parse_send(answer.format(text=text).encode("gbk"), ["13800138000"], b"13800138000", text)
    assert told.error is not None
    assert "****" in str(told.error)
    assert "code is" not in str(told.error)
    assert "482913" not in str(told.error)


CODE_TEXT = "【Acme】Your code is 482913, 密码勿告诉他人."


@pytest.mark.parametrize(
    "repeated",
    [
        "4 8 2 9 1 3",
        "4-8-2-9-1-3",
        "4.8, 2/9;1_3",
        "ＹＯＵＲ ＣＯＤＥ",
        "YOUR-CODE",
        "密 码 勿 告 诉 他",
        "密码&#21247;&#x544A;诉他",
        "482913&#44;&#x20;密码",
        "&quot;482913&quot;",
        base64.b64encode(CODE_TEXT.encode()).decode(),
        base64.b64encode(CODE_TEXT.encode("gbk")).decode(),
        base64.urlsafe_b64encode("密码勿告诉他人".encode()).decode(),
        base64.b64encode("a密码勿告诉他人".encode("gbk")).decode()[2:],
        "data" + base64.b64encode(b"code is 482913").decode().rstrip("="),
        "x" + base64.b64encode(b"+13800138000").decode(),
    ],
)
def test_what_is_repeated_in_another_form_is_not_shown(repeated: str) -> None:
    """Separated, full-width, upper-case, as entities or in base64: it is masked, and what is around is shown."""
    assert redact(f"so: [{repeated}] !", CODE_TEXT) in {"so: [****] !", "so: [&quot;****&quot;] !"}


@pytest.mark.parametrize("said", ["敏感词: 您 好", "code NullPointerException", "aGVsbG8gd29ybGQh", "R&D;", "482,91"])
def test_what_is_not_repeated_is_shown(said: str) -> None:
    """Words of the gateway's own stay, whatever they look like."""
    assert redact(said, CODE_TEXT) == said


def test_a_long_text_costs_time_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for what an answer repeats of a text takes so many steps as both have characters, whatever they are.

    Counted are calls of Python, per character of a text of 30,000: ten times the text may cost ten times as much. Of
    the codes of an answer ten are looked at.
    """
    codes: list[str] = []
    append = codes.append
    monkeypatch.setattr("qxt_async.protocol.answers.redact", lambda said, text: append(said) or redact(said, text))
    lines = "".join(f"fail:{'ab' * 90}{place}:13800138000\n" for place in range(1000))
    text = "ab" * 15_000
    answer = parse_send(lines.encode(), ["13800138000"], b"13800138000", text)
    assert len(codes) == 10
    assert all("abab" not in code for code in answer.codes)

    def steps(size: int) -> int:
        count = 0

        def step(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(step)
        try:
            redact("ab" * 150 + "b" + "a" * 300, "ab" * size)
        finally:
            sys.setprofile(None)
        return count

    assert steps(15_000) < 11 * steps(1500) < 200_000


@pytest.mark.parametrize("number", ["1380013800\u0660", "+8613800138000", "1&msg=x", "\ud800"])
def test_numbers_that_would_change_the_form(number: str) -> None:
    """Whatever is not a digit or an ASCII letter is refused, and shown masked."""
    with pytest.raises(InvalidNumberError, match="only digits and ASCII letters can be sent") as caught:
        join(["13800138000", number])
    assert number not in str(caught.value)


def test_all_codes_are_told() -> None:
    """Those of several lines, each once, in the order of the answer; not that of a line without numbers."""
    body = b"fail:999:13800138000\nfail:7:13800138001\nfail:8:\nfail:999:13800138002"
    answer = parse_send(body, ["13800138000", "13800138001", "13800138002"], b"-")
    assert answer.codes == ("999", "7")
    assert isinstance(answer.error, errors.SubmitFailedError)
    assert (answer.error.codes, answer.error.count) == (("999", "7"), 3)


def test_codes_are_masked() -> None:
    """Numbers in the place of a failure's code are not shown whole."""
    answer = parse_send(b"fail:13800138000:13800138000", ["13800138000"], b"13800138000")
    assert answer.codes == ("138****",)
    assert "13800138000" not in str(answer.error)


NUMBERS = st.lists(st.integers(13_000_000_000, 19_899_999_999).map(str), min_size=1, max_size=6)
MID = st.text("0123456789abcXYZ-_. ", max_size=8)
FOREIGN = "19900000000"


@st.composite
def plausible_answers(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """Numbers, and an answer of lines about some of them, with some bytes changed at times."""
    numbers = draw(NUMBERS)
    told = st.lists(st.sampled_from(numbers), max_size=8)
    lines = draw(
        st.lists(
            st.one_of(
                st.builds(lambda mid, of: f"ok:{mid}:{','.join(of)}", MID, told),
                st.builds(lambda code, of: f"fail:{code}:{','.join(of)}", MID, told),
                st.builds(lambda of: f"ok:7:{', '.join([*of, FOREIGN])}", told),
                st.sampled_from(["error:mobile", "失败:error:x", "", "ok", "fail:", "ok:1", "：", "ok:1:,,,"]),
            ),
            max_size=4,
        )
    )
    body = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines).encode(draw(st.sampled_from(["utf-8", "gbk"])))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=2)):
        body = body[:place] + bytes([byte]) + body[place + 1 :]
    return numbers, body


def _holds(numbers: list[str], body: bytes) -> None:
    """The numbers, each as often as it was sent, are shared out over the three outcomes, and nothing else is there."""
    answer = parse_send(body, numbers, _tele(numbers))
    accepted = [number for acceptance in answer.acceptances for number in acceptance.numbers]
    assert Counter([*accepted, *answer.failed, *answer.unknown]) == Counter(numbers)
    assert not set(accepted) & set(answer.failed)
    assert not set(accepted) & set(answer.unknown)
    assert not set(answer.failed) & set(answer.unknown)
    assert (answer.error is None) == (Counter(accepted) == Counter(numbers))
    assert not answer.unknown or isinstance(answer.error, errors.OutcomeUnknownError)
    assert all(acceptance.mid and acceptance.numbers for acceptance in answer.acceptances)


@given(NUMBERS, st.binary(max_size=200))
def test_any_bytes_are_an_answer(numbers: list[str], body: bytes) -> None:
    """Whatever the gateway writes, no error is raised, and every number has exactly one outcome."""
    _holds(numbers, body)


@given(plausible_answers())
def test_answers_that_are_nearly_right(case: tuple[list[str], bytes]) -> None:
    """Mixed, repeated, contradictory, foreign and damaged lines leave every number exactly one outcome."""
    _holds(*case)


@given(NUMBERS, st.from_regex(r"[0-9A-Za-z]{1,9}", fullmatch=True), st.sampled_from(["", "\n", "\r\n", "\n\n"]))
def test_the_fast_way_and_the_slow_way_agree(numbers: list[str], mid: str, end: str) -> None:
    """The answer that is compared as bytes is read as it would be line by line."""
    tele = _tele(numbers)
    fast = parse_send(f"ok:{mid}:".encode() + tele + end.encode(), numbers, tele)
    slow = parse_send(f" ok:{mid}:".encode() + tele + end.encode(), numbers, tele)
    assert [(r.mid, sorted(r.numbers)) for r in fast.acceptances] == [
        (r.mid, sorted(r.numbers)) for r in slow.acceptances
    ]
    assert (fast.failed, fast.unknown, fast.error) == (slow.failed, slow.unknown, slow.error) == ((), (), None)


def test_an_answer_is_cut_where_the_numbers_differ() -> None:
    """An answer that goes on after the numbers, or stops short of them, is not taken for the common one."""
    numbers = ["13800138000", "13800138001"]
    longer = parse_send(b"ok:1:13800138000,13800138001,13800138002", numbers, _tele(numbers))
    cut = parse_send(b"ok:1:13800138000,1380013", numbers, _tele(numbers))
    assert (longer.trusted, cut.trusted) == (False, False)
    assert longer.unknown == cut.unknown == tuple(numbers)


@given(st.binary(max_size=60))
def test_any_bytes_as_a_balance(body: bytes) -> None:
    """Whatever comes as a balance is one, or an error of ours."""
    with contextlib.suppress(RefusedError, UnusableAnswerError):
        assert isinstance(parse_balance(body).sms, int)
