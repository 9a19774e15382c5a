"""XLSX workbooks, through python-calamine (extra ``files``).

Calamine unpacks a sheet whole and lays it out as a full rectangle, so a file of some kilobytes could ask for all the
memory: by a member that unpacks to gigabytes, or by two cells in opposite corners. The file is therefore walked through
once before, in constant memory, and refused beyond the limits below.
"""

from __future__ import annotations

import zipfile
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from xml.parsers import expat

from qxt_async.errors import InvalidConfigurationError, SourceFileError
from qxt_async.files.tables import RowCutter, cell_to_text
from qxt_async.runtime.words import missing_extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qxt_async.files.sources import NumberBlock

__all__ = ["WorkbookReader"]

# A full sheet (1,048,576 rows) of a number, a name and a code unpacks to about 150 MB.
_UNPACKED: Final = 512 * 1024 * 1024
# 32 bytes each in calamine: 640 MB at worst; a full sheet may have 19 columns.
_CELLS: Final = 20_000_000
_MEMBERS: Final = 10_000
_CHUNK: Final = 256 * 1024
_ROWS: Final = 2000
_LETTERS: Final = 4  # of a column, XFD at most, and of a row, 1048576 at most; one more is too far already
_DIGITS: Final = 8


class _Extent:
    """How large a rectangle the cells of one XML file can span."""

    def __init__(self) -> None:
        self._rows = 0
        self._columns: set[str] = set()
        self._loose = 0  # rows and cells that do not say where they are
        self._digits = ""

    def see(self, name: str, attributes: dict[str, str]) -> None:
        """Take note of an element; called for each of millions."""
        if name != "c" and name != "row" and name.rpartition(":")[2] not in {"c", "row"}:
            return
        reference = attributes.get("r", "")
        letters = reference.rstrip("0123456789")
        self._columns.add(letters[:_LETTERS])
        digits = reference[len(letters) :]
        if digits != self._digits:
            self._digits = digits
            self._rows = max(self._rows, int(digits[:_DIGITS] or 0))
        if not digits:
            self._loose += 1

    @property
    def area(self) -> int:
        """Places at most."""
        return (self._rows + self._loose) * (max(map(_column, self._columns), default=0) + self._loose)


def _column(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _check(path: str) -> None:
    """Refuse what is no XLSX workbook, or would need more memory than a workbook may."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            # Calamine tries other formats on what is no proper XLSX file; those are not checked here.
            if "xl/workbook.xml" not in names or names & {"xl/workbook.bin", "content.xml"}:
                raise SourceFileError(path, None, "it is an archive and no XLSX workbook: save it as XLSX or CSV")
            if len(members) > _MEMBERS:
                raise SourceFileError(path, None, f"it has {len(members)} parts; at most {_MEMBERS} are read")
            unpacked = 0
            for member in members:
                unpacked += _walk(path, archive, member, _UNPACKED - unpacked)
    except SourceFileError:
        raise
    except OSError as error:
        raise SourceFileError(path, None, error.strerror or type(error).__name__) from error
    except Exception as error:  # each way to pack has errors of its own
        raise SourceFileError(path, None, f"it is damaged or locked ({type(error).__name__})") from error


def _walk(path: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, allowed: int) -> int:
    # What an archive says about sizes may be a lie: it is unpacked until it ends.
    member.file_size = allowed + 2 * _CHUNK
    extent, size = _Extent(), 0
    parser = expat.ParserCreate()
    parser.StartElementHandler = extent.see
    with archive.open(member) as stream:
        data = stream.read(_CHUNK)
        is_xml = data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
        while data:
            size += len(data)
            if size > allowed:
                raise SourceFileError(path, None, f"it unpacks to more than {_UNPACKED >> 20} MB: save it as CSV")
            if is_xml:
                parser.Parse(data, False)  # noqa: FBT003
                if extent.area > _CELLS:
                    raise SourceFileError(
                        path, None, f"its cells span more than {_CELLS:,} places: delete stray cells, or save it as CSV"
                    )
            data = stream.read(_CHUNK)
    return size


class WorkbookReader:
    """One sheet of a workbook.

    Args:
        path: the file.
        column: as `NumberColumn`.
        sheet: its name, or its position from 1.

    Raises:
        SourceFileError: it is none, too large, has no such sheet, or the extra is missing.
    """

    def __init__(self, path: str, column: str | int | None, sheet: str | int) -> None:
        try:
            # By name, since its types are not whole.
            calamine: Any = import_module("python_calamine")
        except ImportError:
            raise InvalidConfigurationError(missing_extra("files", "an XLSX file")) from None
        _check(path)
        try:
            workbook = calamine.load_workbook(path)
            names: list[str] = workbook.sheet_names
            name = sheet if isinstance(sheet, str) else dict(enumerate(names, 1)).get(sheet)
            if name not in names:
                there = ", ".join(f"{position} {known!r}" for position, known in enumerate(names, 1))
                raise SourceFileError(path, None, f"there is no sheet {sheet!r}; there are {there}")
            found = workbook.get_sheet_by_name(name)
        except calamine.CalamineError as error:
            raise SourceFileError(path, None, f"it is damaged or locked ({type(error).__name__})") from error
        self._workbook = workbook
        # Calamine leaves out the empty columns on the left; positions count them. Older ones panic on an empty sheet.
        self._margin = [""] * (found.start[1] if found.start else 0)
        self._rows: Iterator[list[Any]] = found.iter_rows() if found.start else iter(())
        self._cutter = RowCutter(path, column)

    @property
    def header(self) -> Sequence[str]:
        """See `Reader`."""
        return self._cutter.column.header

    def read_block(self) -> NumberBlock | None:
        """See `Reader`."""
        rows: list[list[Any]] = [self._margin + row for row in islice(self._rows, _ROWS)]
        return self._cutter.cut(rows, convert=cell_to_text) if rows else None

    def close(self) -> None:
        """See `Reader`."""
        self._workbook.close()
