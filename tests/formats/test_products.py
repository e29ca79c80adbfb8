"""What the product writes, read back: descriptions, exemplars, statistics and concepts, with hostile text and missing values."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from neurons.atlas import exchange
from neurons.atlas.build import finish
from neurons.atlas.finalise import FinaliseSettings
from neurons.atlas.store import Atlas
from neurons.cli.stats import rows_csv
from neurons.concepts.sets import Concept, SavedConcepts
from neurons.core.json_text import json_text
from neurons.core.types import NeuronSide
from neurons.models.token_texts import kept_pieces, pieces_of
from neurons.statistics.rows import read_rows
from neurons.storage.formula_guard import unguarded
from neurons.storage.table_files import write_rows
from tests.support.atlases import collected, tiny_corpus
from tests.support.tiny_models import tiny_model, tiny_tokenizer

HOSTILE = ("=1+1", "-5 degrees", "'@quoted'", '"than", over; "A"', "<b>東京</b> \U0001f9d1\u200d\U0001f680", "NaN", "0012")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """Of the tiny model, some sides described, some scored."""
    path = tmp_path_factory.mktemp("products")
    collected(tiny_model(), tiny_corpus(), path / "collection")
    made = finish(tiny_model(), path / "collection", target=path / "atlas", settings=FinaliseSettings(exemplars=3))
    table = pd.DataFrame(
        {
            "layer": 0,
            "index": range(len(HOSTILE)),
            "polarity": ["+", "-"] * (len(HOSTILE) // 2) + ["+"],
            "description": HOSTILE,
            "score": [0.25 * n if n % 2 else math.nan for n in range(len(HOSTILE))],
        }
    )
    return made.with_descriptions(table)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_descriptions_go_out_and_in(atlas: Atlas, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"n.{ending}"
    table = exchange.neuron_table(atlas, kept_pieces(tiny_tokenizer()))
    assert write_rows(path, table.to_dict("records")) == 2 * atlas.n_layers * atlas.n_neurons
    found = exchange.read_descriptions(path, atlas.ref)
    described = atlas.descriptions()
    assert described is not None
    given = described.sort_values(["layer", "index", "polarity"])
    assert found.table["description"].tolist() == given["description"].tolist()
    assert found.table["polarity"].tolist() == given["polarity"].tolist()
    np.testing.assert_array_equal(found.table["score"], given["score"].astype("float32"))
    assert len(found.skipped) == len(table) - len(HOSTILE), "what has no description is counted"


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_polars_reads_the_table_of_neurons(atlas: Atlas, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"n.{ending}"
    table = exchange.neuron_table(atlas, kept_pieces(tiny_tokenizer()))
    write_rows(path, table.to_dict("records"))
    read: Any = {"csv": pl.read_csv, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}[ending]
    found = read(path, infer_schema_length=None) if ending != "parquet" else read(path)
    np.testing.assert_array_equal(found["quantile_1e-5"].to_numpy(), table["quantile_1e-5"])
    np.testing.assert_array_equal(found["index"].to_numpy(), table["index"])
    assert found["description"].null_count() == len(table) - len(HOSTILE)
    said = [unguarded(text) if ending == "csv" else text for text in found["description"].drop_nulls().to_list()]
    assert sorted(said) == sorted(HOSTILE)
    assert [json.loads(text) for text in found["tokens"]] == [json.loads(text) for text in table["tokens"]]


def test_characters_that_are_split_over_tokens_are_joined(atlas: Atlas) -> None:
    ids = tiny_tokenizer().encode("é日🧑", add_special_tokens=False)
    assert pieces_of(tiny_tokenizer(), ids) == ("é", "", "日", "", "", "🧑", "", "", "")
    row = next(exchange.exemplar_table(atlas, lambda ids: ("é", "", *("x",) * (len(ids) - 2))))
    assert row["text"].startswith("éx")
    assert row["token"], "never the empty rest of a character"
    record = next(exchange.neuronpedia_activations(atlas, kept_pieces(tiny_tokenizer()), model_id="tiny"))
    assert len(record["tokens"]) == len(record["values"])


def test_exemplars_are_read_by_pandas(atlas: Atlas, tmp_path: Path) -> None:
    rows = list(exchange.exemplar_table(atlas, kept_pieces(tiny_tokenizer()), count=1))
    write_rows(tmp_path / "e.csv", rows)
    found = pd.read_csv(tmp_path / "e.csv", keep_default_na=False)
    assert [unguarded(text) for text in found["text"]] == [row["text"] for row in rows]
    assert found["activation"].tolist() == [row["activation"] for row in rows]


def test_statistics_as_csv() -> None:
    plain = {"met": True, "token_probability": 0.1, "kl": None, "length": 3, "repetition": 0.0, "answer": "-5\r\nis it", "met_at": [0, 2]}
    rows = [
        {"prompt_id": "1", "seed": 0, "prompt": "=2+3?", "plain": plain, "steered": {**plain, "token_probability": math.nan, "answer": ""}},
        {"prompt_id": "2", "seed": 0, "prompt": "東京?", "error": "it's broken"},
    ]
    found = pd.read_csv(io.StringIO(rows_csv(read_rows(rows)), newline=""), dtype={"prompt_id": str}, keep_default_na=False)
    assert [unguarded(text) for text in found["prompt"]] == ["=2+3?", "東京?"]
    assert unguarded(found["plain_answer"][0]) == "-5\r\nis it"
    assert found["plain_met_text"][0] == "'-5"
    assert (found["steered_token_probability"][0], found["steered_answer"][0], found["plain_met"][1]) == ("", "", "")
    assert found["error"].tolist() == ["", "it's broken"]


def test_a_concept_as_json(home: Path, tmp_path: Path) -> None:
    concept = Concept.of([NeuronSide(0, 1), NeuronSide(0, 2, "-")], ref=tiny_model().ref, origin="=cmd 東京 \u2028", note="<b>")
    SavedConcepts().save("=x", concept)
    text = json_text({"name": "=x", **SavedConcepts().load("=x").to_json()}, indent=1)
    found = json.loads(text.encode())
    assert (found["origin"], found["note"], found["neurons"]) == ("=cmd 東京 \u2028", "<b>", ["0:1+", "0:2-"])
    (tmp_path / "c.json").write_text(text, encoding="utf-8")
    assert pl.read_json(tmp_path / "c.json")["origin"][0] == "=cmd 東京 \u2028"
