"""Arrows run downward only: who imports whom, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qxt_async

PACKAGE = Path(qxt_async.__file__).parent

# Each may import what stands before it.
HOUSE = [
    "errors",
    "clocks",
    "tasks",
    "signals",
    "values",
    "words",
    "models",
    "phones",
    "texts",
    "pushes",
    "redaction",
    "wire",
    "columns",
    "templates",
    "spreadsheets",
    "sources",
    "batching",
    "retrying",
    "pacing",
    "transports",
    "settings",
    "sending",
    "bulk",
    "client",
    "campaign",
    "cluster",
    "cli",
]

# Beside the house: what each of these may import, and nothing more.
ROOMS = {
    "journal": {"errors", "clocks", "tasks", "models", "phones", "texts", "pushes"},
    "receiver": {"errors", "tasks", "models", "phones", "pushes", "journal"},
    "tracking": {"errors", "models", "phones", "pushes", "journal", "receiver"},
    "simulator": {"models"},
}
# Where a room may be entered from the house.
ENTRANCES = {
    "campaign": {"journal", "tracking"},
    "cluster": {"journal", "tracking"},
    "cli": {*ROOMS},
}

CLIENT_PLUGIN = PACKAGE / "simulator" / "plugin.py"

HTTP_LIBRARIES = {
    "httpx": {"transports/httpx.py", "simulator/over_httpx.py"},
    "httpx2": {"transports/httpx2.py"},
    "aiohttp": {"transports/aiohttp.py"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def _room(module: str) -> str:
    """The first part below the package: the room that a module is in; the package itself stands for all it exports."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "client"


def _only_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports when it runs, wherever in the file, with its whole name."""
    inside = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    package = inside[:-1]

    def walk(nodes: list[ast.stmt]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    named = PACKAGE.parent.joinpath(*source.split("."), alias.name)
                    is_module = named.is_dir() or named.with_suffix(".py").exists()
                    yield f"{source}.{alias.name}" if is_module else source
            else:
                children = ast.iter_child_nodes(node)
                if _only_for_types(node):
                    children = iter(node.orelse)  # type: ignore[attr-defined]
                yield from walk([*children])  # type: ignore[list-item]

    yield from walk(ast.parse(path.read_text(encoding="utf-8")).body)


def _allowed(room: str) -> set[str]:
    if room in ROOMS:
        return {room, *ROOMS[room]}
    return {*HOUSE[: HOUSE.index(room) + 1], *ENTRANCES.get(room, ())}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_import_only_what_stands_below(path: Path) -> None:
    """A module imports only rooms below its own; what is only for type checkers does not count."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        room = {"__init__": "client", "__main__": "cli"}[room]
    assert room in HOUSE or room in ROOMS, f"say in this test where {room} stands"
    allowed = _allowed(room)
    if path == CLIENT_PLUGIN:
        allowed |= {"client"}

    ours = {name for name in _imports(path) if name.split(".")[0] == "qxt_async"}

    assert {name for name in ours if _room(name) not in allowed} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_http_libraries_are_imported_in_one_place_each(path: Path) -> None:
    """Only its transport, and one module of the simulator, import an HTTP library."""
    here = path.relative_to(PACKAGE).as_posix()
    for name in _imports(path):
        places = HTTP_LIBRARIES.get(name.split(".")[0])
        assert places is None or here in places, f"{here} imports {name}"


def test_nobody_knows_the_command_line() -> None:
    """Nothing but the command line imports the command line."""
    knowing = {
        path.relative_to(PACKAGE).parts[0]
        for path in MODULES
        for name in _imports(path)
        if name.startswith("qxt_async.") and _room(name) == "cli"
    }
    assert knowing <= {"cli", "__main__.py"}


def test_the_reading_of_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk sees absolute, relative and late imports, and passes over what is only for types."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "qxt_async")
    room = tmp_path / "qxt_async" / "room"
    room.mkdir(parents=True)
    (tmp_path / "qxt_async" / "errors.py").touch()
    (room / "near.py").touch()
    (room / "here.py").write_text(
        "import os, httpx.x\n"
        "from qxt_async import errors, NAME\n"
        "from . import near\n"
        "from .near import thing\n"
        "from ..errors import E\n"
        "def f():\n    try:\n        from qxt_async.cli import main\n    except ImportError:\n        import late\n"
        "if TYPE_CHECKING:\n    import never\nelse:\n    import otherwise\n",
        encoding="utf-8",
    )
    assert set(_imports(room / "here.py")) == {
        "os",
        "httpx.x",
        "qxt_async.errors",
        "qxt_async",
        "qxt_async.room.near",
        "qxt_async.cli",
        "late",
        "otherwise",
    }
