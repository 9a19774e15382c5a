"""Words for messages, tables and reports: counts, shares, what to install."""

from __future__ import annotations


def missing_extra(extra: str, purpose: str) -> str:
    """Say what to install. The package is installed from a checkout: its name on the public index is not ours."""
    return (
        f"{purpose} needs the extra {extra!r}: in the checkout of qxt_async, pip install '.[{extra}]', "
        "or '.[all]' for every extra"
    )


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, which ends in *s* or, after *ch*, in *es*: ``1 batch``, ``1,200 batches``."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{ending}"


def share(part: int, whole: int) -> str:
    """Return a percentage with one decimal: ``0 %`` only for none, and ``100 %`` only for all.

    Between none and 0.1 % it is ``< 0.1 %``, between 99.9 % and all it is ``> 99.9 %``; of nothing it is ``–``.
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
