"""The atlas that ships: complete, small, read in parts, its texts licensed, and true: a sample is computed again from the model."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from neurons.atlas.store import SHIPPED, Atlas, open_folder
from neurons.runs.hooks import run_forward

WINDOWS = 5


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return open_folder(SHIPPED)


def test_it_is_small_and_whole(atlas: Atlas) -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 34_000_000
    for layer in range(atlas.n_layers):
        arrays = atlas.exemplar_arrays(layer)
        assert (arrays.sequence_2IK >= 0).all()
        assert (np.diff(np.abs(arrays.value_2IK[:, :, :]) * np.sign(arrays.value_2IK), axis=2)[0] <= 0).all()
        assert (arrays.sequence_2IK < atlas.corpus.n_describe).all()
        assert (atlas.token_arrays(layer).ids_2IK >= 0).all()
    for name in atlas.manifest["files"]:
        atlas.checked(name)


def test_every_text_may_be_passed_on(atlas: Atlas) -> None:
    assert len(atlas.info.sources) >= 10
    for source in atlas.info.sources:
        assert source["licence"]
        assert source["tokens"] + source["held_out_tokens"] > 0
        assert "GPL" not in source["licence"]
    chat = [source for source in atlas.info.sources if source["generated"]]
    assert [source["domain"] for source in chat] == ["chat"]
    wikipedia = [name for name in atlas.corpus.names_D if name.startswith("Wikipedia: ")]
    assert len(wikipedia) > 50  # the licence asks that each article is named


def test_one_neuron_needs_few_of_its_arrays() -> None:
    fresh = open_folder(SHIPPED)
    fresh.quantile(1e-5)
    fresh.exemplars(17, 803, "-")
    layers = {name for name in fresh._cache if re.search(r"\d", name)}
    assert not {name for name in layers if not re.search(r"\b0*17\b", name)}, "another layer was read"
    assert not [name for name in fresh._cache if "token" in name]


def test_a_sample_is_found_again_in_the_model(atlas: Atlas, default_model) -> None:  # type: ignore[no-untyped-def]
    corpus = atlas.corpus
    rng = np.random.default_rng(20261125)
    drawn = rng.choice(np.unique(atlas.exemplar_arrays(15).sequence_2IK), WINDOWS, replace=False)
    compared = 0
    for window in drawn.tolist():
        acts = {}
        ids = torch.from_numpy(corpus.sequence(window))[None]
        run_forward(default_model, ids, record=lambda n, a, acts=acts: acts.update({n: a[0].numpy().copy()}), logits_to_keep=1)
        for layer in range(atlas.n_layers):
            arrays = atlas.exemplar_arrays(layer)
            side, index, rank = np.nonzero(arrays.sequence_2IK == window)
            shipped = arrays.value_2IK[side, index, rank]
            again = acts[layer][arrays.position_2IK[side, index, rank], index]
            assert np.allclose(shipped, again, rtol=2e-3, atol=2e-3)
            counted = acts[layer][int(corpus.start_S[window]) :, index] * np.where(side == 0, 1, -1)
            assert np.allclose(counted.max(0), shipped * np.where(side == 0, 1, -1), rtol=2e-3, atol=2e-3)
            compared += len(side)
    assert compared > 100


def test_extremes_bound_exemplars(atlas: Atlas) -> None:
    extreme = atlas.quantile(1e-9)
    near = atlas.quantile(1e-5)
    for layer in (0, 11, 29):
        first = atlas.exemplar_arrays(layer).value_2IK[:, :, 0]
        assert np.allclose(first, extreme[:, layer], rtol=2e-3)
    assert (extreme[0] >= near[0]).all()
    assert (extreme[1] <= near[1]).all()
    assert (near[0] > near[1]).all()


def test_promoted_tokens_are_the_model_s(atlas: Atlas, default_model) -> None:  # type: ignore[no-untyped-def]
    loaded = default_model
    row = loaded.sites[20].output_rows()[77].float()
    logits = (row * loaded.model.model.norm.weight) @ loaded.model.lm_head.weight.T
    z = (logits - logits.mean()) / logits.std()
    best = atlas.promoted(20, 77, "+")
    assert best.values[0] == pytest.approx(float(z[best.ids[0]]), rel=5e-3)
    assert set(best.ids[:4]) <= set(torch.topk(z, 12).indices.tolist())
