"""What can happen to a request, each a fault for `FaultServer.plan`."""

from __future__ import annotations

import asyncio
import functools
import zlib
from collections.abc import Callable

from support.fault_server import Fault, Request, Wire, at_accept, http, ok_line

FOREIGN = ("13700000001", "13700000002")
DRIP_SECONDS = 0.02
BOMB_SIZE = 48 << 20
INTERIM = b"HTTP/1.1 102 Processing\r\nX-Long: %b\r\n\r\n" % (b"x" * 4000)
INTERIM_ANSWERS = 2000  # 8 MB


# --- before the request is read


@at_accept
async def close_at_once(wire: Wire) -> None:
    """Accept, and close without reading."""
    wire.close()


@at_accept
async def reset_at_once(wire: Wire) -> None:
    """Accept, and reset without reading."""
    wire.reset()


async def close_as_written(wire: Wire) -> None:
    """Close the moment the request's first byte is there, reading nothing."""
    wire.close()


async def reset_as_written(wire: Wire) -> None:
    """Reset the moment the request's first byte is there."""
    wire.reset()


@at_accept
async def not_tls(wire: Wire) -> None:
    """Answer a TLS handshake in plain text."""
    await wire.read(1)
    await wire.send(http(b"", "400 Bad Request"))
    wire.close()


# --- in the middle of it


async def close_after_head(wire: Wire) -> None:
    """Read the head, then close."""
    await wire.head()
    wire.close()


async def reset_after_head(wire: Wire) -> None:
    """Read the head, then reset."""
    await wire.head()
    wire.reset()


async def reset_in_body(wire: Wire) -> None:
    """Read all of the form but its end, and try to take that; then reset."""
    wire.take(await wire.request(leave=20))
    wire.reset()


async def read_late(wire: Wire) -> None:
    """Read nothing until long after the deadline; then read what the kernel kept, and take it."""
    await wire.server.released.wait()
    wire.take(await wire.request())


# --- after the whole body


async def taken(wire: Wire) -> Request:
    """Read the whole request and take it."""
    request = await wire.request()
    wire.take(request)
    return request


async def take_and_close(wire: Wire) -> None:
    """Take it, then close."""
    await taken(wire)
    wire.close()


async def take_and_reset(wire: Wire) -> None:
    """Take it, then reset."""
    await taken(wire)
    wire.reset()


async def take_and_half_close(wire: Wire) -> None:
    """Take it, say that nothing comes, and go on listening."""
    await taken(wire)
    wire.half_close()
    await wire.until_gone()


async def take_and_stall(wire: Wire) -> None:
    """Take it, and say nothing."""
    await taken(wire)
    await wire.until_gone()


async def drip(wire: Wire) -> None:
    """Take it, and answer a byte at a time, without end."""
    request = await taken(wire)
    answer = http(ok_line("1", request.numbers), length=1 << 17)
    for place in range(len(answer)):
        await wire.send(answer[place : place + 1])
        wire.server.mark("dripped")
        await asyncio.sleep(DRIP_SECONDS)
    await wire.until_gone()


# --- the connection between two requests


async def answer_then_close(wire: Wire) -> None:
    """Behave, then close the idle connection."""
    await answer_taken(wire)
    wire.close()
    wire.server.mark("idle")


async def answer_then_reset(wire: Wire) -> None:
    """Behave, then reset the idle connection, when the client has had time to read."""
    await answer_taken(wire)
    await wire.server.released.wait()
    wire.server.released.clear()
    wire.reset()
    wire.server.mark("idle")


async def answer_taken(wire: Wire) -> None:
    """Take it and say so."""
    request = await wire.request()
    await wire.send(http(ok_line(wire.take(request), request.numbers)))


async def answer_late(wire: Wire) -> None:
    """Take it, and answer when told."""
    request = await wire.request()
    mid = wire.take(request)
    await wire.server.released.wait()
    await wire.send(http(ok_line(mid, request.numbers)))


def twice(second: bytes) -> Fault:
    """Answer well, with something more in the same segment."""

    async def fault(wire: Wire) -> None:
        request = await wire.request()
        await wire.send(http(ok_line(wire.take(request), request.numbers)) + second)

    return fault


