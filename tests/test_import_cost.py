"""What importing the package costs: nothing that is not needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

EXTRAS = {
    "aiohttp",
    "asyncpg",
    "click",
    "fastapi",
    "granian",
    "httpx2",
    "hypercorn",
    "litestar",
    "opentelemetry",
    "polars",
    "procrastinate",
    "psycopg",
    "pyroaring",
    "pytest",
    "sqlite3",
    "starlette",
    "trio",
    "uvicorn",
    "uvloop",
    "yarl",
}


def _loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some code."""
    program = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    unwatched = {**os.environ, "QXT_CANARIES": ""}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=unwatched)
    return set(done.stdout.split())


def _tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def _ours(code: str) -> set[str]:
    return {name for name in _loaded(code) if name.partition(".")[0] == "qxt_async"}


CLIENT = "from qxt_async import QxtClient"
DEPENDENCIES = "import httpx, anyio, attrs"


def test_the_client_loads_no_extra() -> None:
    """`from qxt_async import QxtClient` loads no extra, no rich and no database that its dependencies do not load."""
    beyond = _tops(_loaded(CLIENT)) - _tops(_loaded(DEPENDENCIES))
    assert beyond & (EXTRAS | {"rich", "asyncio"}) == set()


def test_the_client_costs_little_beside_its_dependencies() -> None:
    """The client loads its dependencies and itself: no other package, and no parser of e-mail."""
    beyond = _loaded(f"{DEPENDENCIES}; {CLIENT}") - _loaded(DEPENDENCIES)
    packages = {name for name in _tops(beyond) if name not in sys.stdlib_module_names}
    assert packages <= {"anyio", "qxt_async", "sniffio"}
    assert beyond & {"asyncio", "dataclasses", "email.utils", "subprocess", "unittest"} == set()


def test_the_package_loads_what_is_asked_for() -> None:
    """`import qxt_async` loads nothing of it but itself, and an error only the errors."""
    bare = {"qxt_async", "qxt_async.runtime", "qxt_async.runtime.lazy"}
    assert _ours("import qxt_async") == bare
    assert _ours("import qxt_async; qxt_async.NotSentError") == {*bare, "qxt_async.errors"}


def test_the_command_line_loads_what_is_asked_for() -> None:
    """Of the library, `qxt --help` loads the errors, and not the client."""
    pytest.importorskip("click")
    ours = {name for name in _ours("import qxt_async.cli.program") if not name.startswith("qxt_async.cli")}
    assert ours == {"qxt_async", "qxt_async.errors", "qxt_async.runtime", "qxt_async.runtime.lazy"}


def test_the_client_loads_no_room_that_it_does_not_need() -> None:
    """Receiver, journal, campaigns, simulator and command line are loaded by those who use them."""
    ours = _ours(CLIENT)
    folders = {name.partition(".")[2].partition(".")[0] for name in ours}
    assert folders & {"campaign", "cli", "files", "journal", "receiving", "simulator", "workers"} == set()
    assert "qxt_async.protocol.pushes" not in ours


def test_bitmaps_are_loaded_when_many_numbers_may_be_remembered() -> None:
    """The extra `compact` is loaded by the first memory of many numbers, and not before."""
    pytest.importorskip("pyroaring")
    few = "from qxt_async.protocol.numbers import Deduplicator; Deduplicator(few=True).new(['13800138000'])"
    assert "pyroaring" not in _loaded(few)
    assert "pyroaring" in _loaded(f"{few}; Deduplicator()")
