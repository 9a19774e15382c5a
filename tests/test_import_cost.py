"""What importing the package costs: nothing that is not needed."""

from __future__ import annotations

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

# What httpx itself imports where it is installed, whether or not it is used.
BROUGHT_BY_HTTPX = {"click", "rich", "trio"}


def _loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some code."""
    program = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def _tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_the_package_loads_no_extra() -> None:
    """`import qxt_async` loads none of the extras, nor rich, nor a database, beyond what httpx loads of its own."""
    beyond = _tops(_loaded("import qxt_async")) - _tops(_loaded("import httpx, anyio, attrs"))
    assert beyond & (EXTRAS | {"rich", "asyncio"}) == set()


def test_what_httpx_loads_of_its_own_is_known() -> None:
    """The allowance above is as small as it can be."""
    beyond = _tops(_loaded("import qxt_async")) - _tops(_loaded(""))  # what measures coverage is there anyway
    assert beyond & (EXTRAS | {"rich"}) <= BROUGHT_BY_HTTPX


def test_the_package_loads_no_room_that_it_does_not_export() -> None:
    """Receiver, journal, campaigns, simulator and command line are loaded by those who use them."""
    loaded = {name for name in _loaded("import qxt_async") if name.startswith("qxt_async.")}
    rooms = {name.split(".")[1] for name in loaded}
    assert rooms & {"campaign", "cli", "cluster", "journal", "receiver", "simulator", "tracking"} == set()


def test_bitmaps_are_loaded_when_numbers_are_remembered() -> None:
    """The extra `compact` is loaded by the first memory of numbers, and not before."""
    pytest.importorskip("pyroaring")
    before = "from qxt_async.phones import Intake, SeenNumbers; Intake().admit(['13800138000'])"
    assert "pyroaring" not in _loaded(before)
    assert "pyroaring" in _loaded(f"{before}; SeenNumbers()")
