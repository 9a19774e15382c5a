"""``qxt campaign export``."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import anyio
import click

from qxt_async.cli.campaign.shared import STDOUT, existing, id_argument, journal_option, refuse_overwriting
from qxt_async.cli.options import bom_option, force_option

if TYPE_CHECKING:
    import io
    from collections.abc import Generator

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
    from qxt_async.campaign.export import export_csv, export_left_out, export_parquet

    if csv_file is None and parquet_file is None and left_out_file is None:
        raise click.UsageError("say where to: --csv, --parquet or --left-out.")
    if bom and csv_file is None and left_out_file is None:
        raise click.UsageError("--bom is for CSV.")
    files = [path for path in (csv_file, parquet_file, left_out_file) if path is not None and path != STDOUT]
    if len(set(files)) < len(files):
        raise click.UsageError("each needs a file of its own.")

    async def write() -> None:
        async with existing(journal) as opened:
            await opened.campaigns.get(campaign)  # before a file is touched
            for path in () if force else files:
                refuse_overwriting(path)
            if csv_file is not None:
                with _opened(csv_file, bom=bom) as stream:
                    await export_csv(opened, campaign, stream)
            if parquet_file is not None:
                _begun(parquet_file)
                await export_parquet(opened, campaign, parquet_file)
            if left_out_file is not None:
                with _opened(left_out_file, bom=bom) as stream:
                    await export_left_out(opened, campaign, stream)

    try:
        anyio.run(write)
    except BrokenPipeError:
        raise  # click ends quietly
    except OSError as error:
        raise click.FileError(error.filename or "the file", error.strerror or type(error).__name__) from error


def _begun(path: str) -> None:
    """Make the file its owner's alone, if it is not there: it has whole numbers in it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


@contextmanager
def _opened(path: str, *, bom: bool) -> Generator[TextIO]:
    mark = "\ufeff" if bom else ""
    if path == STDOUT:
        cast("io.TextIOWrapper", sys.stdout).reconfigure(encoding="utf-8", newline="")
        sys.stdout.write(mark)
        yield sys.stdout
        return
    _begun(path)
    with Path(path).open("w", encoding="utf-8", newline="") as stream:
        stream.write(mark)
        yield stream
