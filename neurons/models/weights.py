"""Weight files on disk: which they are, their hash, how much memory they will take. Loads nothing into a model."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from neurons.core.errors import ModelError, StoreError
from neurons.core.home import home
from neurons.core.progress import Progress, no_progress
from neurons.storage.files import write_json

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_HASH_CHUNK = 16 * 1024 * 1024
_MAX_REMEMBERED = 2_000


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, in name order: safetensors (those the index names), else PyTorch's. Empty when there are none."""
    for pattern, index in (("*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin", "pytorch_model.bin.index.json")):
        if (folder / index).is_file():
            return [folder / name for name in _named_by_index(folder / index)]
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def _named_by_index(index: Path) -> list[str]:
    """The files that an index names, sorted; each a plain name beside it."""
    weight_map = read_json(index).get("weight_map", {})
    names = set(weight_map.values()) if isinstance(weight_map, dict) and all(isinstance(n, str) for n in weight_map.values()) else None
    if names is None or any(not name or "/" in name or "\\" in name or "\0" in name or len(name) > 255 for name in names):
        raise ModelError(f"{index}: weight_map has to give each tensor the name of a file beside it; fetch the model again")
    return sorted(names)


def weights_hash(files: Sequence[Path], *, progress: Progress = no_progress) -> str:
    """SHA-256 over the weight files, hex: of the file where there is one, else of the files' own hex digests joined in name order.

    A file's digest is remembered by path, size and time of change. Files in the hub's cache are named by their SHA-256 already.
    """
    digests = [_file_digest(file.resolve(), progress) for file in sorted(files)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def parameter_count(files: Sequence[Path]) -> int | None:
    """Number of weights, from the headers of safetensors files; None for other files. Raises `ModelError` for a damaged file."""
    total = 0
    for file in files:
        if file.suffix != ".safetensors":
            return None
        header = _safetensors_header(file)
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def predicted_bytes(parameters: int, dtype: str) -> int:
    """Memory a loaded model takes: its weights, and a tenth plus 300 MB for activations, cache and the runtime."""
    return int(parameters * DTYPE_BYTES[dtype] * 1.1) + 300_000_000


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that belongs to a model. Raises `ModelError` naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({str(error)[:200]}); fetch the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object; fetch the model again")
    return value


def _file_digest(file: Path, progress: Progress) -> str:
    if file.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", file.name):
        return file.name
    stat = file.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    memory = home() / "settings" / "weight-hashes.json"
    known_in = [(memory, str(file))]
    if file.parent == (home() / "models" / "default").resolve():  # a stranger's folder must not say what its own hash is
        known_in.insert(0, (file.parent / "neuronscope.json", file.name))
    for source, key in known_in:
        known = _remembered(source).get(key)
        if isinstance(known, list) and known[:2] == stamp and len(known) == 3 and re.fullmatch(r"[0-9a-f]{64}", str(known[2])):
            return str(known[2])
    digest = _sha256(file, stat.st_size, progress)
    remembered = _remembered(memory)
    newest = dict(list(remembered.items())[-_MAX_REMEMBERED:])
    with suppress(StoreError):  # on a full or read-only disk it is computed again each time
        write_json(memory, {"sha256": {**newest, str(file): [*stamp, digest]}})
    return digest


def _remembered(source: Path) -> dict[str, Any]:
    """The hashes that a file remembers; none where it is damaged."""
    with suppress(ModelError):
        found = read_json(source).get("sha256", {}) if source.is_file() else {}
        return found if isinstance(found, dict) else {}
    return {}


def _sha256(file: Path, size: int, progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done, size, f"hashing the weights of {file.name}")
    return digest.hexdigest()


def hash_stamp(file: Path, digest: str) -> list[int | str]:
    """What `neuronscope.json` remembers of a file: size, time of change, SHA-256."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, digest]


def _checked_end(name: str, entry: dict[str, Any]) -> int:
    """Where a tensor's bytes end. Raises `ValueError` for numbers that no tensor has."""
    numbers = [*entry["shape"], *entry["data_offsets"]]
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63 for n in numbers) or len(entry["shape"]) > 16:
        raise ValueError(f"tensor {name[:80]!r} has no usable shape or place")
    return int(entry["data_offsets"][1])


def _safetensors_header(file: Path) -> dict[str, Any]:
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, 200_000_000):
                raise ValueError("its header is longer than the file")
            header: dict[str, Any] = json.loads(stream.read(length))
        end = max((_checked_end(name, entry) for name, entry in header.items() if name != "__metadata__"), default=0)
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ModelError(f"{file} is not a usable safetensors file ({error}); fetch the model again") from error
    if 8 + length + end > size:
        raise ModelError(f"{file} is cut off: its tensors need {8 + length + end:,} bytes and it has {size:,}; fetch the model again")
    try:
        with safe_open(file, framework="np"):  # types that nobody knows, gaps, tensors over one another
            return header
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is not a usable safetensors file ({str(error)[:200]}); fetch the model again") from error
