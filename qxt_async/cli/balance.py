"""``qxt balance``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qxt_async.cli.options import account, account_options, as_json, verbose

if TYPE_CHECKING:
    import anyio

    from qxt_async import Balance
    from qxt_async.cli.stopping import Ended

__all__ = ["command"]


@click.command("balance")
@account_options
@as_json
@verbose
def command(
    user: str | None,
    base_url: str | None,
    transport: str,
    timeout: float,
    as_json: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Ask how many messages the account has left.

    With --json: {"sms": …, "mms": …}.
    """
    from qxt_async import QxtClient
    from qxt_async.cli.display import json_line
    from qxt_async.cli.stopping import run_until_stopped

    options = account(user, base_url)
    found: list[Balance] = []

    async def work(asking: anyio.CancelScope) -> None:
        async with QxtClient.from_env(**options, transport=transport, timeout=timeout) as client:
            with asking:
                found.append(await client.balance())

    def tell(ended: Ended) -> None:
        if ended.interrupted is not None:
            raise click.exceptions.Exit(128 + ended.interrupted)
        if ended.error is not None:
            raise ended.error
        balance = found[0]
        if as_json:
            click.echo(json_line({"sms": balance.sms, "mms": balance.mms}))
        else:
            click.echo(f"sms {balance.sms:,}\nmms {balance.mms:,}")

    tell(run_until_stopped(work))
