"""What the pages on security say of the code as a whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("security.md", "security-of-files.md")]
SOURCES = sorted((ROOT / "qxt_async").rglob("*.py"))
RUNS = {
    "subprocess",
    "pickle",
    "marshal",
    "shelve",
    "multiprocessing",
    "ctypes",
    "runpy",
    "code",
    "telnetlib",
    "ftplib",
}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "spawnv", "execv"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_library_runs_nothing_that_it_is_given(path: Path) -> None:
    """No module starts a process, evaluates a text or unpickles anything."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {name.name.partition(".")[0] for name in node.names} & RUNS
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").partition(".")[0] not in RUNS
        elif isinstance(node, ast.Call):
            by_name = node.func.id if isinstance(node.func, ast.Name) else None
            by_owner = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("os", "builtins")
                else None
            )
            assert not {by_name, by_owner} & CALLS


def test_every_test_that_the_pages_name_is_there() -> None:
    """A claim names files that exist; each line of its tables names one, or says what does not stop anybody."""
    page = "\n".join(PAGES)
    named = re.findall(r"`(tests/[\w/.]+)`", page)
    assert len(set(named)) > 20
    for name in named:
        assert (ROOT / name).exists(), name
    for line in page.splitlines():
        if line.startswith("| ") and not line.startswith(("| Attack |", "|---")):
            _, _, stops, does_not, _ = re.split(r"(?<!\\)\|", line)
            assert "tests/" in stops or does_not.strip(), line
