"""Where the neurons of a model are: the input channels of each layer's MLP down projections.

Knows module names and weight layouts. Does not know hooks, tokens or text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from neurons.core.errors import UnsupportedModel
from neurons.models import experts

DOWN_NAMES = ("down_proj", "dense_4h_to_h", "c_proj", "fc2", "fc_out", "w2", "wo", "Wo", "linear_2", "proj_out", "output_linear")
UP_NAMES = ("up_proj", "dense_h_to_4h", "c_fc", "fc1", "fc_in", "w3", "linear_1", "wi", "wi_1")
_OWN_NAMES = {"output.dense": "intermediate.dense", "ffn.2": "ffn.0"}
"""Down projections known only by their path in the layer (BERT's, CTRL's), and the up projection that belongs to each."""
GATE_NAMES = ("gate_proj", "w1", "wi_0")
FUSED_GATE_UP_NAMES = ("gate_up_proj", "input_linear", "Wi")
_NOT_MLP = ("attn", "attention", "conv", "router", "norm")
_NOT_MLP_PARTS = ("gate", "self_attn", "vision", "adapter")
_MIXERS = ("mamba", "mixer", "temporal_block", "delta")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")


@dataclass(frozen=True, eq=False)
class Part:
    """Neurons of one layer that are computed together: a dense MLP's, a shared expert's, or those of all routed experts.

    The input of `module` is their activation, one row per token.
    """

    layer: int
    number: int
    """Which of its layer's parts it is, from 0."""
    start: int
    """Index of its first neuron among its layer's."""
    width: int
    module: nn.Module
    """The down projection; for routed experts an identity that every expert's channels pass through, side by side."""
    name: str
    """The module's path in the model."""
    mlp: nn.Module
    """The module holding up, gate and down projections."""
    title: str = ""
    """What the part is called in a layer that has several: "s" for what every token goes through, beside routed experts."""
    experts: int | None = None
    """Number of routed experts, or None."""
    whole: bool = True
    """Whether the layer has no other part."""

    @property
    def stop(self) -> int:
        """One past the index of its last neuron among its layer's."""
        return self.start + self.width

    def output_rows(self) -> Tensor:
        """What each neuron writes to the residual stream per unit of activation, shape (width, d_model)."""
        return _linear_weight(self.module).T if self.experts is None else experts.output_rows(self.mlp)

    def input_rows(self) -> tuple[Tensor, Tensor | None]:
        """What each neuron reads from the residual stream: (up, gate), each of shape (width, d_model); gate None without one."""
        if self.experts is not None:
            return experts.input_rows(self.mlp)
        names = (*UP_NAMES, *FUSED_GATE_UP_NAMES, *_OWN_NAMES.values())
        up, gate = _first_attribute(self.mlp, names), _first_attribute(self.mlp, GATE_NAMES)
        if up is None:
            looked = ", ".join(names)
            raise UnsupportedModel(f"layer {self.layer}: looked for the up projection ({looked}), found {_child_names(self.mlp)}")
        weight = _linear_weight(up)
        if len(weight) == 2 * self.width:
            halves = weight.chunk(2, dim=0)
            return halves[1], halves[0]
        return weight, None if gate is None else _linear_weight(gate)

    @property
    def is_gated(self) -> bool:
        """Whether the activations are a product act(gate(x)) * up(x)."""
        return experts.is_gated(self.mlp) if self.experts is not None else self.input_rows()[1] is not None


