"""Every supported architecture: what is recorded is what the MLP's own formula gives, computed here by hand from the MLP's input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu
from transformers import AutoModelForCausalLM, MambaConfig, OPTConfig

from neurons.core.errors import InvalidSteer, UnsupportedModel
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel
from neurons.models.sites import find_sites
from neurons.runs.hooks import run_forward
from neurons.runs.steering import parse_steers, resolve
from tests.support.tiny_models import ARCHITECTURES, EXPERTS, WITHOUT_GATE, tiny_model, tiny_torch_model

IDS = torch.tensor([[256, 72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100, 33]])
DENSE = [arch for arch in ARCHITECTURES if arch not in EXPERTS]


def gelu_tanh(x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


ACTIVATION = {"gemma2": gelu_tanh, "gemma3_text": gelu_tanh, "gpt2": gelu_tanh, "falcon": gelu, "gpt_neox": gelu}
"""Written down from the papers, not read from the module; silu where missing."""


def record_all(loaded: LoadedModel) -> tuple[Tensor, list[tuple[Any, ...]]]:
    """acts_LTI as the engine records them, and the arguments that each layer's MLP (or experts module) got in the same pass."""
    acts: dict[int, Tensor] = {}
    inputs: list[tuple[Any, ...]] = []
    handles = [site.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args)) for site in loaded.sites if site.mlp is not None]
    run_forward(loaded, IDS, record=lambda layer, acts_BTI: acts.__setitem__(layer, acts_BTI[0].clone()))
    for handle in handles:
        handle.remove()
    return torch.stack([acts[layer] for layer in range(loaded.n_layers)]), inputs


def linear(x: Tensor, module: Any) -> Tensor:
    """x W + b, whichever way round the weight is kept."""
    weight = module.weight if module.weight.shape[0] == x.shape[-1] and type(module).__name__ == "Conv1D" else module.weight.T
    return x @ weight + (0 if getattr(module, "bias", None) is None else module.bias)


def by_hand(arch: str, mlp: Any, x: Tensor) -> Tensor:
    act = ACTIVATION.get(arch, silu)
    if arch == "gpt2":
        return act(linear(x, mlp.c_fc))
    if arch in ("falcon", "gpt_neox"):
        return act(linear(x, mlp.dense_h_to_4h))
    if arch == "phi3":
        gate, up = linear(x, mlp.gate_up_proj).chunk(2, dim=-1)
        return act(gate) * up
    return act(linear(x, mlp.gate_proj)) * linear(x, mlp.up_proj)


@pytest.mark.parametrize("arch", DENSE)
def test_activations_are_the_formula(arch: str) -> None:
    loaded = tiny_model(arch)
    acts_LTI, inputs = record_all(loaded)
    assert acts_LTI.shape == (3, IDS.shape[1], 48)
    for layer, site in enumerate(loaded.sites):
        assert site.layer == layer
        torch.testing.assert_close(acts_LTI[layer], by_hand(arch, site.mlp, inputs[layer][0])[0], rtol=1e-5, atol=1e-6)
    assert acts_LTI.std() > 0.01, "activations too small for a wrong formula to show"
    assert acts_LTI.min() < 0 < acts_LTI.max()


