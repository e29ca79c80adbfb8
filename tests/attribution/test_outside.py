"""What the neurons found do not hold: shared experts are neurons, gated per-layer embeddings are said to be none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neurons.attribution.attribute import attribute
from neurons.attribution.outside import outside
from neurons.core.errors import UnsupportedModel
from neurons.core.types import TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from tests.support.every_class import small_model
from tests.support.tiny_models import tiny_model, tiny_tokenizer

IDS = (72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100)
TARGET = TargetSpec(len(IDS) - 1, "logprob")


def loaded(kind: str, **overrides: Any) -> LoadedModel:
    return LoadedModel.wrap(small_model(kind, **overrides), tiny_tokenizer(), id=kind, name=kind, weights_hash="0" * 64)


@pytest.mark.parametrize("kind", ["qwen2_moe", "deepseek_v2", "glm4_moe", "llama4_text", "granitemoehybrid"])
def test_shared_experts_are_neurons(kind: str) -> None:
    model = loaded(kind)
    assert str(outside(model, IDS, TARGET)) == "nothing outside attention is left out"
    site = model.sites[-1]
    shared = site.parts[-1]
    assert (site.parts[0].experts, shared.experts, shared.title) == (4, None, "s")
    attr_LTI = attribute(model, IDS, TARGET, method="grad").attr_LTI
    assert abs(attr_LTI[site.layer, :, shared.start : shared.stop]).sum() > 0.02 * abs(attr_LTI[site.layer]).sum()


def test_gemma_4s_dense_mlp_beside_its_experts_is_neurons_too() -> None:
    model = loaded("gemma4_text", enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=24)
    site = model.sites[1]
    assert [(part.experts, part.title, part.width) for part in site.parts] == [(4, "e", 96), (None, "s", 48)]
    attr_LTI = attribute(model, IDS, TARGET, method="grad").attr_LTI
    assert abs(attr_LTI[1, :, :96]).max() > 0 < abs(attr_LTI[1, :, 96:144]).max()


def test_a_shared_expert_writes_what_its_rows_say() -> None:
    model = tiny_model("qwen2_moe")
    part, seen = model.sites[0].parts[-1], []
    with torch.no_grad():
        handle = part.module.register_forward_hook(lambda _module, args, output: seen.append((args[0], output)))
        run_forward(model, torch.tensor([IDS]))
        handle.remove()
    acts, output = seen[0]
    torch.testing.assert_close(acts @ part.output_rows(), output, rtol=1e-5, atol=1e-6)
    assert model.sites[0].output_rows()[part.start :].equal(part.output_rows())


def test_what_is_no_neuron_is_said_with_its_share() -> None:
    found = outside(loaded("gemma4_text"), IDS, TARGET)
    assert len(found.modules) == 4
    assert all(name.endswith("per_layer_projection") for name in found.modules)
    assert 0.005 < found.share < 0.9
    assert "% of the gradient mass" in str(found)


@pytest.mark.parametrize("kind", ["opt", "llama4_text", "gemma4_text"])
def test_each_row_is_its_own_tokens(kind: str) -> None:
    """A batch of two texts gives each text's activations, and a pass that asks for one token's logits gives all tokens'."""
    model = loaded(kind)
    other = tuple(reversed(IDS))

    def recorded(ids_BT: Tensor, keep: int) -> list[Tensor]:
        acts: list[Tensor] = []
        run_forward(model, ids_BT, record=lambda _layer, acts_BTI: acts.append(acts_BTI.clone()), logits_to_keep=keep)
        return acts

    both = recorded(torch.tensor([IDS, other]), 1)
    for row, ids in enumerate((IDS, other)):
        for layer, acts_BTI in enumerate(recorded(torch.tensor([ids]), 0)):
            torch.testing.assert_close(both[layer][row], acts_BTI[0], rtol=1e-4, atol=1e-5)


def test_rows_that_are_no_tokens_are_refused() -> None:
    model = tiny_model()
    handle = model.model.model.layers[1].mlp.register_forward_pre_hook(lambda _module, args: (args[0][:, -1:],))
    with pytest.raises(UnsupportedModel, match="which row belongs to which token"):
        run_forward(model, torch.tensor([IDS]), record=lambda _layer, _acts: None)
    handle.remove()


@pytest.mark.parametrize("kind", ["lfm2", "jamba", "qwen3_5_text"])
def test_a_hybrid_says_what_stands_in(kind: str) -> None:
    found = attribute(loaded(kind), IDS, TARGET)
    plain = attribute(loaded(kind), IDS, TARGET, method="logodds")
    assert found.refined == 0
    assert "logodds stands in for refined" in found.stands_in
    torch.testing.assert_close(torch.tensor(found.attr_LTI), torch.tensor(plain.attr_LTI), rtol=1e-3, atol=1e-6)
    assert not attribute(tiny_model(), IDS, TARGET).stands_in
