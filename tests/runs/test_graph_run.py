"""One run of prompt and answer serves every token of the answer: the same numbers as a run of what precedes it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from neurons.attribution.attribute import attribute
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import NeuronSide, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.runs import graph_run
from neurons.runs.hooks import run_forward
from tests.support.tiny_models import ARCHITECTURES, tiny_model

IDS = tuple(int(i) for i in np.random.default_rng(3).integers(0, 255, 16))
ASKED = 10
STEER = Steer((NeuronSide(1, 5), NeuronSide(0, 3)), "scale", 2.5, TokenScope("answer"))


class Runs(list[int]):
    """Counts the model's passes over whole texts."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.append(1)
        return run_forward(*args, **kwargs)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr(graph_run, "run_forward", runs)
    return runs


def asked(loaded: LoadedModel, token: int, *, share: bool = True, steers: tuple[Steer, ...] = (), ids: tuple[int, ...] = IDS) -> Any:
    return attribute(loaded, ids, TargetSpec(token, "logprob"), prompt_tokens=ASKED, steers=steers, share=share)


@pytest.mark.parametrize("steers", [(), (STEER,)], ids=["plain", "steered"])
@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_a_shared_run_gives_what_a_run_of_its_own_gives(arch: str, steers: tuple[Steer, ...], runs: Runs) -> None:
    loaded = tiny_model(arch)
    for token in (13, 11, 15):
        shared, own = asked(loaded, token, steers=steers), asked(loaded, token, share=False, steers=steers)
        assert shared.attr_LTI.shape == own.attr_LTI.shape
        assert shared.refined == own.refined
        assert shared.metric_value == pytest.approx(own.metric_value, abs=1e-5)
        np.testing.assert_allclose(shared.acts_LTI, own.acts_LTI, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(shared.attr_LTI, own.attr_LTI, atol=5e-4 * np.abs(own.attr_LTI).max())
    assert len(runs) == 4  # the shared one, and each target's own


def test_another_text_steer_or_prompt_is_run_anew(runs: Runs) -> None:
    loaded = tiny_model()
    asked(loaded, 12)
    asked(loaded, 13)
    assert len(runs) == 1
    asked(loaded, 12, steers=(STEER,))
    asked(loaded, 12, ids=(*IDS[:-1], 7))
    assert len(runs) == 3
    attribute(loaded, IDS, TargetSpec(12, "logprob"), prompt_tokens=ASKED - 1, steers=(STEER,), share=True)
    assert len(runs) == 4
    assert len(loaded.cached) == 1


@pytest.mark.parametrize("case", ["in the prompt", "too early", "too long"])
def test_what_is_dearer_together_is_run_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model()
    ids = IDS * 2 if case == "too early" else IDS
    if case == "too long":
        monkeypatch.setattr(graph_run, "SHARED_BYTES", 1_000)
    asked(loaded, ASKED - 1 if case == "in the prompt" else 12, ids=ids)
    assert not loaded.cached


def test_the_run_goes_with_its_model() -> None:
    loaded = tiny_model()
    asked(loaded, 12)
    model, logits = weakref.ref(loaded.model), weakref.ref(loaded.cached["run"][1].logits_KV)
    del loaded
    gc.collect()
    assert model() is None
    assert logits() is None


def test_what_is_kept_is_what_was_reckoned() -> None:
    loaded = tiny_model("llama", num_hidden_layers=6)
    asked(loaded, 12)
    graph, seen, bytes_kept = [loaded.cached["run"][1].logits_KV.grad_fn], set(), {}
    while graph:
        node = graph.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        graph += [other for other, _ in node.next_functions]
        for name in dir(node):
            saved = getattr(node, name) if name.startswith("_saved_") else None
            if isinstance(saved, torch.Tensor):
                bytes_kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
    weights = {parameter.untyped_storage().data_ptr() for parameter in loaded.model.parameters()}
    kept = sum(count for place, count in bytes_kept.items() if place not in weights)
    assert 0.3 * kept < graph_run.run_bytes(loaded, len(IDS), len(IDS) - ASKED + 1) < 3 * kept