@pytest.mark.parametrize("arch", EXPERTS)
def test_activations_of_experts(arch: str) -> None:
    loaded = tiny_model(arch)
    acts_LTI, inputs = record_all(loaded)
    for layer, site in enumerate(loaded.sites):
        hidden, top_index, _ = inputs[layer]
        assert site.experts == 4
        routed = site.parts[0]
        assert (routed.start, routed.width) == (0, 4 * 24)
        assert site.width == 4 * 24 + sum(part.width for part in site.parts[1:])
        for token in range(IDS.shape[1]):
            for expert in range(4):
                mine = acts_LTI[layer, token, expert * 24 : (expert + 1) * 24]
                if expert in top_index[token].tolist():
                    gate, up = (site.mlp.gate_up_proj[expert] @ hidden[token]).chunk(2)
                    torch.testing.assert_close(mine, silu(gate) * up, rtol=1e-5, atol=1e-6)
                else:
                    assert not mine.any(), "an expert that the token was not routed to has no activation"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_wrapping_does_not_change_the_model(arch: str) -> None:
    plain = tiny_torch_model(arch)
    with torch.no_grad():
        expected = plain(IDS).logits
    loaded = tiny_model(arch)
    torch.testing.assert_close(run_forward(loaded, IDS).logits, expected, rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    recorded = run_forward(loaded, IDS, record=lambda layer, acts: None).logits
    assert torch.equal(recorded, run_forward(loaded, IDS).logits), "recording must not change one bit"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_rows_are_what_neurons_write_and_read(arch: str) -> None:
    loaded = tiny_model(arch)
    site = loaded.sites[1]
    rows = site.output_rows()
    up, gate = site.input_rows()
    assert rows.shape == up.shape == (site.width, 32)
    assert (gate is None) == (arch in WITHOUT_GATE)
    if site.experts is None:
        unit = torch.zeros(1, 1, site.width)
        unit[..., 7] = 1.0
        written = site.module(unit) - site.module(torch.zeros_like(unit))
        torch.testing.assert_close(written[0, 0], rows[7], rtol=1e-4, atol=1e-6)
    else:
        torch.testing.assert_close(rows[24 + 7], site.mlp.down_proj[1][:, 7])


def test_reference_names_the_model() -> None:
    ref = tiny_model("gpt2").ref
    assert (ref.architecture, ref.n_layers, ref.n_neurons, ref.n_vocab, ref.max_positions) == ("GPT2LMHeadModel", 3, 48, 259, 512)
    assert (ref.dtype, ref.device) == ("float32", "cpu")


def test_names_of_experts_channels() -> None:
    site = tiny_model("mixtral").sites[2]
    assert site.label(24 + 5) == "e1/5"
    assert site.index_of("e1/5") == 24 + 5
    assert tiny_model("llama").sites[2].label(29) == "29"
    shared = tiny_model("qwen2_moe")
    site = shared.sites[1]
    assert (site.width, site.label(4 * 24 + 7), site.index_of("s/7")) == (4 * 24 + 40, "s/7", 4 * 24 + 7)
    for wrong in ("e4/0", "e0/24", "s/40", "s1/0", "e/0"):
        with pytest.raises(LookupError):
            site.index_of(wrong)


def test_an_experts_name_is_read_and_one_form_is_printed() -> None:
    loaded = tiny_model("qwen2_moe")
    for typed, meant in (("1:e2/5-", "1:53-"), ("1:s/7", "1:103+"), ("1:53", "1:53+")):
        (steer,) = resolve(loaded, parse_steers({"neurons": [typed], "mode": "scale", "strength": 0}))
        assert [str(side) for side in steer.neurons] == [meant]
    with pytest.raises(InvalidSteer, match="has no neuron 1:e9/5"):
        resolve(loaded, parse_steers({"neurons": ["1:e9/5"], "mode": "scale", "strength": 0}))
    with pytest.raises(InvalidSteer, match="write layer:index"):
        NeuronSide.parse("1:e2/5")


def test_unsupported_model_says_what_was_looked_for_and_found() -> None:
    model = AutoModelForCausalLM.from_config(MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2, expand=2))
    with pytest.raises(UnsupportedModel) as caught:
        find_sites(model)
    assert "MambaForCausalLM" in str(caught.value)
    assert "looked for" in str(caught.value)
    assert "down_proj" in str(caught.value)
    assert "in_proj" in str(caught.value), "the message lists the modules that are there"


@pytest.mark.parametrize("kept", ["packed", "int8", "fp8", "qweight", "turned"])
def test_quantised_weights_are_refused_by_name(kept: str) -> None:
    """Packed as bitsandbytes has 4 bits, whole numbers and fp8 with scales beside them, GPTQ without a weight, one turned round."""
    model = tiny_torch_model("llama")
    down: Any = model.model.layers[1].mlp.down_proj
    with torch.no_grad():
        given = down.weight.detach()
        if kept == "qweight":
            down.qweight = torch.nn.Buffer(torch.zeros(6, 32, dtype=torch.int32))
            del down.weight
        else:
            kinds = {
                "packed": torch.zeros(given.numel() // 2, 1, dtype=torch.uint8),
                "int8": (given * 100).to(torch.int8),
                "fp8": given.to(torch.float8_e4m3fn),
                "turned": given.T.contiguous(),
            }
            down.weight = torch.nn.Parameter(kinds[kept], requires_grad=False)
    with pytest.raises(UnsupportedModel, match=r"keeps quantised weights .* load a copy that is not quantised"):
        find_sites(model)


def test_other_architectures_are_found_by_their_names() -> None:
    config = OPTConfig(vocab_size=64, hidden_size=16, ffn_dim=40, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16)
    sites = find_sites(AutoModelForCausalLM.from_config(config))
    assert [(site.width, site.name.rpartition(".")[2]) for site in sites] == [(40, "fc2"), (40, "fc2")]
