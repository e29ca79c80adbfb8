"""`neuronscope atlas`, run as a user runs it, on a tiny model saved to a folder."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurons.cli.main import build

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "seven",
    "red",
    "boats",
    "go",
    "by",
    "while",
    "rain",
    "fell",
    "over",
    "old",
    "towns",
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rng = random.Random(0)
    rows = [json.dumps({"text": " ".join(rng.choices(WORDS, k=120))}) for _ in range(24)]
    (folder / "stories.jsonl").write_text("\n".join([*rows, "{broken"]) + "\n")
    (folder / "empty.txt").touch()
    return folder


def run(*arguments: str | Path, status: int = 0) -> dict:  # type: ignore[type-arg]
    result = CliRunner().invoke(build(), ["atlas", *map(str, arguments), "--json"])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout if status == 0 else result.stderr.strip().splitlines()[-1])  # type: ignore[no-any-return]


def test_build_info_export_import(home: Path, model: str, texts: Path, tmp_path: Path) -> None:
    made = run("build", "--no-concepts", "--model", model, "--corpus", texts, "--licence", "mine", "--extremes", "64")
    assert made["tokens"] > 1000
    empty, broken = (one["reason"] for one in made["skipped"])
    assert (empty, broken.partition(":")[0]) == ("the file is empty", "not JSON")
    assert made["sources"][0]["licence"] == "mine"
    listed = run("info")["atlases"]
    assert any(one["model"]["name"] == Path(model).name for one in listed)
    assert run("info", "--model", model)["tokens"] == made["tokens"]
    again = run("build", "--no-concepts", "--model", model, "--corpus", texts)
    assert again["tokens"] == made["tokens"]
    assert run("export", tmp_path / "n.csv", "--model", model)["rows"] == 2 * 3 * 48
    assert run("export", tmp_path / "x.jsonl", "--model", model, "--what", "exemplars", "--count", "1")["rows"] == 2 * 3 * 48
    run("export", tmp_path / "whole.zip", "--model", model)
    (tmp_path / "d.csv").write_text("layer,neuron,polarity,description,score\n0,1,+,cats,0.5\n7,1,+,too far,0.5\n")
    taken = run("import", tmp_path / "d.csv", "--model", model)
    assert taken["rows"] == 1
    assert "7:1" in taken["skipped"][0]["reason"]
    assert run("info", "--model", model)["described"] == 1
    assert run("export", tmp_path / "e.jsonl", "--model", model, "--what", "explanations")["rows"] == 1


def test_an_exported_atlas_is_taken_in_elsewhere(
    home: Path, model: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("build", "--no-concepts", "--model", model, "--corpus", texts, "--extremes", "64", "--no-probe")
    run("export", tmp_path / "whole.zip", "--model", model)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("NEURONSCOPE_HOME", str(tmp_path / "other"))
    assert run("import", tmp_path / "whole.zip", "--model", model)["tokens"] > 1000
    assert run("import", tmp_path / "whole.zip", "--model", model, status=1)["error"].endswith("remove it first")


def test_shards_and_merge(home: Path, model: str, texts: Path, tmp_path: Path) -> None:
    options = ("--model", model, "--folder", tmp_path / "c")
    first = run("collect", *options, "--corpus", texts, "--extremes", "64", "--shard", "0/2")
    assert list(first["shards"]) == ["shard-0-of-2"]
    run("collect", *options, "--shard", "1/2")
    merged = run("merge", *options, "--output", tmp_path / "atlas", "--no-probe", "--compact")
    assert merged["tokens"] == first["tokens"]
    assert merged["note"] == ""


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (("collect", "--shard", "2/2"), 2, "i/n"),
        (("build", "--corpus", "/nowhere/at/all.txt"), 2, "no file, folder"),
        (("build", "--extremes", "0"), 2, "--extremes"),
        (("merge",), 1, "no collection"),
        (("info",), 1, "atlas build"),
        (("export", "/tmp/never.csv"), 1, "atlas build"),
        (("import", "/nowhere.csv"), 2, "does not exist"),
    ],
)
def test_what_is_wrong_is_named(home: Path, model: str, arguments: tuple[str, ...], status: int, word: str) -> None:
    assert word in run(*arguments, "--model", model, status=status)["error"]


def test_too_little_text_is_refused(home: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("A short text about a cat that sat on a mat.")
    refused = run("build", "--no-concepts", "--model", model, "--corpus", tmp_path / "short.txt", status=2)
    assert "fewer than the 128 extremes" in refused["error"]
