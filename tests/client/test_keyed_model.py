"""Single sends with keys against a model: random sends, faults, dying processes, reports and time.

``QXT_MODEL_EXAMPLES`` lengthens it.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import client_of
from support.steps import set_time

from qxt_async import (
    AccountRefusedError,
    NotSentError,
    OutcomeUnknownError,
    QxtClient,
    RefusedError,
    RetryPolicy,
    SendInProgressError,
)
from qxt_async.journal import Journal, SendState, open_journal
from qxt_async.journal.records import Claim
from qxt_async.journal.sends import SendRequest, digest_of
from qxt_async.models import Message, StatusReport
from qxt_async.protocol.pushes import Push
from qxt_async.simulator import SimulatedGateway

TEXT = "【测试】您的验证码是1234"
EXAMPLES = int(os.environ.get("QXT_MODEL_EXAMPLES", "40"))
TTL = 3600.0
FAULTS = ("", "", "take-then-close", "take-then-502", "close-unread", "throttle-429", "fail-999", "http-404", "error-7")
KEYS = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), KEYS, st.sampled_from(FAULTS)),
        st.tuples(st.just("die"), KEYS, st.sampled_from(("", "taken"))),
        st.tuples(st.just("report"), KEYS, st.just("")),
        st.tuples(st.just("later"), st.just(0), st.sampled_from(("", "", "expired"))),
    ),
    max_size=16,
)


class Life:
    """One journal, one gateway, and what callers were told.

    Attributes:
        told: the definite outcome of each key, once there is one: a mid, or the code of a refusal.
        dying: keys whose process has died and whose lease runs.
        reported: keys whose number was reported after the gateway took it.
        uses: how often each key has expired. A settled key that expired is used for another number.
    """

    def __init__(self, journal: Journal, gateway: SimulatedGateway, client: QxtClient) -> None:
        self.journal, self.gateway, self.client = journal, gateway, client
        self.now = datetime.now(UTC)
        self.told: dict[int, str] = {}
        self.dying: set[int] = set()
        self.reported: set[int] = set()
        self.uses: Counter[int] = Counter()

    def number(self, key: int) -> str:
        """The number that a key stands for now."""
        return f"13800138{self.uses[key]:02}{key}"

    async def step(self, kind: str, key: int, detail: str) -> None:
        """Let something happen."""
        self.now += timedelta(seconds=1)
        set_time(self.journal.campaigns, self.now)
        await {"send": self.send, "die": self.die, "report": self.report, "later": self.later}[kind](key, detail)
        assert set(self.gateway.taken.values()) <= {1}, "a text was sent twice"

    async def send(self, key: int, fault: str) -> None:
        """Ask for a key."""
        if fault:
            self.gateway.fail_next(fault)
        outcome = await self.ask(key)
        self.gateway.clear_faults()
        taken = self.gateway.times_taken(self.number(key))
        assert (outcome == "in progress") == (key in self.dying)
        if outcome in {"in progress", "not sent", "account"}:
            assert key not in self.told
        elif outcome == "unknown":
            assert key not in self.told
            assert key not in self.reported
        else:
            assert self.told.setdefault(key, outcome) == outcome
            assert outcome.isdigit() == (taken == 1)

    async def ask(self, key: int) -> str:
        """One call, in a word."""
        try:
            return (await self.client.send(self.number(key), TEXT, idempotency_key=str(key))).mid
        except OutcomeUnknownError:
            return "unknown"
        except SendInProgressError:
            return "in progress"
        except NotSentError:
            return "not sent"
        except AccountRefusedError:
            return "account"
        except RefusedError as error:
            return error.code

    async def die(self, key: int, taken: str) -> None:
        """Another process claims it, sends it or not, and dies."""
        message = Message(TEXT)
        request = SendRequest(
            key=str(key),
            message=message,
            numbers=(self.number(key),),
            digest=digest_of(message, [self.number(key)]),
            ttl=TTL,
            limits=(),
        )
        token = f"dead {len(self.dying)} {self.now}"
        claimed = await self.journal.single_sends.claim(request, token=token, lease=30.0)
        if isinstance(claimed, Claim):
            self.dying.add(key)
            if taken:
                await self.client.with_options(timeout=60).send(self.number(key), TEXT)

    async def report(self, key: int, _: str) -> None:
        """The gateway pushes its reports on a number."""
        for sent in self.gateway.sends:
            if self.number(key) in sent.numbers:
                reports = (StatusReport(sent.mid, self.number(key), code="DELIVRD", received_at=self.now),)
                await self.journal.record_push(Push(query=b"", body=b"", reports=reports, received_at=self.now))
                self.reported.add(key)

    async def later(self, _: int, expired: str) -> None:
        """Leases run out. Much later, settled keys expire, and those that are unknown do not."""
        self.now += timedelta(seconds=2 * TTL if expired else 60)
        self.dying.clear()
        if expired:
            self.uses.update(self.told.keys())
            self.reported -= self.told.keys()
            self.told.clear()


async def live(address: str, steps: list[tuple[str, int, str]]) -> None:
    """Go through the steps, and hold the journal against the gateway's books."""
    gateway = SimulatedGateway()
    retry = RetryPolicy(1)
    async with (
        open_journal(address) as journal,
        client_of(gateway, journal=journal, timeout=0.2, retry=retry, idempotency_ttl=TTL) as client,
    ):
        life = Life(journal, gateway, client)
        for step in steps:
            await life.step(*step)
        states: dict[str, set[SendState]] = {}
        for record in await journal.sends():
            states.setdefault(record.result.numbers[0], set()).add(record.state)
        for number, its in states.items():
            assert SendState.ACCEPTED not in its or gateway.times_taken(number) == 1
            # A send that was not sent stays in the log when its key expires.
            assert its != {SendState.NOT_SENT} or not gateway.times_taken(number)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "form"), [("asyncio", "sqlite"), ("trio", "sqlite"), ("asyncio", "postgresql")])
def test_lives(backend: str, form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """No text twice, no two definite outcomes, accepted if and only if taken, unknown until it is reported."""

    @contextmanager
    def file() -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            yield f"{folder}/qxt.db"

    places = file if form == "sqlite" else request.getfixturevalue("postgresql").journal

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(STEPS)
    def lives(steps: list[tuple[str, int, str]]) -> None:
        with places() as address:
            anyio.run(live, address, steps, backend=backend)

    lives()
