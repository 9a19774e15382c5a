"""The samples of number files and texts: what is read from them, and what is made of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qxt_async.errors import InvalidTextError, SourceFileError
from qxt_async.files import Template, open_numbers
from qxt_async.protocol.numbers import Deduplicator, NumberFilter
from qxt_async.protocol.texts import bad_characters, encode, segments

SAMPLES = Path(__file__).parents[1] / "samples"
INDEX = tomllib.loads((SAMPLES / "index.toml").read_text(encoding="utf-8"))


def _files(section: str) -> list[Any]:
    """One parameter for each file of a section."""
    return [
        pytest.param(entry, file, id=file)
        for entry in INDEX[section]
        for file in ([entry["file"]] if isinstance(entry["file"], str) else entry["file"])
    ]


def _found(file: str) -> list[list[Any]]:
    """Each number of a file with its line."""
    with open_numbers(SAMPLES / "numbers" / f"{file}.bin") as numbers:
        return [[*each] for block in numbers.blocks() for each in zip(block.numbers, block.lines, strict=True)]


@pytest.mark.parametrize(("entry", "file"), _files("numbers"))
def test_numbers(entry: dict[str, Any], file: str) -> None:
    """Each number of a file has its line, and the mobile ones are admitted in one form; or the file is refused."""
    if "error" in entry:
        with pytest.raises(SourceFileError, match=re.escape(entry["error"])):
            _found(file)
        return
    found = _found(file)
    assert found == entry["found"]
    assert list(NumberFilter(seen=Deduplicator(few=True)).filter([number for number, _ in found])) == entry["admitted"]


def _filled(text: str, row: dict[str, str]) -> str:
    """A text with its row filled in."""
    template = Template.parse(text)
    assert template.columns == tuple(row)
    return template.render([*row.values()])


@pytest.mark.parametrize(("entry", "file"), _files("text"))
def test_texts(entry: dict[str, Any], file: str) -> None:
    """Each text is filled, counted and looked through, or refused."""
    text = (SAMPLES / "texts" / f"{file}.bin").read_bytes().decode()
    row = entry.get("row", {})
    if "error" in entry:
        with pytest.raises(InvalidTextError, match=re.escape(entry["error"])):
            encode(_filled(text, row))
        return
    filled = _filled(text, row)
    assert filled == entry.get("filled", text)
    assert segments(filled) == entry["segments"]
    assert list(dict.fromkeys(bad.character for bad in bad_characters(filled))) == entry.get("bad", [])


def test_every_sample_is_in_the_index() -> None:
    """No sample lies about unused."""
    named = {f"numbers/{p.values[1]}.bin" for p in _files("numbers")}
    named |= {f"texts/{p.values[1]}.bin" for p in _files("text")}
    there = {
        path.relative_to(SAMPLES).as_posix() for kind in ("numbers", "texts") for path in (SAMPLES / kind).iterdir()
    }
    assert named == there
