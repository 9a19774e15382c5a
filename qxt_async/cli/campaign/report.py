"""``qxt campaign report``."""

from __future__ import annotations

import anyio
import click

from .shared import existing, id_argument, journal_option

__all__ = ["command"]


@click.command("report")
@id_argument
@click.option("-o", "--output", metavar="FILE", help="The page; campaign-ID.html if not given.")
@click.option("--lang", type=click.Choice(["zh", "en"]), default="en", show_default=True, help="Its language.")
@click.option("--zone", default="Asia/Shanghai", show_default=True, metavar="TZ", help="Time zone of its times.")
@journal_option
def command(campaign: int, output: str | None, lang: str, zone: str, journal: str) -> None:
    """Write a report to look at, to send around, to print: one HTML page that needs no network."""
    from qxt_async.campaign.report import write_report

    path = output or f"campaign-{campaign}.html"

    async def write() -> None:
        async with existing(journal) as opened:
            await write_report(opened, campaign, path, language="zh" if lang == "zh" else "en", time_zone=zone)

    try:
        anyio.run(write)
    except OSError as error:
        raise click.FileError(path, error.strerror or type(error).__name__) from error
    click.echo(path)
