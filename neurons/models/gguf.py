"""The header of a GGUF file, read and checked before anything is loaded from it.

transformers and gguf fail on a half-written file with 'cannot reshape array', and on lying counts with a bare IndexError.
This reads the header with bounds checks and compares the size the tensors need with the size the file has.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from neurons.core.errors import InvalidFile
from neurons.storage.files import check_source

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF value type -> struct format. 8 is a string, 9 an array."""
_STRING, _ARRAY = 8, 9
_MAX_ENTRIES = 1_000_000
_MAX_STRING = 64 * 1024 * 1024


@dataclass(frozen=True)
class GGUFHeader:
    """What a GGUF file says of itself."""

    path: Path
    architecture: str
    """llama.cpp's name, such as "llama"."""
    name: str
    metadata: dict[str, Any]
    """Scalar and string entries; arrays are skipped."""
    tensors: dict[str, tuple[int, ...]]
    """Tensor name -> shape, in GGUF's order (fastest axis first)."""
    quantisation: str
    """The tensor type that holds most of the weights, such as Q4_1."""
    file_bytes: int

    @property
    def parameters(self) -> int:
        """Number of weights over all tensors."""
        return sum(math.prod(shape) for shape in self.tensors.values())


def read_gguf_header(path: Path) -> GGUFHeader:
    """Read and check the header of `path`. Raises `InvalidFile` that names the file and what is wrong with it."""
    check_source(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Reader(file, path, size).header()
    except FileNotFoundError as error:
        raise InvalidFile(f"there is no file {path}; check the path", field="model") from error
    except IsADirectoryError as error:
        raise InvalidFile(f"{path} is a folder; name the .gguf file in it", field="model") from error
    except PermissionError as error:
        raise InvalidFile(f"{path} cannot be read: permission denied", field="model") from error


class _Reader:
    """Reads forward through one file; any short read or silly count becomes `InvalidFile`."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.file, self.path, self.size = file, path, size

    def header(self) -> GGUFHeader:
        if self.size < 24 or self.take(4) != _MAGIC:
            self.fail("it does not start as a GGUF file does" if self.size else "it is empty")
        version = self.number("I")
        if version not in (2, 3):
            self.fail(f"its GGUF version is {version}; versions 2 and 3 can be read" + (" (big-endian file)" if version > 2**16 else ""))
        n_tensors, n_entries = self.number("Q"), self.number("Q")
        if not 0 < n_tensors <= _MAX_ENTRIES or n_entries > _MAX_ENTRIES:
            self.fail(f"its header counts {n_tensors} tensors and {n_entries} entries, which cannot be")
        metadata: dict[str, Any] = {}
        for _ in range(n_entries):
            key = self.text()
            value = self.value(self.number("I"))
            if value is not None:
                metadata[key] = value
        if self.whole(metadata, "split.count", 1, most=100_000) > 1:
            self.fail("it is one part of a split model; join the parts with llama-gguf-split --merge and name the joined file")
        return self.with_tensors(n_tensors, metadata)

    def with_tensors(self, n_tensors: int, metadata: dict[str, Any]) -> GGUFHeader:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        tensors: dict[str, tuple[int, ...]] = {}
        weights_by_type: dict[str, int] = {}
        end = 0
        for _ in range(n_tensors):
            name = self.text()
            n_dims = self.number("I")
            if n_dims > 8:
                self.fail(f"tensor {name!r} says it has {n_dims} dimensions")
            shape = tuple(self.number("Q") for _ in range(n_dims))
            kind, offset = self.number("I"), self.number("Q")
            if kind not in set(GGMLQuantizationType):
                self.fail(f"tensor {name!r} is of type {kind}, which is not known")
            block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            weights = math.prod(shape)
            end = max(end, offset + weights // block * block_bytes)
            tensors[name] = shape
            type_name = GGMLQuantizationType(kind).name
            weights_by_type[type_name] = weights_by_type.get(type_name, 0) + weights
        alignment = self.whole(metadata, "general.alignment", 32, most=1 << 20) or 32
        data_start = -(-self.file.tell() // alignment) * alignment
        if data_start + end > self.size:
            self.fail(f"it is cut off: its tensors need {data_start + end:,} bytes and it has {self.size:,}; copy or download it again")
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str):
            self.fail("it does not name its architecture (general.architecture)")
        return GGUFHeader(
            path=self.path,
            architecture=architecture,
            name=str(metadata.get("general.name", self.path.stem)),
            metadata=metadata,
            tensors=tensors,
            quantisation=max(weights_by_type, key=lambda kind: weights_by_type[kind]),
            file_bytes=self.size,
        )

    def whole(self, metadata: dict[str, Any], key: str, usual: int, *, most: int) -> int:
        """A whole number of the header, `usual` where there is none."""
        value = metadata.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self.fail(f"its {key} is {str(value)[:60]}; it has to be a whole number up to {most:,}")
        return value

    def fail(self, why: str) -> NoReturn:
        raise InvalidFile(f"{self.path} is not a usable GGUF file: {why}", field="model")

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            self.fail(f"it is cut off in its header, after {self.size:,} bytes; copy or download it again")
        return data

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0])

    def text(self) -> str:
        length = self.number("Q")
        if length > min(_MAX_STRING, self.size):
            self.fail(f"a string in its header says it is {length:,} bytes long")
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            self.skip_array()
            return None
        if kind not in _SCALARS:
            self.fail(f"an entry of its header is of type {kind}, which is not known")
        form = f"<{_SCALARS[kind]}"
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def skip_array(self) -> None:
        kind, count = self.number("I"), self.number("Q")
        if count > self.size:
            self.fail(f"a list in its header says it has {count:,} items")
        if kind == _STRING:
            for _ in range(count):
                length = self.number("Q")
                if length > self.size:
                    self.fail(f"a string in its header says it is {length:,} bytes long")
                self.file.seek(length, os.SEEK_CUR)
        elif kind in _SCALARS:
            self.file.seek(count * struct.calcsize(f"<{_SCALARS[kind]}"), os.SEEK_CUR)
        else:
            self.fail(f"a list in its header holds items of type {kind}, which are not known")
