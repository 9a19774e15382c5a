"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.canaries import Canaries
from support.offline import refuse_sockets
from support.postgresql_server import Server, programs, server

# The same examples each time: whether the suite passes is no matter of luck. `nox -s newer` takes others, and more. A
# busy machine is no failure; what an example may cost is the test's timeout.
settings.register_profile("qxt", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=25)
settings.register_profile("random", deadline=None, max_examples=200, print_blob=True)
settings.load_profile(os.environ.get("QXT_TEST_EXAMPLES") or ("quick" if os.environ.get("QXT_TEST_QUICK") else "qxt"))


def pytest_configure(config: pytest.Config) -> None:
    """Let no test show a secret, and let Ctrl-C be heard by the processes that tests start."""
    config.pluginmanager.register(Canaries(), "canaries")
    if os.environ.get("QXT_TEST_OFFLINE"):
        refuse_sockets()
    # A shell lets what it runs in the background ignore it, and whoever ignores it hands that on.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, or one process is still at it when the others have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Let no later garbage collection go through all that the tests have imported: that takes 0.1 s each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each asynchronous test on asyncio and on trio."""
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that takes a `store` on every form of the journal; the one on PostgreSQL knows asyncio only.

    Not where a module has a `store` of its own: its tests are for that one.
    """
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    chosen = hasattr(metafunc.module, "store") or any("store" in names for names in given)
    if "store" not in metafunc.fixturenames or chosen:
        return
    # As marks: they go before the parameters that the fixture of that name has.
    if "anyio_backend" in metafunc.fixturenames and not any("anyio_backend" in names for names in given):
        forms = [("asyncio", "sqlite"), ("trio", "sqlite"), ("asyncio", "postgresql")]
        mark = pytest.mark.parametrize(("anyio_backend", "store"), forms, indirect=["store"])
    else:
        mark = pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
    metafunc.definition.add_marker(mark)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a journal of the test's own may be, for `open_journal`: in a file, and in PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "qxt.db")
    return request.getfixturevalue("journals")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server of this process's own."""
    binaries = programs()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with server(binaries) as running:
        yield running


@pytest.fixture
def database(postgresql: Server) -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    with postgresql.database() as address:
        yield address


@pytest.fixture
def journals(postgresql: Server) -> Iterator[str]:
    """The address of a PostgreSQL database for one journal, which nobody has written into."""
    with postgresql.journal() as address:
        yield address
