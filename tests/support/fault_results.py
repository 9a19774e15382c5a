"""What each meeting with a fault came to: noted while the matrix runs, and printed as a table afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

LIBRARIES = ("httpx", "httpx2", "aiohttp")


def note(number: int, fault: str, call: str, library: str, outcome: str) -> None:
    """Append a line to this process's file in the directory ``QXT_FAULT_RESULTS``, if there is one."""
    if directory := os.environ.get("QXT_FAULT_RESULTS"):
        line = {"row": number, "fault": fault, "call": call, "library": library, "outcome": outcome}
        with (Path(directory) / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def as_markdown(directory: Path) -> str:
    """How often each row was met on each library, and how often that came to what."""
    met: dict[tuple[int, str], dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            met[one["row"], one["fault"]][one["library"]][one["outcome"]] += 1
    lines = [f"| # | fault | {' | '.join(LIBRARIES)} |", "|---|---|---|---|---|"]
    for (number, fault), counts in sorted(met.items()):
        cells = [
            ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts[library].items()))
            for library in LIBRARIES
        ]
        lines.append(f"| {number} | {fault} | {' | '.join(cells)} |")
    total = sum(count.total() for counts in met.values() for count in counts.values())
    return "\n".join([*lines, "", f"{total:,} meetings."])


if __name__ == "__main__":
    print(as_markdown(Path(sys.argv[1])))
