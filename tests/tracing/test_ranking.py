"""Ranking neurons over a range of tokens, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from neurons.core.errors import InvalidInput
from neurons.core.quantile_table import QuantileTable
from neurons.tracing.ranking import rank_activations

RNG = np.random.default_rng(3)
ACTS = RNG.normal(size=(3, 40, 16)).astype(np.float16)
NORM = np.stack([np.abs(RNG.normal(size=(3, 16))) + 1, -np.abs(RNG.normal(size=(3, 16))) - 1]).astype(np.float32)
TABLE = QuantileTable(5000, "atlas", NORM, NORM)


def slow(tokens: list[int], threshold: float) -> dict[tuple[int, int, str], tuple[float, float, tuple[int, ...]]]:
    found = {}
    for layer in range(3):
        for index in range(16):
            for side, sign in (("+", 1), ("-", -1)):
                values = ACTS[layer, tokens, index].astype(np.float32) * sign
                extreme = abs(NORM[0 if sign > 0 else 1, layer, index])
                if values.max() > 0 and values.max() / extreme >= threshold:
                    where = tuple(t for t, v in zip(tokens, values, strict=True) if v > 0 and v / extreme >= threshold)
                    found[layer, index, side] = (float(values.max()) * sign, float(values.max() / extreme), where)
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, 1.4])
@pytest.mark.parametrize("tokens", [[0], [3, 4, 5], list(range(40))])
def test_same_as_a_plain_loop(tokens: list[int], threshold: float) -> None:
    found = rank_activations(ACTS, tokens=tokens, quantiles=TABLE, threshold=threshold)
    expected = slow(tokens, threshold)
    assert found.passed == len(found.table) == len(expected)
    assert found.table.normalised.is_monotonic_decreasing
    for row in found.table.itertuples():
        peak, normalised, where = expected[row.layer, row.index, row.polarity]
        assert row.activation == pytest.approx(peak) == pytest.approx(float(ACTS[row.layer, row.peak, row.index]))
        assert row.normalised == pytest.approx(normalised, rel=1e-5)
        assert (row.tokens, row.positions) == (len(where), where[:32])


def test_percentile_counts_the_layers_own_side() -> None:
    found = rank_activations(ACTS, tokens=range(1, 40), quantiles=TABLE, threshold=0.0)
    for row in found.table.head(20).itertuples():
        side = ACTS[row.layer, 1:].astype(np.float32) * (1 if row.polarity == "+" else -1)
        side = side[side > 0]
        assert row.percentile == pytest.approx(100 * (side < abs(row.activation)).mean(), abs=1e-3)


def test_own_statistics_say_so() -> None:
    found = rank_activations(ACTS, threshold=0.9)
    assert found.normaliser.startswith("this trace's own statistics, 40 tokens")
    assert found.table.normalised.max() == pytest.approx(1.0, rel=0.01)
    assert all(0 not in positions for positions in found.table.positions)
    assert "5,000 tokens (atlas)" in rank_activations(ACTS, quantiles=TABLE).normaliser


def test_filters() -> None:
    everything = rank_activations(ACTS, quantiles=TABLE, threshold=0.0)
    assert set(rank_activations(ACTS, quantiles=TABLE, threshold=0.0, layers=[1]).table.layer) == {1}
    assert set(rank_activations(ACTS, quantiles=TABLE, threshold=0.0, polarity="-").table.polarity) == {"-"}
    only = rank_activations(ACTS, quantiles=TABLE, threshold=0.0, neurons=[(2, 5)]).table
    assert {(row.layer, row.index) for row in only.itertuples()} == {(2, 5)}
    strong = rank_activations(ACTS, quantiles=TABLE, threshold=0.0, minimum=1.5).table
    assert strong.activation.abs().min() >= 1.5
    few = rank_activations(ACTS, quantiles=TABLE, threshold=0.0, top=7)
    assert (len(few.table), few.passed) == (7, everything.passed)
    none = rank_activations(ACTS, quantiles=TABLE, threshold=99.0)
    assert list(none.table.columns) == list(everything.table.columns)
    assert none.passed == 0


def test_sides_that_never_fired_in_the_corpus_are_kept() -> None:
    norm = NORM.copy()
    norm[0, 0, 0] = 0
    found = rank_activations(ACTS, quantiles=QuantileTable(10, "atlas", norm, norm), threshold=1.0).table
    assert ((found.layer == 0) & (found["index"] == 0) & (found.polarity == "+")).any()


def test_float32_and_one_token() -> None:
    large = ACTS.astype(np.float32)
    large[1, 20, 3] = 80_000
    row = rank_activations(large).table.iloc[0]
    assert (row.layer, row["index"], row.activation) == (1, 3, 80_000)
    assert rank_activations(ACTS[:, :1], threshold=0.0).passed > 0


@pytest.mark.parametrize("bad", [{"tokens": [40]}, {"tokens": []}, {"layers": [3]}, {"neurons": [(0, 99)]}, {"threshold": float("nan")}])
def test_bad_input(bad: dict) -> None:
    with pytest.raises(InvalidInput):
        rank_activations(ACTS, **bad)
    with pytest.raises(InvalidInput, match="another model"):
        rank_activations(ACTS[:2], quantiles=TABLE)
