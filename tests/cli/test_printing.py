"""What commands print."""

from __future__ import annotations

import io
import json
import sys

import pytest
from support.command_line import Run

from qxt_async.cli.printing import json_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("四\u3000川 €", "四\u3000川 €"),
        ("a\x1b[2J\x9b2J", r"a\u001b[2J\u009b2J"),
        ("\u202e\ud800\n", r"\u202e\ud800\n"),
        ("\U000e0001", r"\udb40\udc01"),
    ],
    ids=["readable", "control", "direction", "astral"],
)
def test_json_has_characters_as_they_are(text: str, shown: str) -> None:
    """Only what could steer a terminal is escaped, and a reader of JSON gets the same text back."""
    line = json_line({"text": text})
    assert line == f'{{"text": "{shown}"}}'
    assert json.loads(line) == {"text": text}


def test_json_fits_into_the_charset_of_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What GBK lacks is escaped, and then everything but ASCII is, rather than lost."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="gbk"))
    assert json_line("四") == '"四"'
    assert json_line("四€😀") == r'"\u56db\u20ac\ud83d\ude00"'


def test_every_command_prints_json_like_that(run: Run, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note, a character that GBK lacks and a campaign's name are readable."""
    monkeypatch.setenv("QXT_JOURNAL", f"{tmp_path}/qxt.db")
    run("suppressed", "add", "13800138000", "--note", "电话")
    assert '"note": "电话"' in run("suppressed", "list", "--json").stdout
    checked = run("check", "-", "--text", "【四】€", "--json", stdin=b"13800138001")
    assert '"character": "€"' in checked.stdout
    planned = run("campaign", "plan", "-", "--text", "【四】", "--name", "四月", "--json", stdin=b"13800138001")
    assert '"name": "四月"' in planned.stdout
    assert '"name": "四月"' in run("campaign", "list", "--json").stdout
