"""`neuronscope concepts`: what is active and what caused a token, as rows that equal the engine's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurons.cli.main import app
from neurons.core.types import Sampling
from neurons.detectors.build import build_detectors
from neurons.detectors.causes import Asked, measure_causes
from neurons.detectors.store import Detectors
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import run_trace
from neurons.tracing.replay import activations_of
from neurons.tracing.words import word_positions
from tests.detectors.test_build import SETTINGS
from tests.support.atlases import tiny_corpus
from tests.support.lexicons import letter_lexicon
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model
from traces.schema import TraceRecord
from traces.store import TraceStore


@pytest.fixture
def case(home: Path, tmp_path: Path) -> tuple[LoadedModel, Detectors, TraceRecord]:
    folder = tmp_path / "tiny"
    tiny_torch_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    loaded = load_model(str(folder))
    detectors = build_detectors(loaded, letter_lexicon(), settings=SETTINGS, corpus=tiny_corpus())
    record, _ = run_trace(loaded, "efghefghefgh", sampling=Sampling(max_new_tokens=6), store=TraceStore())
    return loaded, detectors, record


def run(*arguments: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["concepts", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_what_is_active(case: tuple[LoadedModel, Detectors, TraceRecord]) -> None:
    _, detectors, record = case
    answer = run(record.id)
    truth = detectors.active(activations_of(None, record, TraceStore()), word_positions(record), 10)
    assert [row["name"] for row in answer["rows"]] == [row.name for row in truth]  # type: ignore[index,attr-defined]
    assert {"name", "field", "strength", "rarity", "tokens", "neurons"} <= set(answer["rows"][0])  # type: ignore[index]
    one = run(record.id, "--token", str(word_positions(record)[1]))
    assert one["rows"][0]["level"] == "token"  # type: ignore[index]


def test_what_caused_a_token(case: tuple[LoadedModel, Detectors, TraceRecord]) -> None:
    loaded, detectors, record = case
    answer = run(record.id, "--by", "attribution")
    first = len(record.prompt_ids)
    truth = measure_causes(
        loaded, detectors, Asked(record.token_ids, first, activations_of(None, record, TraceStore()), word_positions(record))
    )
    rows = answer["rows"]
    assert [(row["name"], row["is_cause"]) for row in rows] == [(c.concept.name, c.is_cause) for c in truth[:10]]  # type: ignore[attr-defined]
    assert [row["effect"] for row in rows] == pytest.approx([c.effect for c in truth[:10]], abs=1e-3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--by", "magic"],
        ["--token", "3", "--tokens", "1:2"],
        ["--by", "attribution", "--tokens", "1:2"],
        ["--token", "99999"],
        ["--tokens", "x"],
    ],
)
def test_bad_questions_are_told(case: tuple[LoadedModel, Detectors, TraceRecord], arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["concepts", case[2].id, *arguments])
    assert done.exit_code == 2, done.output
