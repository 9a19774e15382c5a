"""``qxt receive``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qxt_async.cli.journals import journal_option
from qxt_async.cli.options import verbose

if TYPE_CHECKING:
    from qxt_async.cli.stopping import Ended

__all__ = ["command"]


def _print_secret(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from qxt_async.receiving import new_secret

        click.echo(new_secret())
        ctx.exit()


@click.command("receive")
@click.option("--port", type=click.IntRange(0, 65535), required=True, metavar="P", help="0 for a free one.")
@click.option(
    "--path",
    envvar="QXT_PUSH_PATH",
    metavar="SECRET",
    help="The secret path that the gateway pushes to; better QXT_PUSH_PATH, since others see arguments.",
)
@journal_option
@click.option(
    "--new-secret",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_secret,
    help="Print a path that nobody guesses, and exit.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow", multiple=True, metavar="NET", help="Address or network that may push; all, without. May be repeated."
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="NET",
    help="Address or network whose X-Forwarded-For is believed. May be repeated.",
)
@click.option(
    "--channel-number", metavar="DIGITS", help="The channel's own number, to tell a reply's extension number."
)
@click.option(
    "--opt-out",
    "keywords",
    multiple=True,
    metavar="WORD",
    help="A reply that suppresses its number, instead of R, T, TD, N, 退订, 拒收 and 取消订阅. May be repeated.",
)
@click.option("--no-opt-out", is_flag=True, help="Let no reply suppress its number.")
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
    no_opt_out: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Store what the gateway pushes: status reports and replies.

    Says "listening on URL" on stderr when it is ready; URL is what the gateway has to push to; most of the secret
    is left out.
    What is answered ok is in the journal, on the disk. Ctrl-C or SIGTERM: what was received is stored and answered,
    then it ends with exit code 0.

    On the loopback, and without --trusted-proxy, any path will do to try it out. Elsewhere it has to be one that
    --new-secret prints, or as good: 20 or more of A-Z a-z 0-9 - _.
    """
    import anyio

    from qxt_async.cli.program import FailedError
    from qxt_async.cli.push_server import PushServer
    from qxt_async.cli.stopping import run_until_stopped
    from qxt_async.protocol.pushes import OptOut
    from qxt_async.receiving import PushReceiver
    from qxt_async.runtime.server import listen

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
        allow_weak_secret=_only_here(host) and not trusted_proxies,
    )
    try:
        listener, address = listen(host, port)
    except OSError as error:
        raise FailedError(f"cannot listen on {host}, port {port}: {error.strerror}") from error

    def tell() -> None:
        # What is printed may be kept, with the rest of a container's or a service's output.
        shown = path if receiver.allow_weak_secret else f"{path[:4]}****"
        click.echo(f"listening on {address}/{shown}", err=True)
        if receiver.allow_weak_secret:
            click.echo("the path can be guessed: before strangers can reach it, see --new-secret", err=True)

    async def work(beginning: anyio.CancelScope) -> None:
        async with receiver, anyio.create_task_group() as group:
            server = PushServer(receiver, listener)
            group.start_soon(server.run_until_stopped, tell)
            with beginning:
                await anyio.sleep_forever()
            server.should_exit = True

    with listener:
        _tell(run_until_stopped(work))


def _tell(ended: Ended) -> None:
    """A signal is the way to end; an error is none."""
    if ended.error is not None:
        raise ended.error


def _only_here(host: str) -> bool:
    """Whether only this machine can connect to the address."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
