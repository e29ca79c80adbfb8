"""An unforeseen error leaves a file that helps to mend it, and a sentence that names the file; a refusing disk breaks neither."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from neurons.storage import error_reports
from neurons.storage.error_reports import KEPT, unforeseen, write_report


def _raised() -> Exception:
    try:
        {}["a\nkey"]
    except KeyError as error:
        return error
    raise AssertionError


def test_a_report_names_version_work_and_place(home: Path) -> None:
    said = unforeseen(_raised(), "loading x")
    [report] = (home / "reports").iterdir()
    text = report.read_text()
    assert str(report) in said
    assert said.startswith("loading x failed in a way that was not foreseen (KeyError: 'a\\nkey')")
    assert text.startswith("Neuronscope ")
    assert "while: loading x" in text
    assert "test_error_reports.py" in text
    assert report.stat().st_mode & 0o077 == 0


def test_an_error_without_words_is_named_by_its_kind(home: Path) -> None:
    assert "(ValueError); what happened is in" in unforeseen(ValueError(), "x")


def test_half_a_character_in_an_error_is_kept_as_an_escape(home: Path) -> None:
    path = write_report(ValueError("\ud83d"), "x")
    assert path is not None
    assert "\\ud83d" in path.read_text()


def test_only_the_newest_are_kept(home: Path) -> None:
    (home / "reports").mkdir()
    for n in range(KEPT + 5):
        (home / "reports" / f"20200101-{n:06d}-aaaaaa.txt").write_text("old")
    path = write_report(ValueError("new"), "x")
    left = sorted((home / "reports").iterdir())
    assert len(left) == KEPT
    assert left[-1] == path


def test_where_the_user_data_refuses_it_goes_to_the_temporary_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "reports").write_text("a file where the folder should be")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    path = write_report(ValueError("x"), "x")
    assert path is not None
    assert path.parent == tmp_path / "temporary"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert error_reports.write_report(ValueError("x"), "x") is None
    assert "no report could be written" in unforeseen(ValueError("x"), "x")
