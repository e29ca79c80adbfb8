"""Small files that notice every changed bit, and the manifests that stand on them."""

from __future__ import annotations

import hashlib
import json

import pytest

from neurons.core.clock import now, parse_moment, stamp
from neurons.core.errors import InvalidInput, StoreError
from neurons.storage.manifest import MANIFEST_FORMAT, FileEntry, parse_manifest
from neurons.storage.sealed import seal, unseal

VALUE = {"name": "a text with ünïcode", "tags": ["x"], "row": 7, "share": 0.5}


def opened(data: bytes) -> dict[str, object]:
    return unseal(data, what="file", unsealed=tuple(VALUE), cure="mend it")


def test_out_and_in() -> None:
    data = seal(VALUE)
    assert opened(data) == VALUE
    assert json.loads(data) == {**VALUE, "sha256": json.loads(data)["sha256"]}, "a plain JSON reader reads it, too"


def test_files_of_older_versions_have_no_seal() -> None:
    assert opened(json.dumps(VALUE).encode()) == VALUE


def test_every_changed_bit_is_noticed() -> None:
    data = seal(VALUE)
    for place in range(len(data) * 8):
        spoiled = bytearray(data)
        spoiled[place // 8] ^= 1 << place % 8
        with pytest.raises(StoreError, match="mend it"):
            opened(bytes(spoiled))


def test_every_cut_is_noticed() -> None:
    data = seal(VALUE)
    for length in range(len(data)):
        with pytest.raises(StoreError, match="mend it"):
            opened(data[:length])


@pytest.mark.parametrize("value", [{}, {"sha256": "x"}, {"x": float("nan")}, {"x": "\ud800"}])
def test_what_cannot_be_sealed_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any of its kinds: NaN, a lone surrogate, a taken name
        seal(value)


DIGEST = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("name", ["/dev/zero", "../other", "a/../../b", "a//b", "a\0b", "a\nb", "", ".", "C:x", "a\\b", "\ud800"])
def test_a_manifest_names_only_files_of_its_folder(name: str) -> None:
    """A device would be read for good, a character 0 is refused by the system in words that nobody reads."""
    value = {"format": MANIFEST_FORMAT, "version": 1, "files": {name: {"size": 0, "sha256": DIGEST}}}
    with pytest.raises(StoreError, match="no file of its folder"):
        parse_manifest(json.dumps(value).encode(), what="it")


def test_an_entry_of_a_manifest_holds_nothing_else() -> None:
    value = {"format": MANIFEST_FORMAT, "version": 1, "files": {"a/b": {"size": 0, "sha256": DIGEST}}}
    assert parse_manifest(json.dumps(value).encode(), what="it") == {"a/b": FileEntry(0, DIGEST)}
    value["files"] = {"a/b": {"size": 0, "sha256": DIGEST, "more": 1}}
    with pytest.raises(StoreError, match="not a size and a SHA-256"):
        parse_manifest(json.dumps(value).encode(), what="it")


def test_moments_have_a_zone() -> None:
    assert parse_moment(now()).tzinfo is not None
    assert parse_moment("2026-11-24T10:00:00+02:00").hour == 8
    assert stamp() <= stamp()
    for text in ("2026-11-24", "2026-11-24T10:00:00", "2026-11-24 10:00:00Z", "24.11.2026", "", "2026-13-01T00:00:00Z", "now"):
        with pytest.raises(InvalidInput, match="time and zone"):
            parse_moment(text)