def unasked(second: bytes) -> Fault:
    """Answer well, and once more while the connection is idle."""

    async def fault(wire: Wire) -> None:
        await answer_taken(wire)
        await wire.server.released.wait()
        wire.server.released.clear()
        await wire.send(second)
        wire.server.mark("idle")

    return fault


def speaking_first(answer: bytes) -> Fault:
    """Say something on a new connection when told, before any request."""

    @at_accept
    async def fault(wire: Wire) -> None:
        await wire.server.released.wait()
        wire.server.released.clear()
        await wire.send(answer)
        wire.server.mark("idle")

    return fault


# --- answers


def answering(answer: bytes | Callable[[Wire, Request], bytes], *, take: bool = True, then: str = "") -> Fault:
    """Read the request, take it or not, send these bytes, and then ``close``, ``reset`` or go on."""

    async def fault(wire: Wire) -> None:
        request = await wire.request()
        if take:
            wire.take(request)
        await wire.send(answer if isinstance(answer, bytes) else answer(wire, request))
        if then:
            getattr(wire, then)()

    return fault


def saying(body: Callable[[Request], bytes], *, takes: Callable[[Request], tuple[str, ...]] | None = None) -> Fault:
    """Answer with a body made of the request; what it `takes` is all of it unless told."""

    async def fault(wire: Wire) -> None:
        request = await wire.request()
        wire.take(request, None if takes is None else takes(request))
        await wire.send(http(body(request)))

    return fault


def refusing(status: str, *headers: str) -> Fault:
    """A status that says that nothing was taken."""
    return answering(http(b"", status, headers), take=False)


def failing(status: str, *headers: str) -> Fault:
    """A status that does not say so; at worst, all was taken."""
    return answering(http(b"<html>", status, headers))


async def early_413(wire: Wire) -> None:
    """Refuse on the head alone, politely: read on, take nothing."""
    await wire.head()
    await wire.send(http(b"", "413 Content Too Large", ["Connection: close"]))
    wire.half_close()
    await wire.until_gone()


async def early_ok(wire: Wire) -> None:
    """Say ok before the form's end was read, then reset."""
    request = await wire.request(leave=20)
    await wire.send(http(ok_line("1", request.numbers)))
    wire.reset()
    wire.server.mark("reset")


async def redirect(wire: Wire, status: str) -> None:
    """Send the client elsewhere."""
    await wire.request()
    await wire.send(http(b"", status, [f"Location: {wire.server.elsewhere}/smssenderv2"]))


# --- too much


async def endless_body(wire: Wire) -> None:
    """A body of chunks that does not end."""
    await taken(wire)
    await wire.send(http(b"", length=None, headers=["Transfer-Encoding: chunked"]))
    piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    while True:
        await wire.send(piece)


async def huge_length(wire: Wire) -> None:
    """A body of ten gigabytes, as far as the client listens."""
    await taken(wire)
    await wire.send(http(b"", length=10 << 30))
    while True:
        await wire.send(b"y" * 0x8000)


async def gzip_bomb(wire: Wire) -> None:
    """A small body that unpacks to a large one."""
    await taken(wire)
    await wire.send(http(_bomb(), headers=["Content-Encoding: gzip"]))


@functools.cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 16)
    return b"".join([*(packer.compress(zeros) for _ in range(BOMB_SIZE >> 16)), packer.flush()])


def many_headers(size: int, count: int) -> Fault:
    """An answer with headers of so many bytes."""

    async def fault(wire: Wire) -> None:
        request = await taken(wire)
        headers = [f"X-{number}: {'h' * (size - 10)}" for number in range(count)]
        await wire.send(http(ok_line("1", request.numbers), headers=headers))

    return fault


async def endless_headers(wire: Wire) -> None:
    """Headers without end."""
    await taken(wire)
    await wire.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await wire.send(b"X-More: and more\r\n" * 1000)


async def endless_interim(wire: Wire) -> None:
    """Interim answers, more than anyone should keep if somebody measures, and no other answer."""
    await taken(wire)
    for _ in range(INTERIM_ANSWERS if wire.server.measured else 100):
        await wire.send(INTERIM)
    await wire.until_gone()
