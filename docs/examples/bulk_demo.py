"""A bulk send from end to end: a real file of 100,000 numbers, a real server, real processes.

Starts ``qxt simulate`` on a free port of the loopback, sends the file to it with ``qxt bulk``, and asks the simulator
what it took. Exits with an error if both do not agree about every number.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

QXT = [sys.executable, "-m", "qxt_async"]
TEXT = "【Acme】您的包裹已到达，请凭取件码领取。"
LINES = 100_000
EVERY_INVALID, EVERY_REPEATED = 500, 250


def write_numbers(path: Path) -> tuple[set[str], int, int]:
    """Write a CSV file of invented numbers; return the valid ones, and the counts of invalid and repeated lines."""
    shuffled = random.Random(1).sample(range(LINES), LINES)
    valid: list[str] = []
    invalid = repeated = 0
    with path.open("w", encoding="gbk") as file:
        file.write("姓名,手机号\n")
        for line, suffix in enumerate(shuffled, 1):
            number = f"138001{suffix:05}"
            if line % EVERY_INVALID == 0:
                number, invalid = number[:-1], invalid + 1
            elif line % EVERY_REPEATED == 1 and valid:
                number, repeated = f"+86 {valid[line // 2]}", repeated + 1
            else:
                valid.append(number)
            file.write(f"客户{line},{number}\n")
    return set(valid), invalid, repeated


@contextmanager
def simulator(environment: dict[str, str]):
    """Run ``qxt simulate`` as a process of its own; yields its address."""
    command = [*QXT, "simulate", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as it:
        try:
            first = it.stderr.readline()
            if not first.startswith("listening on "):
                sys.exit(f"the simulator did not start: {first}{it.stderr.read()}")
            yield first.removeprefix("listening on ").strip()
        finally:
            it.terminate()
            it.stderr.read()


def ask(url: str, what: str) -> bytes:
    """Ask the simulator, past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/_simulator/{what}", timeout=30) as answer:
        return answer.read()


def show(*rows: tuple[str, object]) -> None:
    """Print names and values in two columns."""
    for name, value in rows:
        print(f"  {name:<28}{value:>12,}" if isinstance(value, int) else f"  {name:<28}{value}")


def main() -> None:
    """Do it."""
    began = time.monotonic()
    sys.stdout.reconfigure(errors="replace")  # a terminal need not know ✓
    environment = {**os.environ, "QXT_USER": "demo", "QXT_PASSWORD": "a made-up password"}
    environment.pop("QXT_PASSWORD_MD5", None)
    with tempfile.TemporaryDirectory() as folder, simulator(environment) as url:
        path = Path(folder) / "numbers.csv"
        valid, invalid, repeated = write_numbers(path)
        print(f"a GBK file of {LINES:,} lines, {path.stat().st_size:,} bytes; a gateway at {url}")
        print(f'$ qxt bulk {path.name} --column 手机号 --text "{TEXT}" --json', flush=True)
        sent = subprocess.run(
            [*QXT, "bulk", str(path), "--column", "手机号", "--text", TEXT, "--json"],
            env={**environment, "QXT_BASE_URL": url},
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            check=False,
        )
        if sent.returncode != 0:
            sys.exit(f"qxt bulk ended with {sent.returncode}")
        counts = json.loads(sent.stdout)
        mids = counts["mids"]
        print("\nqxt bulk says")
        show(*((name, counts[name]) for name in ("accepted", "failed", "unknown", "invalid", "duplicates")))
        show(("mids", len(mids)), ("", f"{', '.join(mids[:3])} … {mids[-1]}"))
        show(("numbers a second", int(counts["accepted"] / counts["elapsed"])))

        stats = json.loads(ask(url, "stats"))
        taken = Counter({each["number"]: each["times"] for each in map(json.loads, ask(url, "taken").splitlines())})
        taken_mids = {json.loads(line)["mid"] for line in ask(url, "sends?limit=1000").splitlines()}
        print("\nthe gateway says")
        show(*((name.replace("_", " "), stats[name]) for name in ("sends", "taken", "taken_more_than_once")))

        print("\nnumber by number")
        checks = {
            f"each of {len(valid):,} numbers was taken once": taken == Counter(valid),
            "nothing else was taken": set(taken) <= valid and stats["taken"] == len(valid),
            "what was taken is what was accepted": counts["accepted"] == stats["taken"],
            "nothing failed, nothing is unknown": counts["failed"] == counts["unknown"] == 0,
            "both have the same mids": set(mids) == taken_mids and len(mids) == len(taken_mids),
            f"{invalid:,} invalid and {repeated:,} repeated left out": (counts["invalid"], counts["duplicates"])
            == (invalid, repeated),
        }
        for claim, holds in checks.items():
            print(f"  {'✓' if holds else '✗'} {claim}")
        print(f"\n{time.monotonic() - began:.1f} s in all")
        if not all(checks.values()):
            sys.exit("the two do not agree")


if __name__ == "__main__":
    main()
