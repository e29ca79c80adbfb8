"""Where the neurons of a model are: the input channels of each layer's MLP down projection.

Knows module names and weight layouts. Does not know hooks, tokens or text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.pytorch_utils import Conv1D

from neurons.core.errors import UnsupportedModel

DOWN_NAMES = ("down_proj", "dense_4h_to_h", "c_proj", "fc2", "fc_out", "w2", "wo", "linear_2", "proj_out", "output_linear")
UP_NAMES = ("up_proj", "dense_h_to_4h", "c_fc", "fc1", "fc_in", "w3", "linear_1", "wi", "wi_1")
GATE_NAMES = ("gate_proj", "w1", "wi_0")
FUSED_GATE_UP_NAMES = ("gate_up_proj",)
_NOT_MLP = ("attn", "attention", "mixer", "conv", "router")
_EXPERTS_POINT = "neuron_point"
_EXPERTS_FUNCTION = "neuronscope"


@dataclass(frozen=True)
class NeuronSite:
    """One layer's neurons. The input of `module`, shape (..., I), is their activation."""

    layer: int
    module: nn.Module
    """The down projection; for a mixture of experts an identity that every expert's channels pass through, side by side."""
    name: str
    """The module's path in the model."""
    width: int
    """Number of neurons in this layer, over all experts."""
    experts: int | None = None
    """Number of experts, or None for a dense MLP."""
    mlp: nn.Module | None = None
    """The module holding up, gate and down projections."""

    def label(self, index: int) -> str:
        """Name one neuron for a reader: `17:803`, or `17:e2/35` for channel 35 of expert 2."""
        if self.experts is None:
            return f"{self.layer}:{index}"
        per_expert = self.width // self.experts
        return f"{self.layer}:e{index // per_expert}/{index % per_expert}"

    def output_rows(self) -> Tensor:
        """What each neuron writes to the residual stream per unit of activation, shape (I, d_model)."""
        if self.experts is None:
            return _linear_weight(self.module).T
        weight: Tensor = self.mlp.down_proj  # type: ignore[union-attr, assignment]
        transposed = bool(getattr(self.mlp, "is_transposed", False))
        rows_EIO = weight if transposed else weight.transpose(1, 2)
        return rows_EIO.reshape(self.width, -1)

    @cached_property
    def output_norms(self) -> Tensor:
        """Length of each of `output_rows`, shape (I,). Kept, since it takes a pass over the weights."""
        norms: Tensor = self.output_rows().float().norm(dim=1)
        return norms

    def input_rows(self) -> tuple[Tensor, Tensor | None]:
        """What each neuron reads from the residual stream: (up, gate), each of shape (I, d_model); gate None without one."""
        assert self.mlp is not None
        if self.experts is not None:
            weight_name = "gate_up_proj" if hasattr(self.mlp, "gate_up_proj") else "up_proj"
            weight: Tensor = getattr(self.mlp, weight_name)
            rows = weight.transpose(1, 2) if getattr(self.mlp, "is_transposed", False) else weight
            if weight_name == "up_proj":
                return rows.reshape(self.width, -1), None
            if getattr(self.mlp, "is_concatenated", True):
                gate, up = rows.chunk(2, dim=1)
            else:
                gate, up = rows[:, 0::2], rows[:, 1::2]
            return up.reshape(self.width, -1), gate.reshape(self.width, -1)
        for fused in FUSED_GATE_UP_NAMES:
            if (module := getattr(self.mlp, fused, None)) is not None:
                gate, up = _linear_weight(module).chunk(2, dim=0)
                return up, gate
        up_module = _first_attribute(self.mlp, UP_NAMES)
        gate_module = _first_attribute(self.mlp, GATE_NAMES)
        if up_module is None:
            raise UnsupportedModel(
                f"layer {self.layer}: looked for the up projection ({', '.join(UP_NAMES)}), found {_child_names(self.mlp)}"
            )
        return _linear_weight(up_module), None if gate_module is None else _linear_weight(gate_module)


def find_sites(model: PreTrainedModel) -> tuple[NeuronSite, ...]:
    """Find every layer's neurons. Raises `UnsupportedModel` naming what was looked for and what is there."""
    layers_name, layers = _decoder_layers(model)
    sites = []
    for number, layer in enumerate(layers):
        site = _experts_site(number, f"{layers_name}.{number}", layer) or _dense_site(number, f"{layers_name}.{number}", layer)
        if site is None:
            raise UnsupportedModel(
                f"{type(model).__name__}: layer {number} ({layers_name}.{number}) has no MLP down projection that is known; "
                f"looked for {', '.join(DOWN_NAMES)} outside attention, found {_child_names(layer)}"
            )
        sites.append(site)
    return tuple(sites)


