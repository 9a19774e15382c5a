"""No test reaches into a module of the library: what a test has to adjust has a public name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(path for path in TESTS.rglob("*.py") if path.parent.name != "typing")
LIBRARY = "qxt_async"


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _modules(tree: ast.Module) -> set[str]:
    """The names under which a file knows modules and classes of the library."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(LIBRARY):
            bound.update(each.asname or each.name for each in node.names)
        if isinstance(node, ast.Import):
            bound.update(each.asname or LIBRARY for each in node.names if each.name.startswith(LIBRARY))
    return bound


def reached(source: str) -> Iterator[str]:
    """Private names of the library that a file imports, patches, sets, or reads from a module or a class."""
    tree = ast.parse(source)
    bound = _modules(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(LIBRARY):
            yield from (each.name for each in node.names if _private(each.name))
        elif isinstance(node, ast.Attribute) and _private(node.attr):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            name = root.id if isinstance(root, ast.Name) else ""
            if name in bound or (isinstance(node.ctx, ast.Store) and name not in {"self", "cls"}):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
            "setattr",
            "delattr",
        }:
            names = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
            words = [name for name in names if isinstance(name, str)]
            # What the first argument names may be another library's.
            if any(_private(word.rpartition(".")[2]) for word in words if "." not in word or word.startswith(LIBRARY)):
                yield ast.unparse(node)


def test_no_private_name_is_reached() -> None:
    """No file imports, patches, sets or reads a private name of a module of the library."""
    found = {path.relative_to(TESTS).as_posix(): [*reached(path.read_text(encoding="utf-8"))] for path in FILES}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from qxt_async.journal.limits import _TURN",
        "limits._TURN",
        "limits._TURN = 1",
        "limits.Queue._turn",
        "queue._turn = 1",
        "monkeypatch.setattr(limits, '_TURN', 1)",
        "monkeypatch.setattr('qxt_async.journal.limits._TURN', 1)",
        "setattr(queue, '_turn', 1)",
    ],
)
def test_each_way_is_found(line: str) -> None:
    """However it is reached."""
    assert list(reached(f"from qxt_async.journal import limits\n{line}\n"))


@pytest.mark.parametrize(
    "line",
    [
        "limits.TURN",
        "self._queue = 1",
        "queue._turn",
        "monkeypatch.setattr(limits, 'TURN', 1)",
        "monkeypatch.setattr('click.testing._Stream.isatty', 1)",
    ],
)
def test_nothing_else_is(line: str) -> None:
    """Public names, a test's own, and another library's."""
    assert not list(reached(f"from qxt_async.journal import limits\n{line}\n"))
