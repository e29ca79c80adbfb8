"""`attribute`, `effect`, `paths` and `lens`, in process on a tiny model in a folder; the default model against finite differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from neurons.attribution.attribute import attribute, top_rows
from neurons.attribution.effect import agreement, measure_effects
from neurons.attribution.metrics import METRICS, metric_value
from neurons.cli.main import build
from neurons.core.types import AttributionRow, Message, NeuronSide, TargetSpec
from neurons.descriptions.edits import Edits
from neurons.models.chat import encode_prompt, encode_text
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import run_forward
from traces.store import TraceStore

APP = build()


def cli(*arguments: str, status: int = 0) -> Any:
    """Run a command with --json; what it printed, or its error."""
    result = CliRunner().invoke(APP, [*arguments, "--json"])
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return json.loads(result.stdout) if result.stdout else json.loads(result.stderr.strip().splitlines()[-1])


@pytest.fixture
def traced(home: Path, model: str) -> dict[str, Any]:
    return cli("trace", "Hello?", "--model", model, "--max-new-tokens", "4")


def last(traced: dict[str, Any]) -> int:
    return len(traced["prompt_token_ids"]) + len(traced["answer_token_ids"]) - 1


def test_what_the_user_wrote_of_a_neuron_is_told(traced: dict[str, Any]) -> None:
    token = str(last(traced))
    row = cli("attribute", traced["trace_id"], "--token", token, "--top", "1")["rows"][0]
    side = NeuronSide(row["layer"], row["index"], row["polarity"])
    Edits.of(TraceStore().load(traced["trace_id"]).model).describe(side, "my own words")
    assert cli("attribute", traced["trace_id"], "--token", token, "--top", "1")["rows"][0]["description"] == "my own words"


def test_attribute_is_stored_in_the_trace_and_knows_the_plain_gradient(traced: dict[str, Any]) -> None:
    token = str(last(traced))
    refined = cli("attribute", traced["trace_id"], "--token", token, "--top", "40")
    plain = cli("attribute", traced["trace_id"], "--token", token, "--top", "100000", "--method", "grad")
    gradients = {(r["layer"], r["index"], r["token"]): r["attribution"] for r in plain["rows"]}
    for row in refined["rows"]:
        assert row["gradient"] == pytest.approx(gradients[row["layer"], row["index"], row["token"]], rel=1e-3, abs=1e-7)
    assert all(row["gradient"] == row["attribution"] for row in plain["rows"])
    cli("attribute", traced["trace_id"], "--token", token, "--tokens", "1:3", "--metric", "logit")
    stored = TraceStore().attributions(traced["trace_id"])
    assert {(info.method, info.target.metric, info.sources) for info in stored} == {
        ("refined", "prob", ""),
        ("grad", "prob", ""),
        ("refined", "logit", "1:3"),
    }
    top = TraceStore().attribution(traced["trace_id"], next(i.key for i in stored if i.method == "refined" and i.target.metric == "prob"))
    assert [row.attribution for row in top.rows(40)] == pytest.approx([row["attribution"] for row in refined["rows"]])


def test_attribute(traced: dict[str, Any]) -> None:
    token = last(traced)
    ids = [*traced["prompt_token_ids"], *traced["answer_token_ids"]]
    for metric in (*METRICS[:3], None):
        options = ["--metric", metric] if metric else []
        found = cli("attribute", traced["trace_id"], "--token", str(token), *options, "--top", "7")
        assert (found["token"], found["token_id"], found["metric"]) == (token, ids[token], metric or "prob")
        assert len(found["rows"]) == 7
        assert 0 < found["share"] < 1
        for row in found["rows"]:
            assert set(row) >= {"layer", "index", "token", "polarity", "activation", "attribution"}
            assert row["token"] < token
            assert row["polarity"] == ("-" if row["activation"] < 0 else "+")
        sizes = [abs(row["attribution"]) for row in found["rows"]]
        assert sizes == sorted(sizes, reverse=True)


def test_contrast_and_restrictions(traced: dict[str, Any]) -> None:
    trace, token = traced["trace_id"], str(last(traced))
    by_text = cli("attribute", trace, "--token", token, "--against", "z", "--metric", "logit")
    by_id = cli("attribute", trace, "--token", token, "--against", str(by_text["against_id"]))
    assert by_text["metric"] == by_id["metric"] == "contrast"
    assert by_text["against"] == "z"
    assert by_text["rows"] == by_id["rows"]
    some = cli("attribute", trace, "--token", token, "--tokens", "1:3", "--layers", "1", "--top", "999")
    assert {row["token"] for row in some["rows"]} == {1, 2}
    assert {row["layer"] for row in some["rows"]} == {1}
    other = cli("attribute", trace, "--token", token, "--of", "q", "--method", "direct")
    assert other["text"] == "q"
    assert other["method"] == "direct"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token", "0"], "token 0 is the first"),
        (["--token", "9999"], "not in this trace"),
        (["--metric", "loss"], "unknown"),
        (["--method", "magic"], "unknown"),
        (["--against", ""], "empty"),
        (["--metric", "contrast"], "second token"),
        (["--metric", "prob", "--against", "z"], "measured in logits"),
        (["--tokens", "9:3"], "not a token range"),
    ],
)
def test_bad_questions_are_bad_usage(traced: dict[str, Any], options: list[str], words: str) -> None:
    given = options if "--token" in options else ["--token", str(last(traced)), *options]
    assert words in cli("attribute", traced["trace_id"], *given, status=2)["error"]


def test_a_trace_that_is_not_there(home: Path) -> None:
    assert "abcdef" in cli("attribute", "abcdef", "--token", "1", status=1)["error"]


def test_effect(traced: dict[str, Any]) -> None:
    trace, token = traced["trace_id"], str(last(traced))
    found = cli("effect", trace, "--token", token, "--metric", "logprob", "--top", "12")
    assert len(found["rows"]) == 12
    assert found["spearman"] > 0.5
    assert set(found["rows"][0]) >= {"attribution", "effect"}
    named = cli("effect", trace, "--token", token, "--neurons", "1:3,2:4-", "--at", "2:4")
    assert [(row["layer"], row["index"], row["token"]) for row in named["rows"]] == [(1, 3, 2), (1, 3, 3), (2, 4, 2), (2, 4, 3)]
    everywhere = cli("effect", trace, "--token", token, "--neurons", "1:3", "--scope", "all")
    assert len(everywhere["rows"]) == 1
    assert "zero or mean" in cli("effect", trace, "--token", token, "--ablation", "half", status=2)["error"]
    assert "atlas" in cli("effect", trace, "--token", token, "--ablation", "mean", status=2)["error"]
    assert "not in" in cli("effect", trace, "--token", token, "--neurons", "9:1", status=2)["error"]


def test_paths_and_lens(traced: dict[str, Any]) -> None:
    trace, token = traced["trace_id"], str(last(traced))
    graph = cli("paths", trace, "--token", token, "--neuron", "2:7", "--width", "2")
    assert graph["nodes"][0]["id"] == f"2:7@{token}"
    assert {edge["target"] for edge in graph["edges"]} <= {node["id"] for node in graph["nodes"]}
    whole = cli("paths", trace, "--token", token, "--steps", "1")
    assert whole["nodes"][0]["id"] == f"token@{token}"
    assert "1 to 5" in cli("paths", trace, "--token", token, "--steps", "9", status=2)["error"]
    lens = cli("lens", trace, "--token", token, "--top", "2")
    assert [row["name"] for row in lens["rows"]] == ["embedding", "layer 0", "layer 1", "layer 2"]
    assert all(len(row["top"]) == 2 for row in lens["rows"])
    assert "token 0" in cli("lens", trace, "--token", "0", status=2)["error"]


def test_people_get_tables(traced: dict[str, Any]) -> None:
    token = str(last(traced))
    for command in ("attribute", "effect", "paths", "lens"):
        result = CliRunner().invoke(APP, [command, traced["trace_id"], "--token", token])
        assert result.exit_code == 0, (command, result.stderr)
        assert "---" in result.stdout


@pytest.fixture(scope="module")
def turkey(default_model: LoadedModel) -> tuple[int, ...]:
    prompt = encode_prompt(default_model, [Message("user", "What is the capital of Turkey?")])
    return prompt.ids + encode_text(default_model, "The capital of Turkey is", bos=False)


def scaled_metric(loaded: LoadedModel, ids: tuple[int, ...], target: TargetSpec, row: AttributionRow, factor: float) -> float:
    """The metric with one activation multiplied by `factor`."""

    def replace(part: Part, acts: torch.Tensor) -> torch.Tensor | None:
        if part.layer != row.layer:
            return None
        acts = acts.clone()
        acts[0, row.token, row.index] *= factor
        return acts

    logits = run_forward(loaded, torch.tensor([ids]), replace=replace, logits_to_keep=1).logits
    return float(metric_value(logits[:, -1], target)[0])


@pytest.mark.parametrize("metric", ["prob", "contrast"])
def test_the_default_model_against_finite_differences(default_model: LoadedModel, turkey: tuple[int, ...], metric: Any) -> None:
    found = attribute(default_model, turkey, TargetSpec(len(turkey), metric, 30729, 36709), method="grad")
    for row in top_rows(found, 3).rows:
        higher, lower = (scaled_metric(default_model, turkey, found.target, row, factor) for factor in (1.02, 0.98))
        assert row.attribution == pytest.approx((higher - lower) / 0.04, rel=0.03)


def test_the_refined_method_agrees_with_measurement(default_model: LoadedModel, turkey: tuple[int, ...]) -> None:
    """On the default model: refined entries at the last token are the effects, and it ranks better than the gradient."""
    target = TargetSpec(len(turkey), "logit", 30729)
    refined = attribute(default_model, turkey, target, method="refined")
    grad = attribute(default_model, turkey, target, method="grad")
    rows = list(dict.fromkeys((r.layer, r.index, r.token) for found in (refined, grad) for r in top_rows(found, 20).rows))
    picked = [row for found in (refined, grad) for row in top_rows(found, 20).rows]
    effects = {(e.layer, e.index, e.token): e.effect for e in measure_effects(default_model, turkey, target, picked).rows}
    measured = [effects[row] for row in rows]
    fits = [agreement([float(found.attr_LTI[la, t, i]) for la, i, t in rows], measured).spearman for found in (refined, grad)]
    assert fits[0] > 0.95
    assert fits[0] > fits[1]
    for row in top_rows(refined, 10, tokens=[len(turkey) - 1]).rows:
        assert row.attribution == pytest.approx(effects[row.layer, row.index, row.token], abs=1e-3)


def test_attributions_of_the_default_model_repeat_exactly(default_model: LoadedModel, turkey: tuple[int, ...]) -> None:
    target = TargetSpec(len(turkey), "prob", 30729)
    first, second = (attribute(default_model, turkey, target) for _ in range(2))
    assert np.array_equal(first.attr_LTI, second.attr_LTI)