@dataclass(frozen=True, eq=False)
class NeuronSite:
    """One layer's neurons, numbered through its parts: routed experts first, then what every token goes through."""

    layer: int
    path: str
    """The layer's path in the model."""
    parts: tuple[Part, ...]
    """None in a layer without an MLP, such as one that is attention alone."""
    hidden: int
    """Width of the residual stream."""

    @property
    def width(self) -> int:
        """Number of neurons in this layer, over all parts."""
        return sum(part.width for part in self.parts)

    @property
    def experts(self) -> int | None:
        """Number of routed experts; None for a layer that is one dense MLP."""
        return None if len(self.parts) == 1 and self.parts[0].experts is None else sum(part.experts or 0 for part in self.parts)

    @property
    def name(self) -> str:
        """The path of its first part's module; the layer's own without any."""
        return self.parts[0].name if self.parts else self.path

    @property
    def module(self) -> nn.Module:
        """Its first part's module."""
        return self.parts[0].module

    @property
    def mlp(self) -> nn.Module | None:
        """Its first part's MLP."""
        return self.parts[0].mlp if self.parts else None

    def part_of(self, index: int) -> Part:
        """The part that a neuron is in."""
        return next(part for part in self.parts if part.start <= index < part.stop)

    def label(self, index: int) -> str:
        """Where in its layer a neuron is: "803", "e2/35" for channel 35 of expert 2, "s/35" for one of the shared expert.

        Its name is `layer:index` all the same; this is said beside it.
        """
        part = self.part_of(index)
        at = index - part.start
        if part.experts is not None:
            return "e{}/{}".format(*divmod(at, part.width // part.experts))
        return f"{part.title}/{at}" if part.title else str(index)

    def index_of(self, label: str) -> int:
        """The index of the neuron that `label` gives this name. Raises `LookupError` for one that the layer does not have."""
        title, _, at = label.rpartition("/")
        for part in self.parts:
            size = part.width // (part.experts or 1)
            expert = title[1:] if part.experts is not None and title[:1] == "e" else "0" if title == part.title else ""
            if expert.isdecimal() and int(expert) < (part.experts or 1) and int(at) < size:
                return part.start + int(expert) * size + int(at)
        raise LookupError(label)

    def output_rows(self) -> Tensor:
        """What each neuron writes to the residual stream per unit of activation, shape (I, d_model)."""
        rows = [part.output_rows() for part in self.parts]
        return torch.zeros(0, self.hidden) if not rows else rows[0] if len(rows) == 1 else torch.cat(rows)

    @cached_property
    def output_norms(self) -> Tensor:
        """Length of each of `output_rows`, shape (I,). Kept, since it takes a pass over the weights."""
        norms: Tensor = self.output_rows().float().norm(dim=1)
        return norms

    def input_rows(self) -> tuple[Tensor, Tensor | None]:
        """What each neuron reads from the residual stream: (up, gate), each of shape (I, d_model); gate None without one."""
        pairs = [part.input_rows() for part in self.parts]
        if len(pairs) == 1:
            return pairs[0]
        gates = [gate for _up, gate in pairs if gate is not None]
        ups = torch.cat([up for up, _gate in pairs]) if pairs else torch.zeros(0, self.hidden)
        return ups, torch.cat(gates) if pairs and len(gates) == len(pairs) else None


def find_sites(model: PreTrainedModel) -> tuple[NeuronSite, ...]:
    """Find every layer's neurons. Raises `UnsupportedModel` naming what was looked for and what is there."""
    layers_name, layers = _decoder_layers(model)
    hidden = int(model.config.get_text_config().hidden_size)
    sites = []
    seen: dict[int, str] = {}
    for number, layer in enumerate(layers):
        path = f"{layers_name}.{number}"
        site = NeuronSite(number, path, tuple(_parts(model, number, path, layer)), hidden)
        for part in site.parts:
            if (first := seen.setdefault(id(part.module), part.name)) != part.name:
                raise UnsupportedModel(
                    f"{type(model).__name__}: {first} and {part.name} are one MLP, whose neurons have no layer of their own"
                )
        sites.append(site)
    if not any(site.parts for site in sites):
        raise UnsupportedModel(
            f"{type(model).__name__}: layer 0 ({layers_name}.0) has no MLP down projection that is known; "
            f"looked for {', '.join(DOWN_NAMES)} outside attention, found {_child_names(layers[0])}"
        )
    return tuple(sites)


def other_writers(model: PreTrainedModel, sites: Sequence[NeuronSite]) -> tuple[str, ...]:
    """Paths of the matrices outside attention that write to a layer's output and are no neurons' down projection."""
    found = []
    for site in sites:
        own = {part.name for part in site.parts}
        for name, module in model.get_submodule(site.path).named_modules(prefix=site.path):
            inner = name.removeprefix(f"{site.path}.")
            mixes = any(word in inner for word in (*_NOT_MLP, *_MIXERS)) or "gate" in inner.split(".")
            if isinstance(module, nn.Linear | Conv1D) and not mixes and name not in own and len(_linear_weight(module)) == site.hidden:
                inside_mlp = any(name.startswith(f"{part.name.rpartition('.')[0]}.") for part in site.parts if "." in inner)
                if not inside_mlp:
                    found.append(name)
    return tuple(found)


def _decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of decoder layers: the module list that is as long as the config says."""
    config: Any = model.config.get_text_config()
    counts = [getattr(config, key) for key in _COUNTS if hasattr(config, key)]
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    encoders = ("vision", "audio", "encoder.")
    for skipped in (encoders, encoders[:2]):
        for name, module in ((name, module) for count in counts for name, module in lists if len(module) == count):
            if any(part in name for part in skipped):
                continue
            if "encoder." in name and not getattr(config, "is_decoder", False):
                raise UnsupportedModel(
                    f"{type(model).__name__}: its layers ({name}) read a text both ways; only a model whose config says is_decoder "
                    "predicts the next token"
                )
            return name, module
    found = ", ".join(f"{name} ({len(module)})" for name, module in lists[:12]) or "no module list"
    raise UnsupportedModel(f"{type(model).__name__}: looked for a list of {counts[0] if counts else '?'} decoder layers, found {found}")


def _parts(model: PreTrainedModel, number: int, path: str, layer: nn.Module) -> Iterator[Part]:
    """A layer's parts: its routed experts, then its dense MLPs."""
    routed, dense = [], []
    for name, module in layer.named_modules():
        parts = name.split(".")
        if any(word in name for word in _NOT_MLP) or any(word in parts[:-1] for word in _NOT_MLP_PARTS):
            continue
        if experts.is_experts(module):
            routed.append((f"{name}.{experts.POINT}", module))
        elif name in _OWN_NAMES and _first_attribute(layer, (_OWN_NAMES[name],)) is not None:
            dense.append((name, module, layer))
        elif parts[-1] in DOWN_NAMES and isinstance(module, nn.Linear | Conv1D):
            mlp = layer.get_submodule(name.rpartition(".")[0]) if "." in name else layer
            if _first_attribute(mlp, (*UP_NAMES, *FUSED_GATE_UP_NAMES)) is not None:
                dense.append((name, module, mlp))
        elif _is_unknown_mlp(module):
            raise UnsupportedModel(
                f"{type(model).__name__}: layer {number} has an MLP whose neurons cannot be reached: {path}.{name} "
                f"({type(module).__name__})"
            )
    start = 0
    if len(routed) > 1:
        raise UnsupportedModel(f"{type(model).__name__}: layer {number} has {len(routed)} sets of routed experts; one is known")
    for name, module in routed:
        point, count = experts.prepare_experts(module), len(module.down_proj)
        start = count * experts.channels(module)
        yield Part(number, 0, 0, start, point, f"{path}.{name}", module, "e", count, not dense)
    several = len(routed) + len(dense) > 1
    for place, (name, module, mlp) in enumerate(dense):
        title = "" if not several else "s" if len(dense) == 1 else f"s{place}"
        width = _linear_weight(module).shape[1]
        yield Part(number, len(routed) + place, start, width, module, f"{path}.{name}", mlp, title, whole=not several)
        start += width


def _is_unknown_mlp(module: nn.Module) -> bool:
    """Whether it holds several down projections in one weight, in a way that is not known."""
    held = [getattr(module, "down_proj", None), getattr(getattr(module, "output_linear", None), "weight", None)]
    return any(isinstance(weight, Tensor) and weight.dim() == 3 for weight in held)


def _linear_weight(module: nn.Module) -> Tensor:
    """The weight as (out, in), whatever the module keeps (GPT-2's Conv1D keeps (in, out)).

    Raises `UnsupportedModel` for packed or scaled weights, whose numbers are not the matrix's: their shape says another number of neurons.
    """
    weight = getattr(module, "weight", None)
    wide = getattr(module, "in_features", None)
    if (
        not isinstance(weight, Tensor)
        or weight.dim() != 2
        or not weight.is_floating_point()
        or weight.element_size() == 1
        or wide not in (None, weight.shape[1])
    ):
        kept = (
            f"{str(weight.dtype).removeprefix('torch.')} of shape {list(weight.shape)}" if isinstance(weight, Tensor) else "no plain matrix"
        )
        raise UnsupportedModel(
            f"a projection of its MLPs ({type(module).__name__}) keeps quantised weights ({kept}), which cannot be read as neurons; "
            "load a copy that is not quantised, or a GGUF file, which is unpacked"
        )
    return weight.T if isinstance(module, Conv1D) else weight


def _first_attribute(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    """The first of the paths below a module that there is a module at."""
    inside = dict(module.named_modules())
    return next((inside[name] for name in names if name in inside), None)


def _child_names(module: nn.Module) -> str:
    def leaves() -> Iterator[str]:
        for name, child in module.named_modules():
            if not list(child.children()):
                yield f"{name} ({type(child).__name__})"

    return ", ".join(leaves()) or "nothing"
