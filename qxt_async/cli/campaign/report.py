"""``qxt campaign report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import click

from qxt_async.cli.campaign.shared import (
    STDOUT,
    existing,
    id_argument,
    journal_option,
    output_target,
    refuse_overwriting,
)
from qxt_async.cli.options import force_option

if TYPE_CHECKING:
    from qxt_async.campaign.report import Language

__all__ = ["command"]


@click.command("report")
@id_argument
@click.option("-o", "--output", metavar="FILE", help="The page; campaign-ID.html if not given, - for standard output.")
@click.option("--lang", type=click.Choice(["zh", "en"]), default="en", show_default=True, help="Its language.")
@click.option("--zone", default="Asia/Shanghai", show_default=True, metavar="TZ", help="Time zone of its times.")
@force_option
@journal_option
def command(campaign: int, output: str | None, lang: str, zone: str, force: bool, journal: str) -> None:
    """Write a report to look at, to send around, to print: one HTML page that needs no network.

    A file that is there already is replaced only with --force.
    """
    from qxt_async.campaign import Campaigns

    path = output or f"campaign-{campaign}.html"
    language: Language = "zh" if lang == "zh" else "en"

    async def write() -> None:
        async with existing(journal) as opened:
            campaigns = Campaigns(opened)
            await campaigns.get(campaign)
            if not force:
                refuse_overwriting(path)
            await campaigns.report(campaign, output_target(path), language=language, time_zone=zone)

    try:
        anyio.run(write)
    except OSError as error:
        raise click.FileError(path, error.strerror or type(error).__name__) from error
    if path != STDOUT:
        click.echo(path)
