"""Upstream: the drive is the derivative of the driven neuron, the walk is a small consistent graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurons.attribution.attribute import attribute, top_rows
from neurons.attribution.paths import upstream, walk
from neurons.core.errors import InvalidInput
from neurons.core.steers import Steer
from neurons.core.types import AttributionRow, NeuronSide, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import run_forward
from tests.support.tiny_models import ARCHITECTURES, tiny_model

IDS = tuple(int(i) for i in np.random.default_rng(5).integers(0, 255, 12))


def activation(loaded: LoadedModel, at: tuple[int, int, int], scaled: tuple[int, int, int], factor: float) -> float:
    """Activation of the neuron `at` (layer, token, index) when another is multiplied by `factor`."""
    seen: dict[int, torch.Tensor] = {}

    def replace(part: Part, acts: torch.Tensor) -> torch.Tensor:
        acts = acts.clone()
        if part.layer == scaled[0] and part.start <= scaled[2] < part.stop:
            acts[0, scaled[1], scaled[2] - part.start] *= factor
        return acts

    run_forward(loaded, torch.tensor([IDS]), replace=replace, record=seen.__setitem__)
    return float(seen[at[0]][0, at[1], at[2]])


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_the_drive_is_the_derivative_of_the_driven_activation(arch: str) -> None:
    loaded = tiny_model(arch)
    acts_TI: list[torch.Tensor] = []
    run_forward(loaded, torch.tensor([IDS]), record=lambda _layer, acts_BTI: acts_TI.append(acts_BTI[0]))
    for side in (1, -1):
        index = int((acts_TI[2][8] * side).argmax())
        found = upstream(loaded, IDS, 2, index, 8, k=6)
        assert found.activation * side > 0
        assert len(found.rows) == 6
        for row in found.rows:
            assert row.layer < 2
            assert row.token <= 8
            place, step = (row.layer, row.token, row.index), 4e-3
            change = activation(loaded, (2, 8, index), place, 1 + step) - activation(loaded, (2, 8, index), place, 1 - step)
            assert row.attribution == pytest.approx(side * change / (2 * step), rel=2e-2, abs=2e-3 * abs(found.activation))
    assert not any(module._forward_pre_hooks for module in loaded.model.modules())


def test_the_walk_from_a_neuron() -> None:
    loaded = tiny_model("llama")
    start = AttributionRow(2, 7, 9, "+", 0.0, 0.0)
    graph = walk(loaded, IDS, start, steps=2, width=3)
    by_id = {node.id: node for node in graph.nodes}
    assert graph.nodes[0].id == "2:7@9"
    assert len(by_id) == len(graph.nodes) <= 1 + 3 + 9
    direct = upstream(loaded, IDS, 2, 7, 9, k=3)
    first = [edge for edge in graph.edges if edge.target == "2:7@9"]
    assert [edge.source for edge in first] == [f"{row.layer}:{row.index}@{row.token}" for row in direct.rows]
    assert [edge.drive for edge in first] == pytest.approx([row.attribution for row in direct.rows])
    assert sum(edge.share for edge in first) == pytest.approx(direct.share)
    for edge in graph.edges:
        assert by_id[edge.source].layer < by_id[edge.target].layer
        assert by_id[edge.source].token <= by_id[edge.target].token
        assert 0 < edge.share <= 1
    assert {node.step for node in graph.nodes} <= {0, 1, 2}
    small = walk(loaded, IDS, start, steps=3, width=5, max_nodes=8)
    assert len(small.nodes) == 8
    assert {edge.source for edge in small.edges} | {"2:7@9"} == {node.id for node in small.nodes}


def test_the_walk_from_the_explained_token() -> None:
    loaded = tiny_model("gpt2")
    graph = walk(loaded, IDS, TargetSpec(9, "logit"), steps=1, width=4)
    rows = top_rows(attribute(loaded, IDS, TargetSpec(9, "logit"), method="grad"), 4).rows
    assert graph.nodes[0].id == "token@9"
    assert [node.id for node in graph.nodes[1:]] == [f"{row.layer}:{row.index}@{row.token}" for row in rows]
    assert [edge.drive for edge in graph.edges] == pytest.approx([row.attribution for row in rows], rel=1e-4)


def test_a_neuron_set_by_a_steer_is_driven_by_nothing() -> None:
    loaded = tiny_model("llama")
    steer = (Steer((NeuronSide(2, 7),), "set", 1.0, values=(2.0,)),)
    found = upstream(loaded, IDS, 2, 7, 9, steers=steer)
    assert found.activation == 2.0
    assert found.rows == ()
    assert found.share == 0.0


def test_wrong_starts_are_refused() -> None:
    loaded = tiny_model("llama")
    with pytest.raises(InvalidInput, match="first layer"):
        upstream(loaded, IDS, 0, 1, 3)
    for layer, index, token in ((3, 0, 1), (1, 48, 1), (1, 1, 12)):
        with pytest.raises(InvalidInput):
            upstream(loaded, IDS, layer, index, token)
    with pytest.raises(InvalidInput, match="1 to 5 steps"):
        walk(loaded, IDS, TargetSpec(3), steps=9)
