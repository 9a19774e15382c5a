"""Watches over the whole suite: whatever anybody logs, and whatever of ours is raised or made, shows no secret.

A test during which a secret shows, also in a process that it started, fails, unless it says
``@pytest.mark.shows_secrets`` and why. What is looked at stands in `watching`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

import pytest

from support.watch.watching import Watch


def _others() -> IO[str]:
    """Where processes that tests start write what they find."""
    return tempfile.NamedTemporaryFile("r", encoding="utf-8", prefix="canaries-")


class Canaries:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.watch = Watch(self.found.append)
        self._patch = pytest.MonkeyPatch()
        self._others = _others()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Begin to look."""
        config.addinivalue_line("markers", "shows_secrets(why): the test shows a secret on purpose")
        self.watch.start()

    def pytest_collection_finish(self) -> None:
        """Look at what is made of all that the tests have imported, and into the processes that they start."""
        self.watch.look_at_what_is_made(
            module for name, module in [*sys.modules.items()] if name.startswith("qxt_async")
        )
        self._patch.setenv("QXT_CANARIES", self._others.name)
        support = Path(__file__).parent
        paths = os.pathsep.join(map(str, (support / "watch", support.parent)))
        self._patch.setenv("PYTHONPATH", paths, prepend=os.pathsep)

    def pytest_unconfigure(self) -> None:
        """Leave everything as it was."""
        self._patch.undo()
        self.watch.stop()
        self._others.close()

    def take(self) -> list[str]:
        """What was found since it was asked last, here and in other processes."""
        found, self.found[:] = [*self.found, *self._others.read().splitlines()], []
        self.watch.begin_anew()
        return found

    def check(self, item: pytest.Item) -> None:
        """Fail a test that showed a secret."""
        found = self.take()
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
