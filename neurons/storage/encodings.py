"""Bytes as text: byte-order marks, UTF-8, then what a detector says. Knows no formats."""

from __future__ import annotations

import codecs
import re
import unicodedata

import chardet
from chardet import EncodingEra

from neurons.core.errors import InvalidFile

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks and what they say; UTF-32 first, whose mark begins like that of UTF-16."""
_LOOKED_AT = 1 << 20
_SURE = 0.02  # the detector's confidence below which old Mac, DOS and mainframe encodings are looked at as well
_RARE = 100
"""In a text one of so many bytes at most is 0."""
_NO_TEXT = ("Cc", "Cn", "Co", "Cs")
"""Categories of characters that no text holds: controls, unassigned ones, private ones, halves of pairs."""
_WORD = re.compile(r"[^\W\d_]{2,}")


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """Text without a byte-order mark, and the encoding's name. `encoding` None is found out.

    Raises `InvalidFile` for binary files, and where the bytes are not in the encoding.
    """
    mark, marked = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", ""))
    if encoding is not None:
        return _as_told(data, encoding, mark)
    if data[:4] == b"PK\x03\x04":
        raise InvalidFile("this is a zip or Excel file; save the sheet as CSV (UTF-8) first", field="file")
    if marked in ("utf-16", "utf-32"):
        try:
            return data.decode(marked), marked
        except UnicodeDecodeError as error:
            name = marked.upper()
            raise InvalidFile(f"the file says it is {name} but is not ({error.reason}); save it as UTF-8", field="file") from error
    if b"\0" in data[:65_536]:
        if (wide := _unmarked(data)) is not None:
            return data.decode(wide), wide
        if data.count(0) * _RARE <= len(data) and (text := _utf8(data)) is not None:
            return text, "utf-8"  # an answer may hold the character 0
        raise InvalidFile("the file is binary, not text; use TXT, CSV or JSONL", field="file")
    if (text := _utf8(data)) is not None:
        return text, "utf-8"
    found = _detected(data)
    try:
        return data.decode(found), found
    except (UnicodeDecodeError, LookupError) as error:
        raise InvalidFile(
            f"the file mixes encodings (it looked like {found}); save it as UTF-8, or name its encoding", field="file"
        ) from error


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode("utf-8-sig").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None


def _unmarked(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte-order mark, as some databases and Windows programs write them; None for what is no text."""
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        strange = sum(unicodedata.category(char) in _NO_TEXT and char not in "\t\n\r\f\v" for char in text[:_LOOKED_AT])
        if text and not strange and ("\n" in text or "\r" in text or " " in text):
            return encoding
    return None


def _as_told(data: bytes, encoding: str, mark: bytes) -> tuple[str, str]:
    try:
        wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
        return (data if wide else data.removeprefix(mark)).decode(encoding).removeprefix("\ufeff"), encoding
    except (UnicodeDecodeError, LookupError) as error:
        raise InvalidFile(f"the file cannot be read as {encoding!r}: {error}", field="encoding") from error


def _detected(data: bytes) -> str:
    """The detector's best guess under which letters of two alphabets do not stand in one word ("cafй"): its first, nearly always."""
    for era in (EncodingEra.MODERN_WEB, EncodingEra.ALL):
        guesses = [g for g in chardet.detect_all(data[:_LOOKED_AT], encoding_era=era) if g["encoding"]]
        fits = next((g for g in guesses if not _mixes_alphabets(data, str(g["encoding"]))), None)
        if fits is not None and (fits["confidence"] >= _SURE or era is EncodingEra.ALL):
            return codecs.lookup(str(fits["encoding"])).name
    raise InvalidFile("the file's encoding was not recognised; save it as UTF-8, or name its encoding", field="file")


def _mixes_alphabets(data: bytes, encoding: str) -> bool:
    text = data[:_LOOKED_AT].decode(encoding, errors="ignore")
    foreign = [word for word in _WORD.findall(text) if not word.isascii() and any("\u0370" <= char <= "\u05ff" for char in word)]
    mixed = sum(1 for word in foreign if any(char.isascii() for char in word))
    return mixed > 0.5 * len(foreign) > 0
