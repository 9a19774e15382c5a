"""``qxt campaign export`` and ``report``."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import click

from qxt_async.cli.campaign.access import id_argument, use_campaigns
from qxt_async.cli.journals import journal_option
from qxt_async.cli.options import bom_option, force_option

if TYPE_CHECKING:
    import io
    from collections.abc import Awaitable, Callable, Sequence

    from qxt_async.campaign import Campaigns
    from qxt_async.campaign.report import Language

_STDOUT = "-"


@click.command("export")
@id_argument
@click.option("--csv", "csv_file", metavar="FILE", help="Every number as CSV; - for standard output.")
@click.option("--parquet", "parquet_file", metavar="FILE", help="Every number as Parquet.")
@click.option("--left-out", "left_out_file", metavar="FILE", help="What the plan left out and why, as CSV; or -.")
@bom_option
@force_option
@journal_option
def export(
    campaign: int,
    csv_file: str | None,
    parquet_file: str | None,
    left_out_file: str | None,
    bom: bool,
    force: bool,
    journal: str,
) -> None:
    """Write the outcome of every number to a file. A file that exists is replaced only with --force.

    The columns: number,state,mid,report,code,area,city,error,via_report,batch,message,sent_at,settled_at,reported_at.
    state is accepted, failed, unknown, planned, cancelled or suppressed; report is delivered, rejected, failed, unknown
    or empty; code is the carrier's own; times are UTC.
    """
    paths = [path for path in (csv_file, parquet_file, left_out_file) if path is not None]
    if not paths:
        raise click.UsageError("say where to: --csv, --parquet or --left-out.")
    if bom and csv_file is None and left_out_file is None:
        raise click.UsageError("--bom is for CSV.")
    files = [path for path in paths if path != _STDOUT]
    if len(set(files)) < len(files):
        raise click.UsageError("each needs a file of its own.")

    async def write(campaigns: Campaigns) -> None:
        if csv_file is not None:
            await campaigns.export(campaign, _target(csv_file), bom=bom)
        if parquet_file is not None:
            await campaigns.export(campaign, parquet_file, format="parquet")
        if left_out_file is not None:
            await campaigns.export_excluded(campaign, _target(left_out_file), bom=bom)

    _write(journal, campaign, files, write, force=force)


@click.command("report")
@id_argument
@click.option("-o", "--output", metavar="FILE", help="The page; campaign-ID.html if not given, - for standard output.")
@click.option("--lang", type=click.Choice(["zh", "en"]), default="en", show_default=True, help="Its language.")
@click.option("--zone", default="Asia/Shanghai", show_default=True, metavar="TZ", help="Time zone of its times.")
@force_option
@journal_option
def report(campaign: int, output: str | None, lang: str, zone: str, force: bool, journal: str) -> None:
    """Write a report to look at, to send, to print: one HTML page that needs no network.

    A file that exists is replaced only with --force.
    """
    path = output or f"campaign-{campaign}.html"
    language: Language = "zh" if lang == "zh" else "en"

    async def write(campaigns: Campaigns) -> None:
        await campaigns.report(campaign, _target(path), language=language, time_zone=zone)

    _write(journal, campaign, [] if path == _STDOUT else [path], write, force=force)
    if path != _STDOUT:
        click.echo(path)


def _write(
    journal: str,
    campaign: int,
    files: Sequence[str],
    write: Callable[[Campaigns], Awaitable[None]],
    *,
    force: bool,
) -> None:
    """Write files of a campaign. Nothing is written if there is no such campaign, or if a file must not be replaced."""

    async def run(campaigns: Campaigns) -> None:
        await campaigns.get(campaign)
        for path in () if force else files:
            _refuse_overwriting(path)
        await write(campaigns)

    try:
        use_campaigns(journal, run)
    except BrokenPipeError:
        raise  # click ends quietly
    except OSError as error:
        path = error.filename or ", ".join(files) or "standard output"
        raise click.FileError(path, error.strerror or type(error).__name__) from error


def _target(path: str) -> str | TextIO:
    """The path, or for ``-`` standard output as a stream of UTF-8."""
    if path != _STDOUT:
        return path
    cast("io.TextIOWrapper", sys.stdout).reconfigure(encoding="utf-8", newline="")
    return sys.stdout


def _refuse_overwriting(path: str) -> None:
    """Refuse to write to a file that is not empty.

    Raises:
        click.UsageError: says what to do.
    """
    try:
        state = Path(path).stat()
    except OSError:
        return  # it does not exist, or opening it says why it cannot be used
    if stat.S_ISREG(state.st_mode) and state.st_size:
        raise click.UsageError(f"{path} exists already: give another name, or --force to replace it.")
