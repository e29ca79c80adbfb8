"""Routed experts kept as one 3-D weight: their forward with every expert's channels side by side in one tensor, at a place to hook.

Two kinds: those that transformers lets one register a forward for, and Llama 4's, which run every expert on every token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

POINT = "neuron_point"
"""The identity that all channels pass through, (1, T, E * I) for T tokens of all rows end to end."""
_FUNCTION = "neuronscope"


def is_experts(module: nn.Module) -> bool:
    """Whether these experts' channels can be put side by side."""
    if not isinstance(getattr(module, "down_proj", None), nn.Parameter) or not hasattr(module, "num_experts"):
        return False
    return hasattr(module, "_apply_gate") or _runs_all(module)


def prepare_experts(module: nn.Module) -> nn.Module:
    """Route the experts through our forward, and return the point to hook."""
    if not hasattr(module, POINT):
        module.add_module(POINT, nn.Identity())
        if _runs_all(module):
            module.forward = lambda hidden_states: _all_experts_forward(module, hidden_states)
        else:
            config: Any = module.config
            config._experts_implementation = _FUNCTION
    return module.get_submodule(POINT)


def is_transposed(module: nn.Module) -> bool:
    """Whether the weights are kept as (E, in, out)."""
    return bool(getattr(module, "is_transposed", _runs_all(module)))


def is_gated(module: nn.Module) -> bool:
    """Whether a channel is act(gate(x)) * up(x)."""
    return hasattr(module, "gate_up_proj")


def channels(module: nn.Module) -> int:
    """Channels of one expert."""
    weight: Tensor = module.down_proj  # type: ignore[assignment]
    return weight.shape[1] if is_transposed(module) else weight.shape[2]


def output_rows(module: nn.Module) -> Tensor:
    """What each channel writes, all experts side by side, (E * I, d_model)."""
    weight: Tensor = module.down_proj  # type: ignore[assignment]
    rows_EIO = weight if is_transposed(module) else weight.transpose(1, 2)
    return rows_EIO.reshape(-1, rows_EIO.shape[2])


def input_rows(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """What each channel reads: (up, gate), each (E * I, d_model); gate None without one."""
    weight: Tensor = getattr(module, "gate_up_proj" if is_gated(module) else "up_proj")
    rows_EID = weight.transpose(1, 2) if is_transposed(module) else weight
    if not is_gated(module):
        return rows_EID.flatten(0, 1), None
    gate, up = rows_EID.chunk(2, dim=1) if getattr(module, "is_concatenated", True) else (rows_EID[:, 0::2], rows_EID[:, 1::2])
    return up.flatten(0, 1), gate.flatten(0, 1)


def _runs_all(module: nn.Module) -> bool:
    return type(module).__name__ == "Llama4TextExperts"


def _all_experts_forward(module: Any, hidden_states: Tensor) -> Tensor:
    """Llama 4's: every expert gets every token, scaled by its routing score (0 where it is not chosen), laid end to end."""
    hidden_ETD = hidden_states.view(module.num_experts, -1, module.hidden_size)
    gate_ETI, up_ETI = torch.bmm(hidden_ETD, module.gate_up_proj).chunk(2, dim=-1)
    acts_ETI = up_ETI * module.act_fn(gate_ETI)
    shape = (acts_ETI.shape[1], module.num_experts, -1)
    acts_ETI = module.neuron_point(acts_ETI.transpose(0, 1).flatten(1)[None])[0].view(shape).transpose(0, 1)
    return torch.bmm(acts_ETI, module.down_proj).view(-1, module.hidden_size)


def experts_forward(module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Experts' forward with all their channels in one tensor (T, E * I), zero where a token is not routed to the expert.

    Registered with transformers as an experts implementation; `module` carries the layout flags transformers sets.
    """
    tokens, experts = hidden_states.shape[0], module.num_experts
    weight: Tensor = module.down_proj
    per_expert = channels(module)
    routing_TE = hidden_states.new_zeros(tokens, experts + 1)
    routing_TE = routing_TE.scatter_add(1, top_k_index.clamp(max=experts), top_k_weights.to(hidden_states.dtype))[:, :experts]
    chosen_TE = torch.zeros(tokens, experts + 1, dtype=torch.bool, device=hidden_states.device)
    routed_TE = chosen_TE.scatter(1, top_k_index.clamp(max=experts), True)[:, :experts]
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


ALL_EXPERTS_FUNCTIONS.register(_FUNCTION, experts_forward)
