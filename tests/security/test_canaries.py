"""The watch over the whole suite finds what it is there for."""

from __future__ import annotations

import logging
import re
from urllib.parse import quote

import pytest
from canaries import DIGESTS, SECRET, SIGNATURE, Canaries

from qxt_async import InvalidTextError

NUMBER = "13800138000"
LEAKS = {
    "a password": "it is correct horse",
    "a digest": f"password={DIGESTS[0]}&x",
    "a digest in capitals": DIGESTS[2].upper(),
    "a number": f"tele={NUMBER},x",
    "a number in brackets": repr([NUMBER]),
    "a text": f"{SIGNATURE}hello",
    "an encoded text": quote(SIGNATURE.encode("gbk")),
    "a text as it is sent": "%" + SIGNATURE.encode("gbk").hex("%").upper(),
    "an escaped text": repr(SIGNATURE.encode("gbk")),
    "bytes": repr(SIGNATURE.encode()),
    "code points": ascii(SIGNATURE),
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
    assert SECRET.search(leak)


@pytest.mark.parametrize("harmless", ["138****8000", "1731234567.89", "1731234567890", "at 0x13800138000a", "1" * 11])
def test_other_digits_are_none(harmless: str) -> None:
    """Masked numbers, times and addresses in memory are no mobile numbers."""
    assert not SECRET.search(harmless)


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
    assert canaries.found == []
    InvalidTextError(f"no good: {SIGNATURE}")
    assert len(canaries.found) == 1


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
    assert canaries.found == []