def _decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of decoder layers: the module list that is as long as the config says."""
    config: Any = model.config.get_text_config()
    count = next((getattr(config, key) for key in ("num_hidden_layers", "n_layer", "num_layers") if hasattr(config, key)), None)
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in lists:
        if len(module) == count and not any(part in name for part in ("vision", "encoder.", "audio")):
            return name, module
    found = ", ".join(f"{name} ({len(module)})" for name, module in lists) or "no module list"
    raise UnsupportedModel(f"{type(model).__name__}: looked for a list of {count} decoder layers, found {found}")


def _dense_site(number: int, path: str, layer: nn.Module) -> NeuronSite | None:
    """The down projection of a layer without experts."""
    for name, module in layer.named_modules():
        leaf = name.rpartition(".")[2]
        if leaf in DOWN_NAMES and isinstance(module, nn.Linear | Conv1D) and not any(part in name for part in _NOT_MLP):
            parent = layer.get_submodule(name.rpartition(".")[0]) if "." in name else layer
            return NeuronSite(number, module, f"{path}.{name}", _linear_weight(module).shape[1], mlp=parent)
    return None


def _experts_site(number: int, path: str, layer: nn.Module) -> NeuronSite | None:
    """Experts kept as one 3-D weight, as transformers 5 does: route them through our own forward with a hook point."""
    for name, module in layer.named_modules():
        if (
            hasattr(module, "num_experts")
            and isinstance(getattr(module, "down_proj", None), nn.Parameter)
            and hasattr(module, "_apply_gate")
        ):
            weight: Tensor = module.down_proj
            per_expert = weight.shape[1] if getattr(module, "is_transposed", False) else weight.shape[2]
            if not hasattr(module, _EXPERTS_POINT):
                module.add_module(_EXPERTS_POINT, nn.Identity())
                config: Any = module.config
                config._experts_implementation = _EXPERTS_FUNCTION
            point = module.get_submodule(_EXPERTS_POINT)
            return NeuronSite(
                number, point, f"{path}.{name}.{_EXPERTS_POINT}", weight.shape[0] * per_expert, experts=weight.shape[0], mlp=module
            )
    return None


def experts_forward(module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Experts' forward with all their channels in one tensor (T, E * I), zero where a token is not routed to the expert.

    Registered with transformers as an experts implementation; `module` carries the layout flags transformers sets.
    """
    tokens, experts = hidden_states.shape[0], module.num_experts
    weight: Tensor = module.down_proj
    per_expert = weight.shape[1] if module.is_transposed else weight.shape[2]
    routing_TE = hidden_states.new_zeros(tokens, experts + 1)
    routing_TE = routing_TE.scatter_add(1, top_k_index.clamp(max=experts), top_k_weights.to(hidden_states.dtype))[:, :experts]
    routed_TE = torch.zeros_like(routing_TE, dtype=torch.bool).scatter(1, top_k_index.clamp(max=experts - 1), top_k_index < experts)
    blocks = []
    for expert in range(experts):
        rows = routed_TE[:, expert].nonzero().squeeze(1)
        acts = _expert_activation(module, hidden_states[rows], expert)
        blocks.append(hidden_states.new_zeros(tokens, per_expert).index_copy(0, rows, acts.to(hidden_states.dtype)))
    acts_TEI = module.neuron_point(torch.cat(blocks, dim=1)[None])[0].view(tokens, experts, per_expert)
    output = torch.zeros_like(hidden_states)
    for expert in range(experts):
        rows = routed_TE[:, expert].nonzero().squeeze(1)
        down = weight[expert] if module.is_transposed else weight[expert].T
        written = acts_TEI[rows, expert] @ down
        if module.has_bias:
            written = written + module.down_proj_bias[expert]
        if module.has_post_expert_norm:
            written = module.post_expert_norm(written)
        output = output.index_add(0, rows, written * routing_TE[rows, expert, None])
    return output


def _expert_activation(module: Any, hidden: Tensor, expert: int) -> Tensor:
    """act(gate(x)) * up(x) of one expert, shape (rows, I)."""
    name = "gate_up_proj" if module.has_gate else "up_proj"
    weight: Tensor = getattr(module, name)[expert]
    projected = hidden @ (weight if module.is_transposed else weight.T)
    if module.has_bias:
        projected = projected + getattr(module, f"{name}_bias")[expert]
    result: Tensor = module._apply_gate(projected) if module.has_gate else module.act_fn(projected)
    return result


ALL_EXPERTS_FUNCTIONS.register(_EXPERTS_FUNCTION, experts_forward)


def _linear_weight(module: nn.Module) -> Tensor:
    """The weight as (out, in), whatever the module keeps (GPT-2's Conv1D keeps (in, out))."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight.T if isinstance(module, Conv1D) else weight


def _first_attribute(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    return next((child for name in names if isinstance(child := getattr(module, name, None), nn.Module)), None)


def _child_names(module: nn.Module) -> str:
    def leaves() -> Iterator[str]:
        for name, child in module.named_modules():
            if not list(child.children()):
                yield f"{name} ({type(child).__name__})"

    return ", ".join(leaves()) or "nothing"
