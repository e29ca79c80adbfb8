"""Small JSON files that carry a checksum of themselves, so that any changed bit is noticed when they are read.

The last entry of the object is `"sha256"`, over every byte before it. Files of older versions have none and are read as they are,
but only when they hold nothing else than those versions wrote: a seal whose name was damaged is not taken for a missing one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from neurons.core.errors import StoreError
from neurons.core.json_text import strict_json
from neurons.storage.files import write_atomic

SEAL = "sha256"
_END = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n\}\n')
_END_LENGTH = len(',\n "sha256": ""\n}\n') + 64


def seal(value: Mapping[str, Any]) -> bytes:
    """The object as sealed JSON. Raises `ValueError` or `TypeError` for what JSON cannot hold, NaN and lone surrogates included."""
    if not value or SEAL in value:
        raise ValueError(f"an object to be sealed has entries of its own, none named {SEAL!r}")
    body = strict_json(dict(value), indent=1).removesuffix("\n}").encode()
    return body + f',\n "{SEAL}": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def unseal(data: bytes, *, what: str, unsealed: Collection[str], cure: str) -> dict[str, Any]:
    """The object without its seal. `unsealed` names the entries that a file without a seal may have; `cure` ends the message.

    Raises `StoreError` when the seal does not fit or the file is no JSON object.
    """
    body, end = data[:-_END_LENGTH], _END.fullmatch(data[-_END_LENGTH:])
    if end is not None and hashlib.sha256(body).hexdigest().encode() != end[1]:
        raise StoreError(f"{what} was changed (its checksum differs); {cure}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} cannot be read ({error}); {cure}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{what} is not a JSON object; {cure}")
    if end is not None:
        del value[SEAL]
    elif strange := sorted(set(value) - set(unsealed)):
        raise StoreError(f"{what} was changed (it has no checksum, but {strange[0][:40]!r}); {cure}")
    return value


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object with its seal, whole or not at all. Raises `StoreError` when the disk refuses, and what `seal` raises."""
    write_atomic(path, seal(value))
