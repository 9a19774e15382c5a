"""The fuzzing targets without the fuzzer: each holds on what it would begin with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

TARGETS = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_accepted(name: str) -> None:
    """Each seed, and each seed cut short at every place, passes the target's checks."""
    target = import_module(f"fuzz.{name}")
    seeds = set(target.seeds())
    assert len(seeds) > 20
    for seed in seeds:
        target.check(seed)
        for end in range(0, len(seed), 7):
            target.check(seed[:end])


def test_there_are_four_targets() -> None:
    """Answers, number files, pushes and templates are fuzzed."""
    assert TARGETS == ["fuzz_answers", "fuzz_numbers", "fuzz_pushes", "fuzz_templates"]
