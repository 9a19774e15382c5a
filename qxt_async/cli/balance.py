"""``qxt balance``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qxt_async.cli.exit_codes import code_of_signal
from qxt_async.cli.options import AccountOptions, account_options, as_json, verbose
from qxt_async.cli.printing import print_json
from qxt_async.cli.stopping import run_until_stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anyio

    from qxt_async import Balance
    from qxt_async.cli.stopping import Ended


@click.command("balance")
@account_options
@as_json
@verbose
def command(account: AccountOptions, as_json: bool) -> None:
    """Ask how many messages the account has left.

    With --json: {"sms": …, "mms": …}.
    """
    make_client = account.sign_in()
    found: list[Balance] = []

    async def work(asking: anyio.CancelScope) -> None:
        async with make_client() as client:
            with asking:
                found.append(await client.balance())

    _finish(run_until_stopped(work), found, as_json=as_json)


def _finish(ended: Ended, found: Sequence[Balance], *, as_json: bool) -> None:
    if ended.interrupted is not None:
        raise click.exceptions.Exit(code_of_signal(ended.interrupted))
    ended.raise_error()
    balance = found[0]
    if as_json:
        print_json({"sms": balance.sms, "mms": balance.mms})
    else:
        click.echo(f"sms {balance.sms:,}\nmms {balance.mms:,}")
