"""Text out of the bytes of a file, piece by piece; finds the encoding."""

from __future__ import annotations

import codecs
import io

from qxt_async.errors import InvalidConfigurationError, SourceFileError

ZIP_MAGIC = b"PK\x03\x04"
"""The first bytes of a ZIP archive, and so of an XLSX file."""

_BOM_BYTES = 4
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def check_encoding(encoding: str | None) -> str | None:
    """Return Python's name of a text encoding.

    Raises:
        InvalidConfigurationError: there is no such encoding.
    """
    if encoding is None:
        return None
    try:
        b"0000".decode(encoding, "ignore")  # also refuses codecs that are no text encodings
    except LookupError:
        raise InvalidConfigurationError(f"there is no encoding {encoding!r}; try utf-8, gbk or utf-16") from None
    name = codecs.lookup(encoding).name
    return "utf-8" if name == "utf-8-sig" else name


class TextDecoder:
    """Decodes a file to text with plain line ends.

    A byte order mark means UTF-8 or UTF-16. Without one a file is UTF-8 if the first characters outside ASCII are, else
    GBK. No byte of a GBK character is a digit, a delimiter or a line end, so a wrong guess cannot change a number.

    Args:
        name: of the file, for errors.
        encoding: Python's name of it; ``None`` to find it.
    """

    def __init__(self, name: str, encoding: str | None) -> None:
        self._name = name
        self._encoding = encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        self._newlines = io.IncrementalNewlineDecoder(None, translate=True)
        self._started = False
        self._held = b""
        self._offset = 0  # of the first byte that no decoder has seen
        self._line = 1

    def decode(self, data: bytes, *, final: bool) -> str:
        """Decode some more bytes, as far as their characters are complete.

        Raises:
            SourceFileError: the bytes are not text in that encoding; names the line.
        """
        data, self._held = self._held + data, b""
        if not self._started:
            if len(data) < _BOM_BYTES and not final:
                self._held = data
                return ""
            data = self._start(data)
        try:
            text = self._decode(data, final=final)
        except UnicodeDecodeError as error:
            raise self._failure(error, len(data)) from None
        self._offset += len(data) - len(self._held)
        text = self._newlines.decode(text, final=final)
        if "\0" in text:
            reason = "it has NUL characters: no text, or UTF-16 without a byte order mark (then say encoding utf-16-le)"
            raise SourceFileError(self._name, self._line + text[: text.index("\0")].count("\n"), reason)
        self._line += text.count("\n")
        return text

    def _start(self, data: bytes) -> bytes:
        self._started = True
        if data.startswith(ZIP_MAGIC):
            raise SourceFileError(self._name, 1, "it is a spreadsheet or an archive: save it as CSV")
        bom, bom_encoding = next(((bom, encoding) for bom, encoding in _BOMS if data.startswith(bom)), (b"", None))
        if self._encoding in (None, "utf-16"):
            self._encoding = bom_encoding or ("utf-16-le" if self._encoding else None)
        if self._encoding is not None:
            self._decoder = codecs.getincrementaldecoder(self._encoding)()
        if self._encoding != bom_encoding:
            return data
        self._offset = len(bom)
        return data[len(bom) :]

    def _decode(self, data: bytes, *, final: bool) -> str:
        if self._decoder is not None:
            return self._decoder.decode(data, final)
        if data.isascii():
            return data.decode("ascii")
        decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = decoder.decode(data, final)
        except UnicodeDecodeError as not_utf_8:
            decoder = codecs.getincrementaldecoder("gbk")()
            try:
                text = decoder.decode(data, final)
            except UnicodeDecodeError as not_gbk:
                # The decoder that got farther is the likelier one.
                raise max(not_utf_8, not_gbk, key=lambda error: error.start) from None
        if text.isascii():
            # The only bytes outside ASCII are the start of a character that is still incomplete: too early to decide.
            self._held = data[len(text) :]
            return text
        self._decoder = decoder
        return text

    def _failure(self, error: UnicodeDecodeError, fed: int) -> SourceFileError:
        good = error.object[: error.start].decode(error.encoding, "ignore")
        line = self._line + self._newlines.decode(good, final=True).count("\n")
        # The decoder may hold the first bytes of a character from an earlier call.
        offset = self._offset - (len(error.object) - fed) + error.start
        tried = f"not {self._encoding}" if self._encoding else "neither UTF-8 nor GBK"
        reason = f"the byte 0x{error.object[error.start]:02x} at offset {offset} is {tried}; say which encoding"
        return SourceFileError(self._name, line, reason)
