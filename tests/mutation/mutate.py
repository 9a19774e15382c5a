"""Change the modules on which the promise rests, one place at a time, and see that a test notices each change.

``nox -s mutants``, or ``nox -s mutants -- protocol/answers sending/retry`` for some modules. What survives is printed,
and the share that was killed, not counting the changes that make no difference: those stand in ``equivalent.toml``,
each with its reason. Tests of PostgreSQL, slow ones and what runs in other processes take no part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
AIM = 95  # killed of a hundred that make a difference
TESTS = ("protocol", "sending", "client", "journal", "receiving", "campaign")
RECONCILING = ("campaign/test_reconcile.py", "campaign/test_nothing_proven.py", "campaign/test_store.py")
MODULES = {
    "sending/outcomes": TESTS[:3],
    "sending/dispatcher": TESTS[:3],
    "sending/batch_send": TESTS[:3],
    "sending/claimed": TESTS[:3],
    "protocol/answers": TESTS[:3],
    "protocol/requests": TESTS[:3],
    "journal/evidence": RECONCILING,
    "journal/reconciling": ("journal", "campaign"),
    "journal/matching": ("journal", "campaign"),
    "journal/batches": ("journal", "campaign"),
    "journal/states": RECONCILING,
    "campaign/guard": ("campaign",),
    "sending/recorded": ("sending", "client", "campaign"),
    "sending/keyed": ("client",),
    "journal/sends": ("client", "journal"),
    "sending/retry": TESTS[:3],
    "sending/batching": TESTS[:3],
    "protocol/pushes": ("protocol", "receiving"),
    "campaign/run": ("campaign",),
}


def equivalent() -> dict[str, dict[tuple[str, str], str]]:
    """The changes that make no difference, by module: the line, what is changed into what, and the reason."""
    table = tomllib.loads((ROOT / "tests/mutation/equivalent.toml").read_text(encoding="utf-8"))
    return {module: {(one["line"], one["change"]): one["reason"] for one in ones} for module, ones in table.items()}


def meet(modules: list[str], folders: list[str], folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Have the mutants of some modules meet the tests in some folders."""
    results = folder / "results"
    environment = {
        "QXT_MUTATION_MODULES": " ".join(modules),
        "QXT_MUTATION_RESULTS": str(results),
        "QXT_MUTATION_JOBS": str(jobs),
        "QXT_TEST_QUICK": "1",
        "PYTHONPATH": str(ROOT / "tests"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "mutation.meeting"]
    command += [f"tests/{name}" for name in folders]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def report(module: str, found: list[dict[str, Any]]) -> float:
    """Print what survived, and the share that was killed."""
    harmless, survived, excused = equivalent().get(module, {}), 0, 0
    for one in found:
        if one["outcome"] in ("killed", "hung"):
            continue
        if (one["within"], one["change"]) in harmless:  # what is killed all the same counts as killed
            excused += 1
            continue
        survived += 1
        print(f"{module}.py:{one['line']}: {one['outcome']}: {one['change']}    in    {one['within']}")
    counted = len(found) - excused
    share = 100 * (counted - survived) / max(1, counted)
    print(f"{module}: {counted - survived} of {counted} killed ({share:.1f} %), {excused} equivalent", flush=True)
    return share


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[*MODULES], help="such as protocol/answers")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args()
    if unknown := set(given.modules) - set(MODULES):
        parser.error(f"none of the modules that are changed: {', '.join(sorted(unknown))}")
    os.nice(10)
    shares = []
    groups: dict[tuple[str, ...], list[str]] = {}
    for module in given.modules:
        groups.setdefault(MODULES[module], []).append(module)
    for folders, modules in groups.items():  # what runs the same tests is measured together
        with tempfile.TemporaryDirectory(prefix="qxt-mutation-") as folder:
            found = meet(modules, [*folders], Path(folder), given.jobs)
        for module in modules:
            ours = [one for one in found if one["module"] == module]
            if any(one["outcome"] != "survived" for one in ours if not one["line"]):
                sys.exit(f"{module}: its tests fail, or take too long, though nothing was changed")
            ours = sorted((one for one in ours if one["line"]), key=lambda one: one["line"])
            shares.append(report(module, ours))
    sys.exit(int(min(shares) < AIM))


if __name__ == "__main__":
    main()
