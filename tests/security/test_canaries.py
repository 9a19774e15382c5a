"""The watch over the whole suite finds what it is there for."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest
from support.canaries import Canaries
from support.watch.watching import DIGESTS, PATH_SECRET, TEXTS, secret_in, shown_by

from qxt_async import InvalidTextError
from qxt_async.models import Message
from qxt_async.protocol.numbers import deduplicate

NUMBER = "13800138000"
LEAKS = {
    "a password": "it is correct horse",
    "a digest": f"password={DIGESTS[0]}&x",
    "a digest in capitals": DIGESTS[2].upper(),
    "the path of pushes": f"GET /{PATH_SECRET} HTTP/1.1",
    "a number": f"tele={NUMBER},x",
    "a number in brackets": repr([NUMBER]),
    "a text": f"{TEXTS[0]}hello",
    "an encoded text": quote(TEXTS[0].encode("gbk")),
    "a text as it is sent": "%" + TEXTS[0].encode("gbk").hex("%").upper(),
    "an escaped text": repr(TEXTS[0].encode("gbk")),
    "bytes": repr(TEXTS[0].encode()),
    "code points": ascii(TEXTS[0]),
    "another text": repr("【测试】".encode("gbk")),
}


@pytest.fixture
def canaries(request: pytest.FixtureRequest) -> Canaries:
    """The plugin that watches."""
    plugin = request.config.pluginmanager.get_plugin("canaries")
    assert isinstance(plugin, Canaries)
    return plugin


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_each_secret_is_one(leak: str) -> None:
    """Passwords, digests, numbers and texts are recognised, in the forms that they travel in."""
    assert secret_in(leak)


@pytest.mark.parametrize("digits", ["138****8000", "1731234567.89", "1731234567890", "at 0x13800138000a", "1" * 11])
def test_other_digits_are_none(digits: str) -> None:
    """Masked numbers, times and addresses in memory are no mobile numbers."""
    assert not secret_in(digits)


@pytest.mark.shows_secrets("to see that it is found")
def test_a_log_record_is_looked_at_whole(canaries: Canaries) -> None:
    """Whatever the logger and the level, in the message, its arguments, its extras, or an error and its causes."""
    logger = logging.getLogger("somebody.else")
    assert logger.getEffectiveLevel() > logging.DEBUG
    logger.debug("number %s", NUMBER)
    logger.debug("a place that is not written: %.0s", NUMBER)
    logger.debug("extra", extra={"job": {"number": NUMBER}})
    try:
        try:
            raise KeyError(NUMBER)
        except KeyError as error:
            raise ExceptionGroup("several", [ValueError("other")]) from error
    except ExceptionGroup:
        logger.exception("failed")
    assert len(canaries.found) == 4
    logger.debug("number %s", "138****8000")
    assert len(canaries.found) == 4


@pytest.mark.shows_secrets("to see that it is found")
def test_an_error_is_looked_at_when_it_is_made(canaries: Canaries) -> None:
    """An error of ours need not be logged, or even raised, to be found."""
    assert InvalidTextError("the text is empty").args == ("the text is empty",)
    assert canaries.take() == []
    InvalidTextError(f"no good: {TEXTS[0]}")
    assert len(canaries.take()) == 1


def test_what_an_error_shows() -> None:
    """Notes, causes and members of groups are shown, and what is hidden is not."""
    error = ExceptionGroup("several", [ValueError("a member")])
    error.add_note("a note")
    error.__cause__, error.__context__ = KeyError("a cause"), KeyError("a context")
    assert set(re.findall("a (note|cause|member|context)", shown_by(error))) == {"note", "cause", "member"}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="nothing tells of errors that pass")
@pytest.mark.shows_secrets("to see that it is found")
def test_an_error_is_looked_at_when_it_leaves(canaries: Canaries) -> None:
    """Whatever comes out of the library is found, whoever made it and whoever catches it."""

    def numbers() -> Iterator[str]:
        error = LookupError("nobody")
        error.add_note(f"not even {NUMBER}")
        yield NUMBER
        raise error

    with suppress(LookupError):
        list(numbers())
    assert canaries.take() == []
    with suppress(LookupError):
        deduplicate(numbers())
    assert len(canaries.take()) == 1


@pytest.mark.shows_secrets("to see that it is found")
def test_a_value_is_looked_at_when_it_is_made(canaries: Canaries) -> None:
    """The `repr` of the first values of a class is looked at, in each test."""
    for _ in range(2):
        for _ in range(100):
            Message("t", extno=NUMBER)
        assert 0 < len(canaries.take()) < 100


@pytest.mark.shows_secrets("to see that it is found")
def test_another_process_is_looked_into(canaries: Canaries) -> None:
    """What a process logs, and what errors it makes, is told to the test that started it."""
    program = f"import logging, qxt_async; logging.debug('{NUMBER}'); qxt_async.InvalidTextError('{TEXTS[0]}')"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert len(canaries.take()) == 2


def test_levels_are_kept(canaries: Canaries, caplog: pytest.LogCaptureFixture) -> None:
    """What was not to be logged is looked at and still not logged."""
    logger = logging.getLogger("somebody.else")
    logger.debug("unseen")
    logger.warning("seen")
    assert [record.getMessage() for record in caplog.records] == ["seen"]


def test_a_leak_fails_the_test(canaries: Canaries, request: pytest.FixtureRequest) -> None:
    """The test during which a secret showed fails, and the message says what and where."""
    logging.getLogger("somebody.else").debug("number %s", NUMBER)
    with pytest.raises(pytest.fail.Exception, match=re.escape("a record of 'somebody.else' shows '13800138000'")):
        canaries.check(request.node)
    canaries.check(request.node)


@pytest.mark.shows_secrets("to see that it may")
def test_unless_it_says_so(canaries: Canaries, request: pytest.FixtureRequest) -> None:
    """A marked test may log a secret."""
    logging.getLogger("somebody.else").debug("number %s", NUMBER)
    canaries.check(request.node)
    assert canaries.take() == []
