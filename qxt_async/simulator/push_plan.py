"""How the simulated gateway pushes."""

from __future__ import annotations

import zlib

import attrs

from qxt_async.simulator.faults import check_share


@attrs.frozen(kw_only=True)
class PushPlan:
    """How the gateway pushes. The defaults push each report alone, once and at once.

    Attributes:
        method: ``GET``, as most deployments do, or ``POST``.
        delay: shortest and longest time from the send to its report, seconds.
        duplicates: share of the reports that are pushed twice.
        batch_size: reports in one push; above 1 they come as lists with a space after each comma (PROTOCOL 4.2).
        shuffle: push in any order.
        early: share of the sends whose reports come before the send's own answer (PROTOCOL 4.4).
        rejected: share of the reports that say ``REJECT``.
        failed: share of the reports that say one of `failure_codes`.
        failure_codes: of carriers.
        area: province in each push.
        city: city in each push.
        attempts: how often a report or reply is pushed until it is answered ``ok``.
        backoff: seconds before the second attempt; doubles up to 5 seconds.
        concurrency: pushes at a time.
        timeout: seconds for a whole push.
    """

    method: str = attrs.field(default="GET", validator=attrs.validators.in_(("GET", "POST")))
    delay: tuple[float, float] = (0.0, 0.0)
    duplicates: float = attrs.field(default=0.0, validator=check_share)
    batch_size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    shuffle: bool = False
    early: float = attrs.field(default=0.0, validator=check_share)
    rejected: float = attrs.field(default=0.0, validator=check_share)
    failed: float = attrs.field(default=0.0, validator=check_share)
    failure_codes: tuple[str, ...] = attrs.field(
        default=("UNDELIV", "EXPIRED", "MK:0001"), validator=attrs.validators.min_len(1)
    )
    area: str = ""
    city: str = ""
    attempts: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    backoff: float = attrs.field(default=0.1, validator=attrs.validators.ge(0.0))
    concurrency: int = attrs.field(default=8, validator=attrs.validators.ge(1))
    timeout: float = attrs.field(default=10.0, validator=attrs.validators.gt(0.0))

    def __attrs_post_init__(self) -> None:
        if not 0.0 <= self.delay[0] <= self.delay[1]:
            raise ValueError("delay is the shortest and the longest time in seconds")
        if self.rejected + self.failed > 1.0:
            raise ValueError("rejected and failed are shares that together are at most 1")

    def code_of(self, mid: str, mobile: str) -> str:
        """The code of the report on a phone: always the same for the same mid and phone."""
        digest = zlib.crc32(f"{mid}:{mobile}".encode())
        point = digest / 2**32
        if point < self.rejected:
            return "REJECT"
        if point < self.rejected + self.failed:
            return self.failure_codes[digest % len(self.failure_codes)]
        return "DELIVRD"
