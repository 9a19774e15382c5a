"""``qxt campaign export``."""

from __future__ import annotations

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
from qxt_async.cli.options import bom_option, force_option

__all__ = ["command"]


@click.command("export")
@id_argument
@click.option("--csv", "csv_file", metavar="FILE", help="Every number as CSV; - for standard output.")
@click.option("--parquet", "parquet_file", metavar="FILE", help="Every number as Parquet.")
@click.option("--left-out", "left_out_file", metavar="FILE", help="What the plan left out and why, as CSV; or -.")
@bom_option
@force_option
@journal_option
def command(
    campaign: int,
    csv_file: str | None,
    parquet_file: str | None,
    left_out_file: str | None,
    bom: bool,
    force: bool,
    journal: str,
) -> None:
    """Write what became of every number to a file. One that is there already is replaced only with --force.

    The columns: number,state,mid,report,code,area,city,error,via_report,batch,message,sent_at,settled_at,reported_at.
    state is accepted, failed, unknown, planned, cancelled or suppressed; report is delivered, rejected, failed, unknown
    or empty; code is the carrier's own; times are UTC.
    """
    from qxt_async.campaign import Campaigns

    if csv_file is None and parquet_file is None and left_out_file is None:
        raise click.UsageError("say where to: --csv, --parquet or --left-out.")
    if bom and csv_file is None and left_out_file is None:
        raise click.UsageError("--bom is for CSV.")
    files = [path for path in (csv_file, parquet_file, left_out_file) if path is not None and path != STDOUT]
    if len(set(files)) < len(files):
        raise click.UsageError("each needs a file of its own.")

    async def write() -> None:
        async with existing(journal) as opened:
            campaigns = Campaigns(opened)
            await campaigns.get(campaign)  # before a file is touched
            for path in () if force else files:
                refuse_overwriting(path)
            if csv_file is not None:
                await campaigns.export(campaign, output_target(csv_file), bom=bom)
            if parquet_file is not None:
                await campaigns.export(campaign, parquet_file, format="parquet")
            if left_out_file is not None:
                await campaigns.export_excluded(campaign, output_target(left_out_file), bom=bom)

    try:
        anyio.run(write)
    except BrokenPipeError:
        raise  # click ends quietly
    except OSError as error:
        raise click.FileError(error.filename or "the file", error.strerror or type(error).__name__) from error
