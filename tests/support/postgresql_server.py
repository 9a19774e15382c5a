"""A PostgreSQL server of the tests' own, from the programs that are installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from support.ports import free_port

# The server refuses to run as root.
ORDINARY_USER = "postgres"


def name_of(address: str) -> str:
    """The name of the database in an address."""
    return plain(address).rpartition("/")[2]


def plain(address: str) -> str:
    """An address as libpq reads it."""
    return address.partition("?")[0]


def programs() -> Path | None:
    """The folder of the newest server that is installed: Debian keeps it off the PATH."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    folders.sort(key=lambda folder: int(folder.parent.name))
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    return folders[-1] if folders else None


class Server:
    """A server on the loopback, with an empty cluster; `stop` and `start` as often as wanted."""

    def __init__(self, binaries: Path, folder: Path, *, durable: bool) -> None:
        self._binaries = binaries
        self._folder = folder
        self._user = ORDINARY_USER if os.getuid() == 0 else None
        self._made = 0
        self._asking = threading.Lock()
        self._administrators: dict[str, psycopg.Connection[tuple[object, ...]]] = {}
        self._run("initdb", "-D", "data", "-U", "qxt", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.port = free_port()
        # One user who needs a password, to see that it is never shown.
        access = folder / "data" / "pg_hba.conf"
        access.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + access.read_text())
        settings = [f"port={self.port}", "listen_addresses='127.0.0.1'", f"unix_socket_directories='{folder}'"]
        settings += ["max_connections=100", "shared_buffers=32MB", "deadlock_timeout=200ms"]
        settings += [] if durable else ["fsync=off", "full_page_writes=off", "autovacuum=off"]
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{setting}\n" for setting in settings)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments],
            cwd=self._folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._run("pg_ctl", "start", "-D", "data", "-w", "-s", "-l", "log")

    def stop(self, mode: str = "immediate") -> None:
        """Stop; ``immediate`` is what a crash is to whoever is connected."""
        try:
            self._run("pg_ctl", "stop", "-D", "data", "-w", "-s", "-m", mode)
        except subprocess.TimeoutExpired:  # seen once in hundreds of times: then without being asked
            with contextlib.suppress(OSError):
                os.kill(int((self._folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            time.sleep(5)  # its children notice, and give the shared memory back

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped with all its children: it keeps its connections, accepts new ones, and answers nothing."""
        first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGSTOP)  # first, so that it makes no more children
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        stopped = [first, *map(int, children)]
        try:
            for process in stopped[1:]:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def address(self, database: str = "postgres", user: str = "qxt") -> str:
        """Where a database is."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the administrator. Two databases are asked so often that their connections are kept."""
        if database not in ("postgres", JOURNALS):
            with psycopg.connect(self.address(database), autocommit=True) as connection:
                return _answer(connection, statement)
        with self._asking:
            try:
                return _answer(self._administrator(database), statement)
            except psycopg.OperationalError:  # the server was stopped, or the connection cut, since it was made
                return _answer(self._administrator(database, anew=True), statement)

    def _administrator(self, database: str, *, anew: bool = False) -> psycopg.Connection[tuple[object, ...]]:
        if anew or database not in self._administrators:
            if kept := self._administrators.pop(database, None):
                kept.close()
            self._administrators[database] = psycopg.connect(self.address(database), autocommit=True)
        return self._administrators[database]

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._administrators:
            self._administrators.popitem()[1].close()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The address of an empty database, which is dropped afterwards, whoever still uses it."""
        self._made += 1
        name = f"test{self._made}"
        self.ask(f"CREATE DATABASE {name}")
        try:
            yield self.address(name) + PATIENT
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def journal(self) -> Iterator[str]:
        """The address of a database in which there may be an empty journal: ten times faster than a new one."""
        if not self.ask(f"SELECT 1 FROM pg_database WHERE datname = '{JOURNALS}'"):
            self.ask(f"CREATE DATABASE {JOURNALS}")
        try:
            yield self.address(JOURNALS) + PATIENT
        finally:
            self.ask(_ALONE, JOURNALS)
            self.ask(_EMPTY, JOURNALS)


JOURNALS = "journals"
# A busy machine is no failure.
PATIENT = "?connect_timeout=15&answer_timeout=120"

_ALONE = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# Where a test has taken a table away, the next one makes all of them anew. Most tables are empty, and most tests write
# a few rows: DELETE takes a tenth of what TRUNCATE takes, which makes each table's files anew.
_EMPTY = """
DO $$
DECLARE
    name text;
    filled boolean;
BEGIN
    IF to_regclass('qxt.reports') IS NULL THEN
        DROP SCHEMA IF EXISTS qxt CASCADE;
        RETURN;
    END IF;
    SET LOCAL session_replication_role = replica;  -- foreign keys are not looked after
    FOR name IN
        SELECT 'qxt.' || quote_ident(tablename) FROM pg_tables
        WHERE schemaname = 'qxt' AND tablename NOT IN ('schema_version', 'reconciled', 'matched')
    LOOP
        EXECUTE 'SELECT EXISTS (SELECT FROM ' || name || ')' INTO filled;
        IF filled THEN
            EXECUTE 'DELETE FROM ' || name;
        END IF;
    END LOOP;
    PERFORM setval(format('%I.%I', schemaname, sequencename), start_value, false)
    FROM pg_sequences WHERE schemaname = 'qxt' AND last_value IS NOT NULL;
    UPDATE qxt.reconciled SET cursor = 0;
    UPDATE qxt.matched SET cursor = 0;
    INSERT INTO qxt.campaigns (id, name, state, created_at, changed_at) OVERRIDING SYSTEM VALUE
    VALUES (0, '', 'done', 0, 0);
END $$
"""


def _answer(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> list[tuple[object, ...]]:
    cursor = connection.execute(statement.encode())
    return cursor.fetchall() if cursor.description else []


# Reads until whoever started it is gone, in whichever way, then leaves nothing behind.
_GUARD = 'read -r _; "$1/pg_ctl" stop -D "$2/data" -m immediate -s; rm -rf "$2"'


@contextmanager
def server(binaries: Path, *, durable: bool = False) -> Iterator[Server]:
    """Run a server until the block ends, or the process does.

    Args:
        binaries: from `programs`.
        durable: flush to the disk, as a real one does.
    """
    # Not below pytest's own folder: that is closed to the user whom the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="qxt-postgresql-"))
    user = ORDINARY_USER if os.getuid() == 0 else None
    if user is not None:
        ordinary = pwd.getpwnam(user)
        os.chown(folder, ordinary.pw_uid, ordinary.pw_gid)
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "sh", str(binaries), str(folder)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        start_new_session=True,
    )
    with guard:
        running = Server(binaries, folder, durable=durable)
        running.start()
        try:
            yield running
        finally:
            running.close()
        # Leaving the block closes the guard's standard input, and waits for it.
