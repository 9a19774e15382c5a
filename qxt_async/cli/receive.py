"""``qxt receive``."""

from __future__ import annotations

import ipaddress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio
import click

from qxt_async.cli.exit_codes import FailedError
from qxt_async.cli.journals import journal_option
from qxt_async.cli.options import at_least_one, port_option, verbose
from qxt_async.cli.stopping import GRACE, run_until_stopped
from qxt_async.protocol.pushes import OptOut
from qxt_async.receiving import PushReceiver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def _print_secret(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from qxt_async.receiving import new_secret

        click.echo(new_secret())
        ctx.exit()


@click.command("receive")
@port_option
@click.option(
    "--path",
    envvar="QXT_PUSH_PATH",
    metavar="SECRET",
    help="The secret path that the gateway pushes to. QXT_PUSH_PATH is safer: other users can see arguments.",
)
@journal_option
@click.option(
    "--new-secret",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_secret,
    help="Print a path that cannot be guessed, and exit.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow", multiple=True, metavar="NET", help="Address or network that may push; all if not given. May be repeated."
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="NET",
    help="Address or network whose X-Forwarded-For is believed. May be repeated.",
)
@click.option(
    "--channel-number", metavar="DIGITS", help="The channel's own number, to find the extension number of a reply."
)
@click.option(
    "--opt-out",
    "keywords",
    multiple=True,
    metavar="WORD",
    help="A reply that suppresses its number, instead of R, T, TD, N, 退订, 拒收 and 取消订阅. May be repeated.",
)
@click.option(
    "--processes",
    type=at_least_one,
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that share the address. One is enough for some thousand pushes a second.",
)
@click.option("--no-opt-out", is_flag=True, help="Let no reply put its number on the suppression list.")
@verbose
def command(
    port: int,
    path: str | None,
    journal: str,
    host: str,
    allow: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    channel_number: str | None,
    keywords: tuple[str, ...],
    processes: int,
    no_opt_out: bool,
) -> None:
    """Store what the gateway pushes: status reports and replies.

    Says "listening on URL" on stderr when it is ready. URL is the address that the gateway has to push to; most of the
    secret is left out. A push is answered ok after it is stored in the journal, on the disk. Ctrl-C or SIGTERM: what
    was received is stored and answered, then the command ends with exit code 0.

    On the loopback and without --trusted-proxy, any path is allowed, to try it out. Otherwise it has to be one that
    --new-secret prints, or one like that: 20 or more of A-Z a-z 0-9 - _.
    """
    path = (path or "").strip("/")
    if not path:
        raise click.UsageError("no path: set QXT_PUSH_PATH, or give --path; qxt receive --new-secret prints one.")
    if keywords and no_opt_out:
        raise click.UsageError("--opt-out and --no-opt-out contradict each other.")
    opt_out = OptOut(keywords) if keywords else OptOut()
    receiver = PushReceiver(
        journal,
        path_secret=path,
        allow=allow,
        trusted_proxies=trusted_proxies,
        channel_number=channel_number,
        opt_out=None if no_opt_out else opt_out,
        allow_weak_secret=_is_loopback(host) and not trusted_proxies,
    )
    _serve(receiver, host, port, path, processes)


def _serve(receiver: PushReceiver, host: str, port: int, path: str, processes: int) -> None:
    """Serve a receiver until a signal comes."""
    from qxt_async.cli.processes import run_in_processes
    from qxt_async.cli.push_server import PushServer
    from qxt_async.runtime.server import listen

    try:
        listener, address = listen(host, port)
    except OSError as error:
        raise FailedError(f"cannot listen on {host}, port {port}: {error.strerror}") from error

    def print_address() -> None:
        # The output of a container or a service may be kept, so the secret is masked.
        shown = path if receiver.allow_weak_secret else f"{path[:4]}****"
        click.echo(f"listening on {address}/{shown}", err=True)
        if receiver.allow_weak_secret:
            click.echo("this path can be guessed: use one of --new-secret before others can reach the port", err=True)

    async def serve(on_listening: Callable[[], object], wait: Callable[[], Awaitable[object]], **options: Any) -> None:
        async with receiver, anyio.create_task_group() as group:
            server = PushServer(receiver, listener, **options)
            group.start_soon(server.run_until_stopped, on_listening)
            await wait()
            server.should_exit = True

    async def serve_until_stopped(beginning: anyio.CancelScope) -> None:
        async def wait() -> None:
            with beginning:
                await anyio.sleep_forever()

        await serve(print_address, wait)

    def serve_in_child(stop: int, on_listening: Callable[[], object]) -> None:
        wait = partial(anyio.wait_readable, stop)
        anyio.run(partial(serve, on_listening, wait, timeout_graceful_shutdown=GRACE), backend_options=loop)

    loop = {"use_uvloop": find_spec("uvloop") is not None}
    with listener:
        if processes == 1:
            run_until_stopped(serve_until_stopped, backend_options=loop).raise_error()
        else:
            run_in_processes(processes, serve_in_child, print_address)


def _is_loopback(host: str) -> bool:
    """Whether only this machine can connect to the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
