"""`neuronscope lexicon`, `atlas concepts` and `concepts`, run as a user runs them, on a tiny model saved to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neurons.cli.main import build
from tests.support.lexicons import letter_lexicon


def run(*arguments: str | Path, status: int = 0) -> Any:
    result = CliRunner().invoke(build(), [*map(str, arguments), "--json"])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout if status < 2 and result.stdout else result.stderr.strip().splitlines()[-1])


@pytest.fixture
def model(tiny_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved tiny model, and a lexicon that it can tell apart."""
    monkeypatch.setattr("neurons.detectors.build.load_lexicon", letter_lexicon)
    return tiny_folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "stories.txt"
    path.write_text("the cat sat on a mat and saw seven red boats go by while rain fell\n" * 60, encoding="utf-8")
    return path


def test_the_lexicon_is_listed_and_checked(home: Path, tmp_path: Path) -> None:
    rows = run("lexicon", "list")["concepts"]
    assert len(rows) >= 600
    assert {"key", "name", "field", "definition"} <= set(rows[0])
    some = run("lexicon", "list", "--field", rows[0]["field"].upper())["concepts"]
    assert {row["field"] for row in some} == {rows[0]["field"]}
    assert "there is no field" in run("lexicon", "list", "--field", "Nonsense", status=2)["error"]
    path = tmp_path / "own.json"
    path.write_text('{"field": "x", "concepts": [{"key": "a"}]}', encoding="utf-8")
    checked = run("lexicon", "check", path, status=1)
    assert "concept 'a': name: is missing" in checked["problems"]


def test_from_an_atlas_to_the_concepts_of_a_trace(model: Path, texts: Path) -> None:
    made = run("atlas", "build", "--model", model, "--corpus", texts, "--no-probe", "--extremes", "32")
    assert made["concepts"] == {"concepts": 8, "found": 6}
    rows = run("atlas", "concepts", "--model", model, "--tokens", "2000")["rows"]
    assert [row["found"] for row in rows] == [True] * 6 + [False] * 2
    trace = run("trace", "mnopnmpomnopom", "--model", model, "--max-new-tokens", "2")
    after = len("es") + len("\nassistant\n")  # a byte is a token, and so is each marker
    start = len(trace["prompt_token_ids"]) - 14 - after
    found = run("concepts", "last", "--tokens", f"{start}:{start + 14}", "--by", "activation")
    best = found["rows"][0]
    assert best["name"] == "letters 3"
    assert best["rarity"] > 1
    assert {one["text"] for one in best["tokens"]} <= set("mnop")
    assert found["left_out"] == 2
    everything = run("concepts", "last", "--all-tokens", "--top", "8")["rows"]
    assert max(one["token"] for row in everything for one in row["tokens"]) >= start + 14
    assert "--all-tokens takes them in" in run("concepts", "last", "--token", "0", status=2)["error"]
    assert "not both" in run("concepts", "last", "--token", "0", "--tokens", "1:2", status=2)["error"]
    assert "use activation" in run("concepts", "last", "--by", "colour", status=2)["error"]


def test_without_detectors_the_command_that_makes_them_is_named(model: Path) -> None:
    run("trace", "abcd", "--model", model, "--max-new-tokens", "2")
    assert "atlas concepts" in run("concepts", "last", status=1)["error"]
