"""JSON from outside: whatever is wrong with it is one `InvalidFile`; numbers, texts and depth have bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from neurons.core.errors import InvalidFile
from neurons.core.json_text import strict_json

MAX_BYTES = 100 << 20
_MOST_DIGITS = 19
_LARGEST = 2**63


def parse_json(data: str | bytes, *, what: str, field: str = "file") -> Any:
    """The value of a JSON text; bytes are UTF-8. `what` is what an error names, such as the file.

    Raises `InvalidFile`: no JSON, too deep, not UTF-8, half a surrogate pair, NaN or infinity, a whole number past 64 bits.
    """

    def refuse(why: str) -> NoReturn:
        raise InvalidFile(f"{what} {why}", field=field)

    def whole(digits: str) -> int:
        number = int(digits) if len(digits) <= _MOST_DIGITS + 1 else _LARGEST
        if not -_LARGEST <= number < _LARGEST:
            refuse(f"holds a whole number past 64 bits ({digits[:20]}...)")
        return number

    def fraction(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            refuse(f"holds {digits[:20]}, which is past what numbers can be")
        return number

    def constant(word: str) -> float:
        refuse(f"holds {word}; use finite numbers")

    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=constant, parse_int=whole, parse_float=fraction)
        if "\\u" in text or not text.isascii():
            strict_json(value).encode("utf-8")
    except InvalidFile:
        raise
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{what} is not UTF-8 text: {error.reason} at byte {error.start}", field=field) from error
    except UnicodeEncodeError as error:
        raise InvalidFile(f"{what} holds half a surrogate pair, which is no character", field=field) from error
    except RecursionError as error:
        raise InvalidFile(f"{what} is not JSON that can be read: it is nested too deeply", field=field) from error
    except ValueError as error:
        raise InvalidFile(f"{what} is not JSON: {str(error)[:200]}", field=field) from error
    return value


def read_json_file(path: Path, *, field: str = "file", most: int = MAX_BYTES) -> Any:
    """The value of a JSON file. Raises `InvalidFile` where it cannot be read, has more than `most` bytes, and as `parse_json`."""
    return parse_json(read_bytes(path, field=field, most=most), what=str(path), field=field)


def read_bytes(path: Path, *, field: str = "file", most: int = MAX_BYTES) -> bytes:
    """The bytes of a plain file. Raises `InvalidFile` where it cannot be read, is no plain file or has more than `most` bytes."""
    try:
        if path.exists() and not path.is_file():
            raise InvalidFile(f"{path} is {'a folder' if path.is_dir() else 'a device'}, not a file", field=field)
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:  # a name may hold a null character
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidFile(f"{path} cannot be read: {reason}", field=field) from error
    if len(data) > most:
        raise InvalidFile(f"{path} has more than {most / 1e6:,.0f} MB; split it", field=field)
    return data
