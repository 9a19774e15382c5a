"""XLSX workbooks, through python-calamine (extra ``files``).

Calamine unpacks a whole sheet into a full rectangle. So a file of a few kilobytes could need all the memory: by a part
that unpacks to gigabytes, or by two cells in opposite corners. Therefore the file is parsed once before, in constant
memory, and refused if it exceeds the limits below.
"""

from __future__ import annotations

import zipfile
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from xml.parsers import expat

from qxt_async.errors import InvalidConfigurationError, SourceFileError
from qxt_async.files.spreadsheets import cell_to_text
from qxt_async.files.text_files import read_failure
from qxt_async.runtime.words import missing_extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qxt_async.files.columns import ColumnReader, NumberBlock

# A full sheet (1,048,576 rows) of a number, a name and a code unpacks to about 150 MB.
MAX_UNPACKED: Final = 512 * 1024 * 1024
# 32 bytes each in calamine: 640 MB at worst; a full sheet may have 19 columns.
_CELLS: Final = 20_000_000
MAX_MEMBERS: Final = 10_000
_CHUNK: Final = 256 * 1024
_ROWS: Final = 2000
# XFD is the last column and 1048576 the last row of a sheet; one character more is enough to see that it is too much.
_LETTERS: Final = 4
_DIGITS: Final = 8


class _Extent:
    """The size of the rectangle that the cells of one XML file can span."""

    def __init__(self) -> None:
        self._rows = 0
        self._columns: set[str] = set()
        self._unplaced = 0  # rows and cells without a position
        self._digits = ""

    def add(self, name: str, attributes: dict[str, str]) -> None:
        """Add an element; called millions of times."""
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
            self._unplaced += 1

    @property
    def area(self) -> int:
        """The largest possible number of cells."""
        return (self._rows + self._unplaced) * (max(map(_column_number, self._columns), default=0) + self._unplaced)


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _check(path: str) -> None:
    """Refuse a file that is no XLSX workbook, or that exceeds the limits."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            # Calamine would try other formats on such a file, and those are not checked here.
            if "xl/workbook.xml" not in names or names & {"xl/workbook.bin", "content.xml"}:
                raise SourceFileError(path, None, "it is an archive and no XLSX workbook: save it as XLSX or CSV")
            if len(members) > MAX_MEMBERS:
                raise SourceFileError(path, None, f"it has {len(members)} parts; at most {MAX_MEMBERS} are read")
            unpacked = 0
            for member in members:
                unpacked += _check_part(path, archive, member, MAX_UNPACKED - unpacked)
    except SourceFileError:
        raise
    except OSError as error:
        raise read_failure(path, error) from error
    except Exception as error:  # each compression method has errors of its own
        raise SourceFileError(path, None, f"it is damaged or locked ({type(error).__name__})") from error


def _check_part(path: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, allowed: int) -> int:
    # The sizes in an archive may be wrong, so the part is unpacked until it ends.
    member.file_size = allowed + 2 * _CHUNK
    extent, size = _Extent(), 0
    parser = expat.ParserCreate()
    parser.StartElementHandler = extent.add
    with archive.open(member) as stream:
        data = stream.read(_CHUNK)
        is_xml = data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
        while data:
            size += len(data)
            if size > allowed:
                raise SourceFileError(path, None, f"it unpacks to more than {MAX_UNPACKED >> 20} MB: save it as CSV")
            if is_xml:
                parser.Parse(data, False)  # noqa: FBT003
                if extent.area > _CELLS:
                    reason = f"its cells span more than {_CELLS:,} places: delete stray cells, or save it as CSV"
                    raise SourceFileError(path, None, reason)
            data = stream.read(_CHUNK)
    return size


class WorkbookReader:
    """One sheet of a workbook.

    Args:
        columns: for the sheet's rows; its name is the path of the file.
        sheet: its name, or its position from 1.

    Raises:
        SourceFileError: the file is no workbook, is too large, or has no such sheet.
        InvalidConfigurationError: the extra is missing.
    """

    def __init__(self, columns: ColumnReader, sheet: str | int) -> None:
        try:
            # By name, since its types are incomplete.
            calamine: Any = import_module("python_calamine")
        except ImportError:
            raise InvalidConfigurationError(missing_extra("files", "an XLSX file")) from None
        self.name = path = columns.name
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
        # Calamine leaves out the empty columns on the left; positions count them. Old versions crash on an empty sheet.
        self._margin = [""] * (found.start[1] if found.start else 0)
        self._rows: Iterator[tuple[int, list[Any]]] = enumerate(found.iter_rows() if found.start else (), 1)
        self._columns = columns

    @property
    def header(self) -> Sequence[str]:
        """The names of the columns, once they were read."""
        return self._columns.header

    def read_block(self) -> NumberBlock | None:
        """Read some more rows; ``None`` at the end."""
        rows = list(islice(self._rows, _ROWS))
        if not rows:
            return None
        return self._columns.read((line, [*self._margin, *map(cell_to_text, row)]) for line, row in rows)

    def close(self) -> None:
        """Close the file."""
        self._workbook.close()
