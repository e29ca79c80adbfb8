"""Deleted things: listed by when they were deleted, put back whole, and gone for good once removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neurons.core.errors import StoreError
from neurons.storage.trash import Trash


@pytest.fixture
def trash(tmp_path: Path) -> Trash:
    return Trash(tmp_path / "trash")


def made(folder: Path, name: str, text: str = "a") -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "file").write_text(text)
    return path


def test_a_deleted_folder_comes_back_whole(tmp_path: Path, trash: Trash) -> None:
    path = made(tmp_path, "one", "kept")
    trash.put(path, "one")
    assert not path.exists()
    assert trash.names() == ("one",)
    assert "one" in trash
    trash.put_back("one", path)
    assert (path / "file").read_text() == "kept"
    assert trash.names() == ()


def test_nothing_is_put_over_what_is_there(tmp_path: Path, trash: Trash) -> None:
    trash.put(made(tmp_path, "one", "old"), "one")
    path = made(tmp_path, "one", "new")
    with pytest.raises(StoreError, match="cannot be put back"):
        trash.put_back("one", path)
    assert (path / "file").read_text() == "new"
    assert (trash.path("one") / "file").read_text() == "old"


def test_what_is_not_there_cannot_be_deleted_or_put_back(tmp_path: Path, trash: Trash) -> None:
    assert trash.names() == ()  # no folder yet
    with pytest.raises(StoreError, match="cannot be deleted"):
        trash.put(tmp_path / "none", "none")
    with pytest.raises(StoreError, match="cannot be put back"):
        trash.put_back("none", tmp_path / "none")


@pytest.mark.parametrize("name", ["", ".", "..", "../trash", "a/b", "a\\b", "a\0b", ".going-one"])
def test_a_name_never_leads_out_of_the_trash(tmp_path: Path, trash: Trash, name: str) -> None:
    trash.put(made(tmp_path, "one"), "one")
    assert name not in trash


def test_removed_is_gone_and_a_broken_off_removal_is_finished(tmp_path: Path, trash: Trash) -> None:
    for name in ("one", "two"):
        trash.put(made(tmp_path, name), name)
    trash.remove("one")
    assert trash.names() == ("two",)
    os.rename(trash.path("two"), trash.folder / ".going-two")  # as a crash leaves it
    (trash.folder / ".going-file").write_text("")
    assert trash.names() == ()
    trash.sweep()
    assert list(trash.folder.iterdir()) == []


def test_the_latest_are_kept_by_when_they_were_deleted(tmp_path: Path) -> None:
    trash = Trash(tmp_path / "trash", keep=2)
    for age, name in enumerate(("new", "old", "older")):  # the first made is the last deleted
        path = made(tmp_path, name)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    for name in ("older", "old", "new"):
        trash.put(tmp_path / name, name)
    assert trash.names() == ("old", "new")
