"""Text that goes round in circles, and the extremes that steers are measured in."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neurons.core.quantile_table import QuantileTable
from neurons.core.repetition import repetition
from neurons.core.types import NeuronSide


def test_text_without_repeats_has_none_and_a_loop_has_nearly_all() -> None:
    assert repetition(range(50)) == 0
    assert repetition([]) == 0
    assert repetition([1, 2]) == 0  # shorter than one run
    assert repetition([1] * 50) == 1 - 1 / 48
    assert repetition([1, 2, 3, 1, 2, 3]) == 0.25  # of four runs the last was there before
    assert repetition([1, 2, 1, 2, 1], width=2) == 0.5


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 4))
def test_it_is_a_share_that_saying_all_again_never_lowers(ids: list[int], width: int) -> None:
    once = repetition(ids, width=width)
    assert 0 <= once < 1
    assert repetition(ids + ids, width=width) >= once - 1e-12


def test_each_side_has_its_own_extreme() -> None:
    extremes = np.zeros((2, 3, 4), dtype=np.float32)
    extremes[0, 1, 2], extremes[1, 1, 2] = 5.0, -2.0
    table = QuantileTable(1_000_000, "atlas", extremes, extremes)
    assert table.values([NeuronSide(1, 2, "-"), NeuronSide(1, 2), NeuronSide(0, 0)]) == (-2.0, 5.0, 0.0)
    assert table.describe() == "quantiles from 1,000,000 tokens (atlas)"
