"""Watches over the whole suite: whatever anybody logs, and whatever error of ours is made, shows no secret.

Every record of every logger is looked at, at every level, without changing what tests and handlers see of it; so is the
message of every `QxtError`. A test during which a secret shows fails, unless it says ``@pytest.mark.shows_secrets``
and why. Secrets are what the tests use as such: passwords, digests, whole mobile numbers, and the signature that
their texts begin with, plain, encoded and escaped.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from qxt_async import QxtError

PASSWORDS = ["correct horse", "open-sesame"]
# "password" is a word that messages need; its digest is not.
DIGESTS = [hashlib.md5(password.encode()).hexdigest() for password in [*PASSWORDS, "password"]]
SIGNATURE = "【Acme】"
_FORMS = [
    SIGNATURE,
    *(quote_from_bytes(SIGNATURE.encode(encoding)) for encoding in ("gbk", "utf-8")),
    "%" + SIGNATURE.encode("gbk").hex("%"),
    *(repr(SIGNATURE.encode(encoding))[2:-1] for encoding in ("gbk", "utf-8")),
    ascii(SIGNATURE)[1:-1],
]
SECRET = re.compile(
    "|".join(map(re.escape, [*PASSWORDS, *DIGESTS, *_FORMS])) + r"|(?<![0-9A-Za-z._])1[3-9][0-9]{9}(?![0-9A-Za-z])",
    re.IGNORECASE,
)

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def shown_by(error: BaseException | None) -> str:
    """What an error and its causes say; not the lines of source code that a traceback quotes."""
    parts: list[str] = []
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts.append(f"{one!s} {one!r}")
        left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return " ".join(parts)


def shown(record: logging.LogRecord) -> str:
    """All that any handler could write of a record."""
    extra = {name: value for name, value in vars(record).items() if name not in _USUAL}
    parts = [record.name, record.getMessage(), repr(record.args), repr(extra) if extra else ""]
    if record.exc_info:
        parts.append(shown_by(record.exc_info[1]))
    return " ".join([*parts, record.exc_text or "", record.stack_info or ""])


class _Init:
    """Looks at what an error of ours says as soon as it is made; no function, as the one in its place is none."""

    def __init__(self, look: Callable[[str, str], None]) -> None:
        self._look = look
        self._init = QxtError.__init__

    def __get__(self, error: QxtError | None, owner: type[QxtError]) -> Callable[..., None]:
        return functools.partial(self._made, error) if error is not None else self._init

    def _made(self, error: QxtError, *args: Any) -> None:
        self._init(error, *args)
        self._look(type(error).__name__, f"{error!s} {args!r}")


class Canaries:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._patch = pytest.MonkeyPatch()

    def look(self, where: str, text: str) -> None:
        """Keep a text that shows a secret."""
        if secret := SECRET.search(text):
            self.found.append(f"{where} shows {secret[0]!r}: {text[:500]}")

    def watch(self) -> None:
        """Look at everything from now on."""
        enabled, call_handlers = logging.Logger.isEnabledFor, logging.Logger.callHandlers

        def every(logger: logging.Logger, record: logging.LogRecord) -> None:
            # Filters are behind us: this is what would be written.
            self.look(f"a record of {record.name!r}", shown(record))
            if enabled(logger, record.levelno):
                call_handlers(logger, record)

        self._patch.setattr(logging.Logger, "isEnabledFor", lambda *_: True)
        self._patch.setattr(logging.Logger, "callHandlers", every)
        self._patch.setattr(QxtError, "__init__", _Init(self.look))

    def pytest_configure(self, config: pytest.Config) -> None:
        """Begin to look."""
        config.addinivalue_line("markers", "shows_secrets(why): the test logs a secret on purpose")
        self.watch()

    def pytest_unconfigure(self) -> None:
        """Leave everything as it was."""
        self._patch.undo()

    def check(self, item: pytest.Item) -> None:
        """Fail a test that showed a secret."""
        found, self.found[:] = list(self.found), []
        if found and item.get_closest_marker("shows_secrets") is None:
            pytest.fail("\n".join(found[:5]), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Look at what came out during a test, if nothing else made it fail."""
        result = yield
        self.check(item)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """The same for what is logged when a test is over."""
        result = yield
        self.check(item)
        return result
