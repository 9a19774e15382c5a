"""Longer runs over raw pushes with atheris: ``python tests/fuzz/fuzz_pushes.py [CORPUS]``.

The first two bytes say where the query ends. A crash is an exception, or a push that is neither understood nor flagged.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["qxt_async"]):
    from qxt_async.pushes import OptOut, PushLimits, parse_push

LIMITS = PushLimits(fields=16, items=10, value=20)
OPT_OUT = OptOut()


def one_push(data: bytes) -> None:
    """Read one push, and check what every push has to keep."""
    place = int.from_bytes(data[:2], "big") % max(len(data), 1)
    query, body = data[2 : 2 + place], data[2 + place :]
    push = parse_push(query, body, limits=LIMITS, channel_number="106")
    assert (push.query, push.body) == (query, body)
    assert push.reports or push.replies or push.flags
    assert len(push.reports) <= LIMITS.items
    for report in push.reports:
        assert report.mid
        assert report.mobile
        assert "\0" not in f"{report.mid}{report.mobile}{report.code}{report.port}{report.area}{report.city}"
    for reply in push.replies:
        assert "\0" not in reply.text
        OPT_OUT.matches(reply.text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_push)
    atheris.Fuzz()
