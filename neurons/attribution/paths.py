"""What drives a neuron: attribution upstream, with the neuron's own activation as the metric.

    drive[u -> n] = a_u * d strength_n / d a_u,    strength_n = |a_n|, on the side the neuron is on

in units of the driven neuron's activation: positive strengthens it, negative weakens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.attribution.metrics import check_target, metric_value
from neurons.attribution.top_k import largest
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, Repeatable, no_progress
from neurons.core.steers import Steer
from neurons.core.types import AttributionRow, Polarity, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.runs.backward import gradients
from neurons.runs.hooks import GraphActs, run_forward, watched
from neurons.runs.steering import compile_edits

MAX_NODES = 24
"""Nodes of a walk: what stays readable when drawn."""


@dataclass(frozen=True)
class Node:
    """One neuron at one token of a graph, or the explained token itself."""

    id: str
    """`layer:index@token`, or `token@position` for the explained token."""
    layer: int
    """The number of layers for the explained token: it stands above all of them."""
    index: int
    """-1 for the explained token."""
    token: int
    polarity: Polarity
    activation: float
    """For the explained token: the metric."""
    step: int
    """How many steps from the start, 0 for the start itself."""


@dataclass(frozen=True)
class Edge:
    """`source` drives `target`, signed."""

    source: str
    target: str
    drive: float
    """In units of the target's activation (or metric): positive strengthens, negative weakens."""
    share: float
    """Its part of all absolute drives of the target, 0 to 1."""


@dataclass(frozen=True)
class Graph:
    """A walk upstream as plain data."""

    nodes: tuple[Node, ...]
    """The start first, then by step and strength."""
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Upstream:
    """What drives one neuron at one token."""

    layer: int
    index: int
    token: int
    activation: float
    rows: tuple[AttributionRow, ...]
    """Strongest first. Their `attribution` is the drive."""
    share: float
    """Part of the absolute drive of all earlier neurons that the rows hold, 0 to 1."""


def upstream(
    loaded: LoadedModel,
    ids: Sequence[int],
    layer: int,
    index: int,
    token: int,
    *,
    k: int = 20,
    steers: Sequence[Steer] = (),
    prompt_tokens: int | None = None,
    progress: Progress = no_progress,
) -> Upstream:
    """The `k` neurons of lower layers, at this or earlier tokens, that drive neuron (layer, index) at `token`.

    Raises `InvalidInput` for a neuron of layer 0 (none is below), or a neuron or token that is not there, and what `progress` raises,
    which is called at every layer.
    """
    _check(loaded, ids, layer, index, token)
    if layer == 0:
        raise InvalidInput(f"neuron 0:{index} is in the first layer: no neuron drives it; choose one of a higher layer", field="neuron")
    with watched(loaded, progress):
        run = _Run(loaded, ids[: token + 1], steers, len(ids) if prompt_tokens is None else prompt_tokens)
        rows, share = run.drivers(layer, index, token, k)
    return Upstream(layer, index, token, run.activation(layer, index, token), rows, share)


def walk(
    loaded: LoadedModel,
    ids: Sequence[int],
    start: AttributionRow | TargetSpec,
    *,
    steps: int = 2,
    width: int = 4,
    max_nodes: int = MAX_NODES,
    steers: Sequence[Steer] = (),
    prompt_tokens: int | None = None,
    progress: Progress = no_progress,
) -> Graph:
    """A small graph of what drives a neuron at a token (or the explained token), what drives those, and so on.

    Each node is followed to its `width` strongest drivers, `steps` times. A neuron met twice is one node. When the graph would
    outgrow `max_nodes`, the weakest of a step's new nodes are left out. Raises what `progress` raises, which is called at every layer.
    """
    if not 1 <= steps <= 5 or not 1 <= width <= 20:
        raise InvalidInput(f"a walk of {steps} steps and width {width} cannot be drawn; use 1 to 5 steps, width 1 to 20", field="steps")
    if isinstance(start, TargetSpec):
        start = check_target(loaded, ids, start)
        last = start.token - 1
    else:
        _check(loaded, ids, start.layer, start.index, start.token)
        last = start.token
    told = Repeatable(progress, None, "running the text")
    with watched(loaded, told.again):
        run = _Run(loaded, ids[: last + 1], steers, len(ids) if prompt_tokens is None else prompt_tokens)
        return _followed(run, start, steps, width, max_nodes, told)


