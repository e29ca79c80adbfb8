"""Files on disk: private, whole, never in place of what is no plain file; leftovers swept; journals finished."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from neurons.core.errors import InvalidInput, StoreError
from neurons.core.home import home as find_home
from neurons.core.home import subfolder
from neurons.storage import journal
from neurons.storage.files import atomic_file, sweep_leftovers, write_atomic, write_output
from neurons.storage.sealed import write_sealed
from neurons.storage.trash import Trash


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_its_owner_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONSCOPE_HOME", str(tmp_path / "new" / "home"))
    write_atomic(subfolder("steers") / "file", b"x")
    assert mode(find_home()) == mode(subfolder("steers")) == 0o700
    assert mode(subfolder("steers") / "file") == 0o600


def test_a_home_below_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("NEURONSCOPE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StoreError, match="NEURONSCOPE_HOME"):
        find_home()


def test_what_a_person_asked_for_elsewhere_has_their_mode(tmp_path: Path) -> None:
    write_output(tmp_path / "out.csv", "x")
    assert mode(tmp_path / "out.csv") == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_only_plain_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(InvalidInput, match="plain file"):
            write_output(tmp_path / name, "x")
        with pytest.raises(InvalidInput, match="plain file"), atomic_file(tmp_path / name):
            pass
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "kept"
    with pytest.raises(InvalidInput, match="device"):
        write_output(Path("/dev/null"), "x")
    assert not Path("/dev/null").is_file()


def test_leftovers_of_long_ago_are_swept(tmp_path: Path) -> None:
    for name in (".a.json.0123.part", "a.partial", ".fresh.part", "kept.json"):
        (tmp_path / name).write_text("x")
    long_ago = time.time() - 7200
    for name in (".a.json.0123.part", "a.partial", "kept.json"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    assert sweep_leftovers(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".fresh.part", "kept.json"]


def test_a_journal_is_finished_and_can_be_finished_twice(tmp_path: Path) -> None:
    bench = tmp_path / ".work" / "bench"
    bench.mkdir(parents=True)
    (bench / "new").write_text("new")
    (tmp_path / "target").write_text("old")
    moves = [["target", ".work/bench/old"], [".work/bench/new", "target"]]
    write_sealed(bench / journal.JOURNAL, {"format": "neuronscope-journal", "version": 1, "moves": moves})
    os.rename(tmp_path / "target", bench / "old")  # killed after the first
    assert journal.replay(tmp_path, tmp_path / ".work") == 1
    assert (tmp_path / "target").read_text() == "new"
    assert not bench.exists()
    assert journal.replay(tmp_path, tmp_path / ".work") == 0


def test_trash_keeps_the_latest_and_finishes_removals(tmp_path: Path) -> None:
    trash = Trash(tmp_path / "trash", keep=2)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        trash.put(tmp_path / name, name)
    assert trash.names() == ("b", "c")
    trash.put_back("b", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "b"
    assert "../b" not in trash
    (trash.folder / ".going-x").mkdir()
    trash.sweep()
    assert [path.name for path in trash.folder.iterdir()] == ["c"]
