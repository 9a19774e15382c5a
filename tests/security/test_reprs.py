"""What a value shows of itself: debuggers, tracebacks with local variables and error trackers write it down."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

import qxt_async
from qxt_async import Acceptance, BatchResult, BulkResult, QxtClient, QxtError, Reply, StatusReport
from qxt_async.journal import open_journal
from qxt_async.models import Message
from qxt_async.protocol.requests import Credentials, send_form
from qxt_async.receiving import PushReceiver
from qxt_async.runtime.secret import Secret
from qxt_async.simulator import SimulatedGateway

CANARY = "canary-that-must-not-sing"

# What may be shown, since it is no credential, no text and no phone number. A new field belongs here or is hidden.
HARMLESS = {
    # the gateway's words, masked where they are taken over, and ours
    *("mid", "mids", "bound", "relevant", "keep", "forget", "code", "codes", "error", "reason", "message", "what"),
    *("pause_reason", "state", "report", "report_state", "detail", "retry_after", "warnings", "waiting", "troubles"),
    # places and channels, not people
    *("area", "areas", "city", "port", "extno", "channel", "channel_extension", "user", "base_url", "endpoint"),
    # files, columns and campaigns by name; who gave an order; a note beside a suppressed number
    *(
        "path",
        "column",
        "extno_column",
        "columns",
        "encoding",
        "sheet",
        "source",
        "sources",
        "name",
        "actor",
        "note",
        "_account",
        "token",
    ),
    # settings, and single characters
    *("pattern", "number_pattern", "keywords", "character", "substitute", "method", "failure_codes"),
    # the journal's SQL in two dialects, without values
    *("folder", "parameter", "clock", "in_list", "from_list", "json"),
    # of `qxt campaign report`: labels; of a balanced feed: its columns
    *("words", "table"),
    # of the simulator, whose account is made up
    *("refusal", "fault", "headers", "body", "prefix", "charset", "line_end"),
}
# They are given masked numbers.
MASKED_ELSEWHERE = {("InvalidLine", "number"), ("SendSummary", "_examples")}


def _fields(cls: type[Any]) -> dict[str, str]:
    """The fields of a value and their kinds: made by attrs, or written out."""
    if attrs.has(cls):
        return {field.name: str(field.type) for field in attrs.fields(cls)}
    return {name: str(cls.__annotations__[name]) for name in cls.__slots__}


def _is_value(cls: type[Any]) -> bool:
    return attrs.has(cls) or (hasattr(cls, "_shown") and bool(vars(cls).get("__slots__")))


def _classes() -> Iterator[type[Any]]:
    for found in pkgutil.walk_packages(qxt_async.__path__, "qxt_async."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            for value in vars(module).values():
                if inspect.isclass(value) and _is_value(value) and value.__module__ == found.name:
                    yield value


CLASSES = {f"{cls.__module__}.{cls.__name__}": cls for cls in _classes()}


def _canary(kind: str) -> Any:
    """A canary of a field's kind."""
    if kind.startswith("Secret"):
        return Secret(CANARY)
    if kind.startswith("bytes"):
        return CANARY.encode()
    if any(kind.startswith(start) for start in ("dict", "Mapping")):
        return {CANARY: CANARY}
    if any(kind.startswith(start) for start in ("tuple", "list", "set", "frozenset", "Sequence", "Collection")):
        return (CANARY,)
    return CANARY


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_a_repr_shows_only_what_is_harmless(cls: type[Any]) -> None:
    """Each field of each value is hidden, masked, or on the list of what may be seen."""
    fields = _fields(cls)
    for name, kind in fields.items():
        if not any(part in kind for part in ("str", "bytes", "Any", "object")):
            continue
        value = object.__new__(cls)
        for other in fields:
            object.__setattr__(value, other, ())
        object.__setattr__(value, name, _canary(kind))
        if name not in HARMLESS and (cls.__name__, name) not in MASKED_ELSEWHERE:
            assert CANARY not in repr(value), name


def test_there_is_much_to_look_at() -> None:
    """The walk above finds the values, public and private."""
    assert {"qxt_async.models.BatchResult", "qxt_async.protocol.answers.Answer"} < set(CLASSES)
    assert len(CLASSES) > 60


NUMBER, TEXT, PASSWORD = "13800138000", "【Acme】top secret", "correct horse"
DIGEST = Credentials.from_password("u", PASSWORD).digest.reveal()
SECRETS = (NUMBER, TEXT, "top secret", PASSWORD, DIGEST, "a-secret-path-of-20-characters")


def _everything(folder: str) -> list[Any]:
    gateway = SimulatedGateway("user", PASSWORD)
    account = Credentials.from_password("user", PASSWORD)
    message = Message(TEXT)
    form = send_form(account, TEXT)
    batch = BatchResult(0, (NUMBER,), acceptances=(Acceptance("1", (NUMBER,)),), failed=(NUMBER,), unknown=(NUMBER,))
    result = BulkResult((batch,), unsent=(NUMBER,))
    client = QxtClient("user", PASSWORD, base_url="http://gateway.test/qxt", transport=gateway.transport())
    journal = open_journal(f"{folder}/qxt.db")
    receiver = PushReceiver(journal, path_secret=SECRETS[-1])
    reply = Reply("1", NUMBER, text=TEXT)
    report = StatusReport("1", NUMBER, code="DELIVRD")
    request = form.fill(NUMBER.encode())
    return [gateway, account, message, form, batch, result, client, journal, receiver, reply, report, request]


def test_local_variables_of_a_traceback_show_nothing(tmp_path: Any) -> None:
    """A traceback with the values of all local variables has no secret, if the caller's own variables have none."""
    everything = _everything(str(tmp_path))
    try:
        raise QxtError("with a view")
    except QxtError as error:
        error.result = everything[5]
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "everything" in shown
    assert [secret for secret in SECRETS if secret in shown + repr(everything) + str(everything)] == []
