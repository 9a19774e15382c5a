"""Words for messages, tables and reports: counts, shares, what to install."""

from __future__ import annotations

__all__ = ["missing_extra", "plural", "share"]


def missing_extra(extra: str, purpose: str) -> str:
    """Say what to install. The package is installed from a checkout: its name on the public index is not ours.

    Args:
        extra: its name in ``pyproject.toml``.
        purpose: what needs it.
    """
    return (
        f"{purpose} needs the extra {extra!r}: in the checkout of qxt_async, pip install '.[{extra}]', "
        "or '.[all]' for every extra"
    )


def plural(count: int, noun: str) -> str:
    """A count with its noun: ``1 batch``, ``1,200 batches``.

    Args:
        count: how many.
        noun: in the singular; its plural ends in *s*, or in *es* after *ch*.
    """
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{ending}"


def share(part: int, whole: int) -> str:
    """A percentage with one decimal. It is 0 % only for nothing, and 100 % only for all.

    What is less than 0.1 % and more than nothing is ``< 0.1 %``, what is more than 99.9 % and not all ``> 99.9 %``.

    Args:
        part: how many.
        whole: of how many; a share of nothing is ``–``.
    """
    if not whole:
        return "–"
    if part in (0, whole):
        return f"{100 * part // whole} %"
    if 1000 * part < whole:
        return "< 0.1 %"
    if 1000 * (whole - part) < whole:
        return "> 99.9 %"
    tenths = (2000 * part + whole) // (2 * whole)
    return f"{tenths // 10}.{tenths % 10} %"
