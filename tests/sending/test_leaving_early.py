"""A bulk stream that ends before its source: left, refused, or failed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest
from anyio import to_thread
from cancellation.test_cancellation import LANES, RequestLog, client_for
from support import catalogue as c
from support.cancelling import number_run
from support.fault_server import FaultServer, Wire, http

from qxt_async import BatchResult, BulkStoppedError, errors

pytestmark = pytest.mark.anyio


class LeavingError(Exception):
    """Raised in a block."""


@pytest.mark.parametrize(("anyio_backend", "transport"), LANES)
@pytest.mark.parametrize("leave", ["break", "exception"])
async def test_leaving_a_stream_waits_for_what_is_under_way(transport, leave):
    """No new batch is begun; those under way are answered, and told of; the rest is not sent."""
    books = RequestLog()
    numbers = number_run(0, 200)
    with FaultServer() as server:
        server.plan(c.answer_taken, c.answer_late, c.answer_late)
        async with client_for(server, transport) as client:
            stream = client.stream_bulk(
                numbers, "hello", batch_size=10, min_batch=1, max_concurrency=2, on_result=books.tell
            )
            taken = []
            with contextlib.suppress(LeavingError):
                async with stream as batches:
                    async for batch in batches:
                        taken.append(batch)
                        await to_thread.run_sync(server.wait_for, lambda: len(server.requests) == 3)
                        server.release()
                        if leave == "break":
                            break
                        raise LeavingError
            assert books.outcomes == ["accepted"] * 3
            assert len(taken) + len(stream.unconsumed) == 3
            assert len(server.requests) == 3
            assert [*stream.unsent] == numbers[30 : 30 + len(stream.unsent)]
        await to_thread.run_sync(server.settle)
        books.check(server)


@pytest.mark.parametrize("why", ["left", "refused", "raised"])
async def test_nobody_waits_for_a_source_that_has_nothing(why):
    """A source that may not yield for hours is cancelled when the stream is left, refused or broken."""
    given = number_run(0, 2000)  # four batches, of which the last two are kept for balancing
    closed = anyio.Event()
    books = RequestLog()

    async def source() -> AsyncIterator[str]:
        try:
            for number in given:
                yield number
            server.release()
            await anyio.sleep_forever()
        finally:
            closed.set()

    def tell(result: BatchResult) -> None:
        books.tell(result)
        if why == "raised":
            raise LeavingError

    with FaultServer(_refuse_late if why == "refused" else c.answer_late) as server:
        async with client_for(server, "httpx") as client:
            stream = client.stream_bulk(source(), "hello", batch_size=500, on_result=tell)

            async def take_one() -> None:
                async with stream as batches:
                    async for _ in batches:
                        if why == "left":
                            break

            if why == "left":
                await take_one()
            else:
                with pytest.raises(errors.AuthenticationError if why == "refused" else errors.BulkStoppedError):
                    await take_one()
    assert closed.is_set()
    sent = [number for result in books.results for number in result.numbers]
    assert len(sent) == 1000
    assert sorted([*sent, *stream.unsent]) == given


async def _refuse_late(wire: Wire) -> None:
    await wire.request()
    await wire.server.released.wait()
    await wire.send(http("error:无此用户或者密码不对".encode("gbk")))


async def test_what_the_source_gave_as_the_stream_ended_is_not_lost():
    """A batch that comes out of the source just when the stream is stopped is in ``unsent``, and not sent."""
    refused = anyio.Event()
    given = number_run(0, 3000)

    async def source() -> AsyncIterator[str]:
        for index, number in enumerate(given):
            if index == 2000:
                with anyio.CancelScope(shield=True):  # a source that does not let itself be cancelled
                    await refused.wait()
            yield number

    with FaultServer() as server:
        server.plan(c.answering(http("error:无此用户或者密码不对".encode("gbk")), take=False))
        async with client_for(server, "httpx", max_concurrency=4) as client:

            def told(result: BatchResult) -> None:
                if result.failed:  # the other batch may be answered first
                    refused.set()

            stream = client.stream_bulk(source(), "hello", batch_size=500, max_concurrency=4, on_result=told)

            async def drain() -> None:
                async with stream as batches:
                    async for _ in batches:
                        pass

            with pytest.raises(errors.AuthenticationError):
                await drain()
        sent = [number for request in server.requests for number in request.numbers]
        assert len(server.requests) == 2
        assert sorted([*sent, *stream.unsent]) == given


async def test_a_source_that_fails_lets_the_others_end():
    """What is under way when the source raises is answered; the error comes after it."""

    async def source() -> AsyncIterator[str]:
        for number in number_run(0, 6):
            yield number
        raise LeavingError

    books = RequestLog()
    with FaultServer() as server:
        async with client_for(server, "httpx") as client:
            with pytest.raises(BulkStoppedError) as caught:
                await client.send_bulk(source(), "hello", batch_size=2, min_batch=1, on_result=books.tell)
        assert isinstance(caught.value.__cause__, LeavingError)
        books.check(server)
