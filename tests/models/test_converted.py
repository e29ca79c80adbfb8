"""A GGUF file is converted once: the copy loads as the file does, is made anew when anything changed, and is bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from neurons.cli.main import app
from neurons.core.errors import NotFound
from neurons.models import converted
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from tests.support.gguf_files import write_gguf

IDS = torch.arange(40, 80)[None]
SCALED = {"type": "linear", "factor": 4.0}


def load(path: Path) -> tuple[LoadedModel, list[str]]:
    """The model, and what was told while it loaded."""
    told: list[str] = []
    loaded = load_model(str(path), device="cpu", progress=lambda done, total, message: told.append(message))
    return loaded, list(dict.fromkeys(told))


def logits(loaded: LoadedModel) -> torch.Tensor:
    found = run_forward(loaded, IDS).logits
    assert found is not None
    return found


def test_the_copy_is_the_file_to_the_bit(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freqs = [1.0, 2.0, 3.0, 8.0]
    path = write_gguf(tmp_path / "tiny.gguf", scaling=SCALED, freqs=freqs, ends=250)
    monkeypatch.setenv(converted.BUDGET_VARIABLE, "0")
    direct, _ = load(path)
    assert direct.findings[-1].what == "conversion"
    assert "0 GB are for converted models" in direct.findings[-1].said
    assert converted.kept() == ()
    monkeypatch.delenv(converted.BUDGET_VARIABLE)
    first, told = load(path)
    assert any(line.startswith("converting tiny (once") for line in told)
    second, told = load(path)
    assert not any("converting" in line for line in told)
    for loaded in (first, second):
        assert loaded.ref == direct.ref
        assert loaded.findings == direct.findings[:-1]
        assert loaded.eos_ids == direct.eos_ids == {258, 250}
        assert torch.equal(logits(loaded), logits(direct))
        assert loaded.tokenizer("ab, it's!")["input_ids"] == direct.tokenizer("ab, it's!")["input_ids"]
    (copy,) = converted.kept()
    assert (copy.weights_hash, copy.source) == (direct.ref.weights_hash, str(path))


def test_a_moved_file_keeps_its_copy_and_a_changed_one_does_not(tmp_path: Path, home: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    load(path)
    moved = tmp_path / "elsewhere" / "other.gguf"
    moved.parent.mkdir()
    path.rename(moved)
    loaded, told = load(moved)
    assert not any("converting" in line for line in told)
    assert loaded.ref.id == str(moved)
    _, told = load(write_gguf(path, scaling=SCALED))
    assert any("converting" in line for line in told)
    assert len(converted.kept()) == 2


def test_a_copy_that_was_touched_is_made_anew(tmp_path: Path, home: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    before, _ = load(path)
    weights = converted.kept()[0].folder / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    after, told = load(path)
    assert any("converting" in line for line in told)
    assert torch.equal(logits(after), logits(before))
    (converted.kept()[0].folder / "tokenizer.json").unlink()
    _, told = load(path)
    assert any("converting" in line for line in told)


def test_a_tokenizer_that_cannot_be_kept_is_said_once_found(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    cuts = converted._cuts
    monkeypatch.setattr(converted, "_cuts", lambda tokenizer: (id(tokenizer), cuts(tokenizer)))
    for _ in range(2):
        loaded, told = load(path)
        assert "cuts texts otherwise" in loaded.findings[-1].said
        assert torch.isfinite(logits(loaded)).all()
    assert not any("converting" in line for line in told)
    assert not list(converted.kept()[0].folder.glob("*.safetensors"))


def test_the_copies_used_longest_ago_go(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_gguf(tmp_path / f"{n}.gguf", scaling={"type": "linear", "factor": n + 2.0}) for n in range(3)]
    for path in paths[:2]:
        load(path)
    sizes = [copy.disk_bytes for copy in converted.kept()]
    for age, path in ((50, paths[1]), (10, paths[0])):  # the second was used longest ago
        (folder,) = [copy.folder for copy in converted.kept() if copy.source == str(path)]
        then = folder.stat().st_mtime - age
        os.utime(folder / converted.MANIFEST, (then, then))
    monkeypatch.setenv(converted.BUDGET_VARIABLE, str(2.5 * max(sizes) / 1e9))
    load(paths[2])
    assert {Path(copy.source).name for copy in converted.kept()} == {"0.gguf", "2.gguf"}


def test_a_conversion_broken_off_leaves_nothing(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")

    def refuse(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converted, "_differs", refuse)
    loaded, _ = load(path)
    assert "No space left on device" in loaded.findings[-1].said
    assert [entry.name for entry in (home / "converted").iterdir()] == [".lock"]


def test_copies_are_listed_and_removed(tmp_path: Path, home: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    loaded, _ = load(path)
    digest = loaded.ref.weights_hash
    runner = CliRunner()
    listed = runner.invoke(app, ["models", "list"])
    assert digest[:12] in listed.output
    assert str(path) in listed.output
    gone = runner.invoke(app, ["models", "remove", digest[:12]])
    assert gone.exit_code == 0
    assert "The copy of tiny is removed" in gone.output
    assert path.is_file()
    assert converted.kept() == ()
    with pytest.raises(NotFound, match="no converted copies"):
        converted.remove(digest[:12])
    load(path)
    assert converted.remove(str(path)).weights_hash == digest
