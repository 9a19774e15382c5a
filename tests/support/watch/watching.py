"""Looks at what is logged, raised and made in this process, and keeps what shows a secret.

- Every record of every logger, at every level, without changing what tests and handlers see of it.
- Every error of ours as soon as it is made; and on Python 3.12 and later, with notes and causes, where it leaves our
  functions. Where they were called by a test, so is whatever else leaves them.
- The `repr` of the first values of each of our classes, as soon as they are made.

Secrets are what the tests use as such: passwords, digests, the receiver's path, whole mobile numbers, and what their
texts begin with, plain, encoded and escaped.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from urllib.parse import quote_from_bytes

import qxt_async
from qxt_async.errors import QxtError

PASSWORDS = ["correct horse", "open-sesame"]
PATH_SECRET = "0123456789abcdefghij"
# "password" is a word that messages need; its digest is not.
DIGESTS = [hashlib.md5(password.encode()).hexdigest() for password in [*PASSWORDS, "password"]]
TEXTS = ["【Acme】", "【测试】", "【某某商城】", "top secret"]


def _forms(text: str) -> list[str]:
    """A text plain, encoded and escaped."""
    return [
        text,
        *(quote_from_bytes(text.encode(encoding)) for encoding in ("gbk", "utf-8")),
        "%" + text.encode("gbk").hex("%"),
        *(repr(text.encode(encoding))[2:-1] for encoding in ("gbk", "utf-8")),
        ascii(text)[1:-1],
    ]


_WORDS = [
    word.lower() for word in (*PASSWORDS, PATH_SECRET, *DIGESTS, *(form for text in TEXTS for form in _forms(text)))
]
_NUMBER = re.compile(r"1[3-9][0-9]{9}(?<![0-9A-Za-z._]...........)(?![0-9A-Za-z])")


def secret_in(text: str) -> str | None:
    """The first secret of a text. Words are looked for one by one: a pattern of all takes ten times as long."""
    lowered = text.lower()
    word = next((word for word in _WORDS if word in lowered), None)
    if word is None and (number := _NUMBER.search(text)):
        return number[0]
    return word


# Of each class, in each test; of errors all.
_EACH = 20
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_OURS = str(Path(qxt_async.__file__).parent)
_TESTS = str(Path(__file__).parents[2])


def shown_by(error: BaseException | None) -> str:
    """What an error, its notes and its causes say; not the lines of source code that a traceback quotes."""
    parts: list[str] = []
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts += [repr(one), *traceback.format_exception_only(one)]
        # As in a traceback: what `from None` hides is not shown.
        left += [one.__cause__, None if one.__suppress_context__ else one.__context__]
        left += getattr(one, "exceptions", ())
    return " ".join(parts)


def shown(record: logging.LogRecord) -> str:
    """All that any handler could write of a record."""
    extra = {name: value for name, value in vars(record).items() if name not in _USUAL}
    parts = [record.name, record.getMessage(), repr(record.args), repr(extra) if extra else ""]
    if record.exc_info:
        parts.append(shown_by(record.exc_info[1]))
    return " ".join([*parts, record.exc_text or "", record.stack_info or ""])


def _classes(modules: Iterable[ModuleType]) -> list[type[Any]]:
    """Our classes that show something of themselves and say how they are made."""
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    ours = [cls for cls in found if cls.__module__.partition(".")[0] == "qxt_async"]
    return [cls for cls in ours if "__init__" in vars(cls) and cls.__repr__ is not object.__repr__]


class Watch:
    """Looks at everything from `start` to `stop`.

    Args:
        found: is told what shows a secret.
    """

    def __init__(self, found: Callable[[str], object]) -> None:
        self._found = found
        self._patches = ExitStack()
        self._made = Counter[type[Any]]()

    def look(self, where: str, text: str) -> None:
        """Look at a text."""
        if secret := secret_in(text):
            self._found(f"{where} shows {secret!r}: {text[:500]}")

    def start(self) -> None:
        """Look at records and errors."""
        enabled, call_handlers = logging.Logger.isEnabledFor, logging.Logger.callHandlers

        def every(logger: logging.Logger, record: logging.LogRecord) -> None:
            # Filters are behind us: this is what would be written.
            self.look(f"a record of {record.name!r}", shown(record))
            if enabled(logger, record.levelno):
                call_handlers(logger, record)

        self._patch(logging.Logger, "isEnabledFor", lambda *_: True)
        self._patch(logging.Logger, "callHandlers", every)
        if sys.version_info >= (3, 12):
            self._look_at_what_is_raised()

    def stop(self) -> None:
        """Leave everything as it was."""
        self._patches.close()

    def _patch(self, where: Any, name: str, value: object) -> None:
        self._patches.callback(setattr, where, name, getattr(where, name))
        setattr(where, name, value)

    def _look_at_what_is_raised(self) -> None:
        monitoring = sys.monitoring

        def unwound(code: CodeType, _: int, error: BaseException) -> None:
            if not code.co_filename.startswith(_OURS):
                return
            caller = sys._getframe(1).f_back
            to = caller.f_code.co_filename if caller else ""
            if to.startswith(_TESTS) or (isinstance(error, QxtError) and not to.startswith(_OURS)):
                self.look(f"{type(error).__name__} out of {code.co_qualname}", shown_by(error))

        tool = next(tool for tool in (4, 3) if monitoring.get_tool(tool) is None)
        monitoring.use_tool_id(tool, "canaries")
        self._patches.callback(monitoring.free_tool_id, tool)
        monitoring.register_callback(tool, monitoring.events.PY_UNWIND, unwound)
        monitoring.set_events(tool, monitoring.events.PY_UNWIND)
        self._patches.callback(monitoring.set_events, tool, 0)

    def look_at_what_is_made(self, modules: Iterable[ModuleType]) -> None:
        """Look at errors and values of classes in these modules."""
        for cls in _classes(modules):
            self._patch(cls, "__init__", self._looking(cls.__init__))

    def _looking(self, init: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(init)
        def looking(one: Any, *args: Any, **options: Any) -> None:
            init(one, *args, **options)
            cls = type(one)
            # Not before the last `__init__` of those that call one another.
            if cls.__init__ is looking and (self._made[cls] < _EACH or isinstance(one, BaseException)):
                self._made[cls] += 1
                self.look(cls.__name__, f"{one!s} {one!r}")

        return looking

    def begin_anew(self) -> None:
        """Look at the first values of each class once more."""
        self._made.clear()
