"""A pytest plugin: instead of running the tests, have each mutant meet the tests that run its line.

The tests are collected once. A forked process runs each of them, to know which lines it runs and how long it takes.
Then each mutant has a forked process of its own, in which the functions of the module get the mutant's code: nothing is
imported again. What is changed outside of functions is met by a new process, which imports the mutant.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import attrs
import coverage
import pytest
from mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
SECONDS = 15.0  # of tests that a mutant meets at most, as they take without it
NOTHING = "nothing"
HANG = 15.0  # seconds that each test may take, and ten times what it takes without the mutant
MEMORY = 4 << 30  # bytes of addresses: a mutant that fills the memory is stopped


class _Mutated:
    """Finds the mutant when its module is imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != os.environ["QXT_MUTANT_MODULE"]:
            return None
        return importlib.util.spec_from_file_location(name, os.environ["QXT_MUTANT"])


if "QXT_MUTANT" in os.environ:
    sys.meta_path.insert(0, _Mutated())


def needs_postgresql(item: pytest.Item) -> bool:
    """Whether a test takes a PostgreSQL server: too slow for thousands of mutants."""
    return "postgresql" in item.nodeid or "postgresql" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that are too slow."""
    items[:] = [item for item in items if not needs_postgresql(item) and not item.get_closest_marker("slow")]


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Meet the mutants instead of running the tests."""
    if "QXT_MUTANT" in os.environ:
        return None
    results = Path(os.environ["QXT_MUTATION_RESULTS"])
    modules = os.environ["QXT_MUTATION_MODULES"].split()
    Meeting(session, results, modules).run()
    return True


def _run(session: pytest.Session, items: list[pytest.Item]) -> Iterator[pytest.Item]:
    for item, following in zip(items, [*items[1:], None], strict=True):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        yield item


@attrs.define
class _Child:
    module: str
    mutant: Mutant
    ends: mmap.mmap  # shared: the process notes when the test that it runs must have ended

    def allow(self, seconds: float) -> None:
        """Let it go on for so long."""
        self.ends[:8] = struct.pack("d", time.monotonic() + seconds)

    def is_late(self) -> bool:
        return time.monotonic() > float(struct.unpack("d", self.ends[:8])[0])


