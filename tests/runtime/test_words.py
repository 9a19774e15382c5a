"""Counts and shares in words."""

from __future__ import annotations

import pytest

from qxt_async.runtime.words import missing_extra, plural, share


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [(0, "batch", "0 batches"), (1, "batch", "1 batch"), (1200, "batch", "1,200 batches"), (1, "number", "1 number"),
     (2, "number", "2 numbers")],
)  # fmt: skip
def test_one_is_singular(count: int, noun: str, words: str) -> None:
    """One batch is not "1 batches", and thousands are separated."""
    assert plural(count, noun) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (0, 0, "–"),
        (0, 7, "0 %"),
        (7, 7, "100 %"),
        (3, 19_949, "< 0.1 %"),
        (1, 1_000_000, "< 0.1 %"),
        (1, 1000, "0.1 %"),
        (1499, 1_000_000, "0.1 %"),
        (1500, 1_000_000, "0.2 %"),
        (2, 3, "66.7 %"),
        (999, 1000, "99.9 %"),
        (9999, 10_000, "> 99.9 %"),
        (19_946, 19_949, "> 99.9 %"),
    ],
)
def test_a_share_is_0_only_for_nothing_and_100_only_for_all(part: int, whole: int, words: str) -> None:
    """Three of 19,949 are less than 0.1 %, not 0.1 % and not 0 %; all but three are more than 99.9 %."""
    assert share(part, whole) == words


def test_a_missing_extra_is_installed_from_the_checkout() -> None:
    """The message has a command for the extra, one for all extras, and no name that an index would look up."""
    assert missing_extra("files", "an XLSX file") == (
        "an XLSX file needs the extra 'files': in the checkout of qxt_async, pip install '.[files]', "
        "or '.[all]' for every extra"
    )
