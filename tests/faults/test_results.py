"""The table of what each meeting came to."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fault_results as results


def test_meetings_are_counted_by_row_library_and_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted is in the table; without a directory nothing is noted."""
    monkeypatch.delenv("QXT_FAULT_RESULTS", raising=False)
    results.note(3, "closed", "send", "httpx", "unknown")
    monkeypatch.setenv("QXT_FAULT_RESULTS", str(tmp_path))
    for call, library, outcome in (
        ("send", "httpx", "unknown"),
        ("campaign", "httpx", "unknown"),
        ("send", "httpx", "accepted"),
        ("send", "aiohttp", "unknown"),
    ):
        results.note(3, "closed", call, library, outcome)
    assert results.as_markdown(tmp_path).splitlines()[2:] == [
        "| 3 | closed | 1 accepted, 2 unknown |  | 1 unknown |",
        "",
        "4 meetings.",
    ]