class Meeting:
    """The mutants of some modules, and the tests."""

    def __init__(self, session: pytest.Session, results: Path, modules: list[str]) -> None:
        self._session = session
        self._results = results
        self._modules = {name: ROOT / "qxt_async" / f"{name}.py" for name in modules}
        self._items = {item.nodeid: item for item in session.items}
        self._children: dict[int, _Child] = {}
        self._jobs = int(os.environ["QXT_MUTATION_JOBS"])

    def run(self) -> None:
        """Measure, then meet."""
        lines, seconds = self._measured()
        for module, file in self._modules.items():
            source, ran = file.read_text(encoding="utf-8"), lines[module]
            # What changes nothing has to survive, or what is killed means nothing.
            nothing = [Mutant(0, 0, None, "", change, source) for change in (NOTHING, "nothing, imported")]
            for mutant in (*nothing, *mutants(source)):
                tests = self._tests(mutant, ran, seconds)
                while len(self._children) >= self._jobs:
                    self._wait()
                if tests:
                    self._start(module, source, mutant, {test: seconds[test] for test in tests})
                else:
                    self._told(module, mutant, "no test")
        while self._children:
            self._wait()

    def _tests(self, mutant: Mutant, ran: dict[int, list[str]], seconds: dict[str, float]) -> list[str]:
        first, last = mutant.function or (0, max(ran, default=0))
        near = range(mutant.line, mutant.end + 1)
        found = {test for line in near for test in ran.get(line, ())} if mutant.function else set()
        found = found or {test for line in range(first, last + 1) for test in ran.get(line, ())}
        chosen: list[str] = []
        total = 0.0
        for test in sorted(found, key=lambda test: seconds[test]):
            total += seconds[test]
            if chosen and total > SECONDS:
                break
            chosen.append(test)
        return chosen

    def _measured(self) -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
        kept = self._results.with_suffix(".lines")
        if not kept.exists():
            child = os.fork()
            if not child:
                self._measure(kept)
                os._exit(0)
            os.waitpid(child, 0)
        lines, seconds = json.loads(kept.read_text(encoding="utf-8"))
        return {module: {int(line): tests for line, tests in ran.items()} for module, ran in lines.items()}, seconds

    def _measure(self, kept: Path) -> None:
        _silence()
        measured = coverage.Coverage(data_file=None, config_file=False, include=[*map(str, self._modules.values())])
        seconds: dict[str, float] = {}
        failed = self._session.testsfailed
        measured.start()
        began, items = time.perf_counter(), self._session.items
        if items:
            measured.switch_context(items[0].nodeid)
        for item, following in zip(_run(self._session, items), [*items[1:], None], strict=True):
            if self._session.testsfailed == failed:  # what fails without a mutant kills none
                seconds[item.nodeid] = time.perf_counter() - began
            failed = self._session.testsfailed
            measured.switch_context(following.nodeid if following else "")
            began = time.perf_counter()
        measured.stop()
        lines = {
            module: {
                line: [test for test in tests if test in seconds]
                for line, tests in measured.get_data().contexts_by_lineno(str(file)).items()
            }
            for module, file in self._modules.items()
        }
        kept.write_text(json.dumps([lines, seconds]), encoding="utf-8")

    def _start(self, module: str, source: str, mutant: Mutant, tests: dict[str, float]) -> None:
        child = _Child(module, mutant, mmap.mmap(-1, 8))
        in_all = sum(tests.values())
        child.allow(3 * HANG + 10 * in_all)
        number = os.fork()
        if number:
            self._children[number] = child
            return
        code = 1  # whatever goes wrong here is the mutant's doing
        try:
            os.setpgid(0, 0)
            _silence()
            resource.setrlimit(resource.RLIMIT_CPU, (int(10 + 5 * in_all),) * 2)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if mutant.change == NOTHING or (
                mutant.function and _exchange(str(self._modules[module]), source, mutant.source)
            ):
                code = self._meet(child, tests)
            else:
                code = self._imported(module, mutant, [*tests])
        finally:
            os._exit(code)

    def _meet(self, child: _Child, tests: dict[str, float]) -> int:
        each = [*tests.values(), 0.0]
        child.allow(HANG + 10 * each[0])
        items = [self._items[test] for test in tests]
        for _, following in zip(_run(self._session, items), each[1:], strict=False):
            if self._session.testsfailed:
                return 1
            child.allow(HANG + 10 * following)
        return 0

    def _imported(self, module: str, mutant: Mutant, tests: list[str]) -> int:
        file = self._results.with_name(f"mutant-{os.getpid()}.py")
        file.write_text(mutant.source, encoding="utf-8")
        name = f"qxt_async.{module.replace('/', '.')}"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--assert=plain",
            "-p",
            "no:cacheprovider",
            "-p",
            "mutation.meeting",
            *tests,
        ]
        environment = {**os.environ, "QXT_MUTANT": str(file), "QXT_MUTANT_MODULE": name}
        return int(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0)

    def _wait(self) -> None:
        """Wait until a mutant has met its tests; one that hangs is killed."""
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child in self._children:
                ended = self._children.pop(child)
                hung = os.WIFSIGNALED(status)
                self._told(ended.module, ended.mutant, "hung" if hung else "killed" if status else "survived")
                return
            for number, running in self._children.items():
                if running.is_late():
                    os.killpg(number, signal.SIGKILL)
            time.sleep(0.01)

    def _told(self, module: str, mutant: Mutant, outcome: str) -> None:
        self._note(module=module, line=mutant.line, within=mutant.within, change=mutant.change, outcome=outcome)

    def _note(self, **result: object) -> None:
        with self._results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield part
            yield from _codes(part)


def _exchange(file: str, before: str, after: str) -> bool:
    """Give the functions of a module the code of a mutant; false if a function cannot take it."""
    old, new = (compile(text, file, "exec", dont_inherit=True) for text in (before, after))
    by_place: dict[tuple[str, int], list[types.CodeType]] = {}
    for code in _codes(new):
        by_place.setdefault((code.co_qualname, code.co_firstlineno), []).append(code)
    changed: dict[Any, types.CodeType] = {}
    for code in _codes(old):
        there = by_place.get((code.co_qualname, code.co_firstlineno))
        if there and (other := there.pop(0)) != code:
            changed[code] = other
    gc.unfreeze()
    done = False
    functions = [one for one in gc.get_objects() if isinstance(one, types.FunctionType)]
    for function in functions:
        code = changed.get(function.__code__) if function.__code__.co_filename == file else None
        if code is not None:
            try:
                function.__code__ = code
            except ValueError:  # it closes over other names
                return False
            done = True
    gc.freeze()
    return done
