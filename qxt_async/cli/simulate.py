"""``qxt simulate``."""

from __future__ import annotations

import click

from qxt_async.cli.options import as_json, at_least_one, port_option, verbose


@click.command("simulate")
@port_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Nothing protects it: keep it on the loopback.")
@click.option("--push-to", metavar="URL", help="Push status reports and replies there.")
@click.option("--user", envvar="QXT_USER", default="user", help="The account's name; QXT_USER, or 'user'.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=SHARE",
    help="Let a share of the requests (0 to 1) meet a fault, such as take-then-reset=0.02. May be repeated.",
)
@click.option(
    "--min-batch", type=at_least_one, default=1, show_default=True, metavar="N", help="Refuse smaller batches."
)
@click.option("--balance", type=click.IntRange(min=0), default=10_000_000, show_default=True, metavar="N")
@as_json
@verbose
def command(
    port: int,
    host: str,
    push_to: str | None,
    user: str,
    faults: tuple[str, ...],
    min_batch: int,
    balance: int,
    as_json: bool,
) -> None:
    """Run a simulated gateway to test against.

    Says "listening on URL" on stderr when it is ready. Ctrl-C or SIGTERM ends it with exit code 0; it then prints what
    it did. The account's password comes from QXT_PASSWORD and is 'password' otherwise. While it runs,
    URL/_simulator/stats, …/taken and …/sends say what it has taken. The mids begin where the clock puts them, so a
    simulator that is started again does not give the same mids again.
    """
    import os
    import time

    import anyio

    from qxt_async.cli.exit_codes import FailedError
    from qxt_async.simulator import SimulatedGateway, parse_share, run_server

    try:
        gateway = SimulatedGateway(
            user,
            os.environ.get("QXT_PASSWORD") or "password",
            balance=balance,
            min_batch=min_batch,
            # Microseconds: it cannot take a million requests a second, so a later start has higher mids.
            first_mid=time.time_ns() // 1000,
            push_to=push_to,
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--push-to") from None
    try:
        for each in faults:
            gateway.fail_share(*parse_share(each))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None

    def on_listening(url: str) -> None:
        click.echo(f"listening on {url}", err=True)
        click.get_current_context().call_on_close(lambda: _print_stats(gateway.stats(), as_json=as_json))

    async def run() -> None:
        try:
            await run_server(gateway, host, port, on_listening=on_listening)
        except OSError as error:
            raise FailedError(f"cannot listen on {host}, port {port}: {error.strerror}") from error

    anyio.run(run)


def _print_stats(stats: dict[str, int], *, as_json: bool) -> None:
    from qxt_async.cli.printing import print_json, print_table

    if as_json:
        print_json(stats)
    else:
        print_table([(name.replace("_", " "), count) for name, count in stats.items()])
