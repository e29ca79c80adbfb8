"""JSON out and in: what is written every reader reads, and what comes from outside has bounds."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurons.core.errors import InvalidFile
from neurons.core.json_text import json_text, plain, strict_json
from neurons.core.outside_json import parse_json, read_bytes, read_json_file


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Found:
    name: str
    values: tuple[float, ...]


def test_what_json_does_not_know_becomes_what_it_knows() -> None:
    value = {
        "found": Found("a", (1.0, math.nan)),
        "array": np.arange(3, dtype=np.int64),
        "number": np.float32(0.5),
        "path": Path("a/b"),
        "set": {"b", "a"},
        "colour": Colour.RED,
        3: math.inf,
        "range": range(2),
    }
    assert json.loads(json_text(value)) == {
        "found": {"name": "a", "values": [1.0, None]},
        "array": [0, 1, 2],
        "number": 0.5,
        "path": "a/b",
        "set": ["a", "b"],
        "colour": "red",
        "3": None,
        "range": [0, 1],
    }


def test_a_number_that_is_none_is_a_mistake_where_nobody_expects_it() -> None:
    with pytest.raises(ValueError, match="JSON"):
        strict_json({"loss": math.nan})
    assert plain(math.nan) is None


def test_half_a_character_is_written_so_that_utf8_can_hold_it() -> None:
    text = json_text({"text": "a\ud83d"})
    assert text.encode("utf-8") == b'{"text": "a\\ud83d"}'
    assert json.loads(text) == {"text": "a\ud83d"}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_what_is_written_comes_back(value: object) -> None:
    assert parse_json(json_text(value).encode("utf-8"), what="it") == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("{", "it is not JSON"),
        ('{"a": NaN}', "it holds NaN; use finite numbers"),
        ("[-Infinity]", "it holds -Infinity"),
        ("[1e999]", "past what numbers can be"),
        ("[9223372036854775808]", "a whole number past 64 bits"),
        ("[" + "1" * 5000 + "]", "a whole number past 64 bits"),
        ('"\\ud800"', "half a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        (b'"\xff"', "not UTF-8 text: invalid start byte at byte 1"),
    ],
)
def test_what_is_wrong_with_json_from_outside_is_told(data: str | bytes, why: str) -> None:
    with pytest.raises(InvalidFile, match=why.replace("-", r"\-")) as told:
        parse_json(data, what="it", field="steer")
    assert told.value.field == "steer"


def test_the_widest_whole_numbers_are_read() -> None:
    assert parse_json("[-9223372036854775808, 9223372036854775807]", what="it") == [-(2**63), 2**63 - 1]
    assert parse_json(b"\xef\xbb\xbf[1]", what="it") == [1]  # a byte-order mark is no part of the text


def test_only_a_plain_file_of_a_sensible_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    assert read_json_file(file) == {"a": 1}
    with pytest.raises(InvalidFile, match="a folder, not a file"):
        read_bytes(tmp_path)
    with pytest.raises(InvalidFile, match="a device, not a file"):
        read_bytes(Path("/dev/zero"))
    with pytest.raises(InvalidFile, match="has more than 0 MB; split it"):
        read_bytes(file, most=7)
    assert len(read_bytes(file, most=8)) == 8
    with pytest.raises(InvalidFile, match="cannot be read: No such file"):
        read_bytes(tmp_path / "none.json")
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_bytes(Path("a\0b"))
