"""Models beside the server's own: held within a budget, found by their weights, refused where the weights are others."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurons.checking.load import load_model
from neurons.core.errors import InvalidInput, ModelError
from neurons.core.tasks import Tasks
from neurons.models.beside import BUDGET_VARIABLE, Beside, budget_bytes, weight_bytes
from neurons.models.shared import SharedModel
from neurons.storage.job_parameters import JobParameters
from tests.support.tiny_models import tiny_model, tiny_tokenizer, tiny_torch_model


def test_the_one_used_longest_ago_goes_first() -> None:
    models = [tiny_model("llama", seed=seed) for seed in range(3)]
    size = weight_bytes(models[0])
    beside = Beside(budget=lambda: 2.5 * size)
    beside.take(models[0])
    beside.take(models[1])
    assert beside.find(models[0].ref.weights_hash) is models[0]  # used again
    beside.take(models[2])
    assert beside.all() == (models[0], models[2])
    assert beside.find(models[1].ref.weights_hash) is None


def test_a_model_larger_than_the_budget_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=BUDGET_VARIABLE):
        Beside(budget=lambda: 100.0).take(tiny_model("llama"))


@pytest.mark.parametrize(("text", "found"), [("", 4e9), ("0.5", 5e8), ("0", 0.0)])
def test_the_budget_is_the_environment_s(text: str, found: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUDGET_VARIABLE, text)
    assert budget_bytes() == found


@pytest.mark.parametrize("text", ["much", "-1", "inf", "nan"])
def test_a_budget_that_is_none_is_said(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUDGET_VARIABLE, text)
    with pytest.raises(ModelError, match="number of gigabytes"):
        budget_bytes()


def test_a_model_is_loaded_beside_and_everybody_keeps_theirs(tiny_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny_torch_model("qwen2").save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    shared = SharedModel(Tasks(), load_model, spec=str(tiny_folder))
    assert shared.load(str(tiny_folder)).wait(120)
    own = shared.loaded
    assert own is not None
    loading = shared.load_beside(str(other), weights="0" * 64)
    loading.wait(120)
    assert isinstance(loading.error(), InvalidInput)
    loading = shared.load_beside(str(other))
    assert loading.wait(120)
    assert loading.error() is None
    assert shared.loaded is own
    [second] = shared.beside.all()
    assert second.ref.architecture == "Qwen2ForCausalLM"
    assert shared.with_weights(second.ref.weights_hash) is second
    assert shared.with_weights(own.ref.weights_hash) is own
    assert second.lock is not own.lock
    assert shared.for_job(JobParameters(model=second.ref.weights_hash), lambda *_: None) is second
    shared.adopt(second, str(other))
    assert shared.beside.all() == ()
