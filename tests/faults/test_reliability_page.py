"""The page on reliability says what the tests are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from faults.test_fault_matrix import as_markdown

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_table_is_the_matrix() -> None:
    """Row by row what the tests expect; `as_markdown` makes it."""
    assert f"\n\n{as_markdown()}\n\n" in PAGE


def test_every_row_is_shown() -> None:
    """Each in one of the tables."""
    assert {int(row) for row in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == {*range(1, 42)}


def test_every_test_that_is_named_exists() -> None:
    """A test that was renamed or deleted shows nothing any more."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 30
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{path}::{name}"