def _followed(run: _Run, start: AttributionRow | TargetSpec, steps: int, width: int, max_nodes: int, progress: Progress) -> Graph:
    root = run.target_node(start) if isinstance(start, TargetSpec) else run.node(start.layer, start.index, start.token, 0)
    nodes, edges, frontier = {root.id: root}, [], [root]
    for step in range(1, steps + 1):
        found: dict[str, tuple[float, Node]] = {}
        fresh: list[Edge] = []
        for done, node in enumerate(frontier):
            progress(done, len(frontier), f"walking upstream, step {step} of {steps}")
            if node.layer == 0:
                continue
            rows, _share = (
                run.target_drivers(start, width)
                if isinstance(start, TargetSpec) and node is root
                else run.drivers(node.layer, node.index, node.token, width)
            )
            for row in rows:
                driver = run.node(row.layer, row.index, row.token, step)
                edge = Edge(driver.id, node.id, row.attribution, abs(row.attribution) / run.mass if run.mass else 0.0)
                fresh.append(edge)
                if driver.id not in nodes:
                    found[driver.id] = (max(edge.share, found[driver.id][0] if driver.id in found else 0.0), driver)
        kept = sorted(found.values(), key=lambda pair: -pair[0])[: max(0, max_nodes - len(nodes))]
        frontier = [node for _share, node in kept]
        nodes |= {node.id: node for node in frontier}
        edges += [edge for edge in fresh if edge.source in nodes]
    return Graph(tuple(nodes.values()), tuple(edges))


class _Run:
    """One forward pass whose graph is kept, so that many neurons can be asked about."""

    def __init__(self, loaded: LoadedModel, ids: Sequence[int], steers: Sequence[Steer], prompt_tokens: int) -> None:
        self.loaded = loaded
        self.acts = GraphActs(loaded)
        self.mass = 0.0
        """Sum of all absolute drives of the neuron asked about last."""
        edits = compile_edits(loaded, steers, prompt_tokens)

        output = run_forward(loaded, torch.tensor([list(ids)]), edits=edits, graph=self.acts, logits_to_keep=1, grad=True)
        assert output.logits is not None
        self.logits_BV = output.logits[:, -1]

    def activation(self, layer: int, index: int, token: int) -> float:
        return float(self.acts.entry(layer, index, token).detach())

    def node(self, layer: int, index: int, token: int, step: int) -> Node:
        activation = self.activation(layer, index, token)
        return Node(f"{layer}:{index}@{token}", layer, index, token, "-" if activation < 0 else "+", activation, step)

    def target_node(self, target: TargetSpec) -> Node:
        value = float(metric_value(self.logits_BV.detach(), target)[0])
        return Node(f"token@{target.token}", self.loaded.n_layers, -1, target.token, "+", value, 0)

    def drivers(self, layer: int, index: int, token: int, k: int) -> tuple[tuple[AttributionRow, ...], float]:
        """The strongest drivers of a neuron, and their share of all drives."""
        act = self.acts.entry(layer, index, token)
        return self._top(act * torch.sign(act.detach()), layer, k)

    def target_drivers(self, target: TargetSpec, k: int) -> tuple[tuple[AttributionRow, ...], float]:
        """The strongest drivers of the explained token's metric, likewise."""
        return self._top(metric_value(self.logits_BV, target)[0], self.loaded.n_layers, k)

    def _top(self, value: Tensor, layers: int, k: int) -> tuple[tuple[AttributionRow, ...], float]:
        inputs = self.acts.tensors(below=layers)
        if not value.requires_grad or not inputs:
            # A steer that sets the neuron cuts it off from what is below, where there may also be no neurons at all.
            self.mass = 0.0
            return (), 0.0
        grads = gradients(self.loaded, value, inputs, keep=True)
        pairs = zip(self.acts.layers(below=layers), self.acts.layers(grads, below=layers), strict=True)
        drives = [(act.detach()[0] * grad[0]).float() for act, grad in pairs]
        flat = torch.cat([drive.flatten() for drive in drives])
        self.mass = float(flat.abs().sum(dtype=torch.float64))
        top = largest(flat.abs(), k)[1]
        starts: NDArray[np.int64] = np.cumsum([0, *(drive.numel() for drive in drives)])
        rows = []
        for place, drive in zip(top.tolist(), flat[top].tolist(), strict=True):
            if drive == 0:
                break
            layer = int(np.searchsorted(starts, place, side="right")) - 1
            token, index = divmod(place - int(starts[layer]), drives[layer].shape[1])
            activation = self.activation(layer, index, token)
            rows.append(AttributionRow(layer, index, token, "-" if activation < 0 else "+", activation, drive))
        return tuple(rows), sum(abs(row.attribution) for row in rows) / self.mass if self.mass else 0.0


def _check(loaded: LoadedModel, ids: Sequence[int], layer: int, index: int, token: int) -> None:
    if not 0 <= layer < loaded.n_layers or not 0 <= index < loaded.sites[layer].width:
        raise InvalidInput(f"neuron {layer}:{index} is not in {loaded.ref.name} (layers 0 to {loaded.n_layers - 1})", field="neuron")
    if not 0 <= token < len(ids):
        raise InvalidInput(f"token {token} is not in this text; choose 0 to {len(ids) - 1}", field="token")
