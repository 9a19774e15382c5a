"""The public names: adding one is a decision, losing one breaks somebody."""

from __future__ import annotations

import ast
import importlib
import inspect
from types import ModuleType

import pytest

import qxt_async
from qxt_async import errors, models

PACKAGES = [
    importlib.import_module(f"qxt_async{name}")
    for name in (
        "",
        ".campaign",
        ".files",
        ".journal",
        ".protocol",
        ".receiving",
        ".simulator",
        ".transports",
        ".workers",
    )
]


def _imported_for_type_checkers(package: ModuleType) -> set[str]:
    """The names that a package imports ``as`` themselves, which makes them public for type checkers."""
    tree = ast.parse(inspect.getsource(package))
    imported = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {alias.name for alias in imported if alias.asname == alias.name}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_names_for_type_checkers_are_the_names_at_run_time(package: ModuleType) -> None:
    """Where a package imports its names on first use, what type checkers see is what there is."""
    imported = _imported_for_type_checkers(package)
    assert not imported or imported == set(package.__all__)


def test_every_error_and_value_is_exported() -> None:
    """The package exports every error and every value, so that nobody needs its modules."""
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert classes | set(models.__all__) <= set(qxt_async.__all__)


def test_public_names_exist_and_say_what_they_are() -> None:
    """Every exported name is there, and every class and function has a docstring."""
    for package in PACKAGES:
        for name in package.__all__:
            value = getattr(package, name)
            assert not callable(value) or value.__doc__, name


def test_names_are_listed_before_they_are_loaded() -> None:
    """`dir()` has every exported name, and a name that does not exist is an ordinary `AttributeError`."""
    assert set(dir(qxt_async)) >= set(qxt_async.__all__)
    with pytest.raises(AttributeError, match="module 'qxt_async' has no attribute 'Client'"):
        qxt_async.Client  # noqa: B018


def test_all_names_are_imported_by_a_star() -> None:
    """`from qxt_async import *` brings all of them."""
    names: dict[str, object] = {}
    exec("from qxt_async import *", names)
    assert set(names) >= {"QxtClient", "NotSentError", "SentBatch"}


def test_names_are_unique() -> None:
    """Nothing is exported twice."""
    assert len(set(qxt_async.__all__)) == len(qxt_async.__all__)


def test_the_version_is_one() -> None:
    """The version has three numbers."""
    assert len([int(part) for part in qxt_async.__version__.split(".")]) == 3
