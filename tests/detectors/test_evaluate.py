"""The figures of detectors on sentences they never saw, against the libraries that are known for them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu

from neurons.detectors.evaluate import auroc, false_discovery, held_out


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_mann_whitneys(ties: bool) -> None:
    rng = np.random.default_rng(0)
    yes, no = rng.normal(0.7, 1, 40).astype(np.float32), rng.normal(0, 1, 90).astype(np.float32)
    if ties:
        yes, no = yes.round(), no.round()
    truth = mannwhitneyu(yes, no, alternative="greater", method="asymptotic")
    area, p = auroc(yes, no)
    assert area == pytest.approx(truth.statistic / (40 * 90))
    if ties:  # their correction of the spread is left out: never surer than the library
        assert truth.pvalue <= p <= 2 * truth.pvalue
    else:
        assert p == pytest.approx(truth.pvalue, rel=1e-6)


def test_an_empty_side_has_no_area() -> None:
    assert all(np.isnan(value) for value in auroc(np.zeros(0, np.float32), np.ones(3, np.float32)))


def test_the_false_discovery_rate_is_benjamini_and_hochbergs() -> None:
    p_C = np.random.default_rng(1).random(50) ** 3
    assert np.allclose(false_discovery(p_C), false_discovery_control(p_C, method="bh"))
    with_gap = np.array([0.001, np.nan, 0.02])
    assert np.allclose(false_discovery(with_gap), false_discovery_control([0.001, 1, 0.02], method="bh"))


def test_near_misses_count_against_their_own_concept_alone() -> None:
    """Concept 0 is told from other concepts but not from its near misses; concept 1 has none; concept 2 is never right."""
    class_N = np.array([0, 0, 0, 1, 1, 1, 2, 2, 0, 0])
    near_N = np.array([False] * 8 + [True] * 2)
    score_NC = np.zeros((10, 3), np.float32)
    score_NC[[0, 1, 2], 0] = [3, 2, 1]
    score_NC[[8, 9], 0] = [4, 5]
    score_NC[[3, 4, 5], 1] = [1, 2, 3]
    score_NC[[6, 7], 2] = -1
    found = held_out(score_NC, class_N, near_N)
    assert found.auroc_C.tolist() == [1, 1, 0]
    assert found.auroc_near_C[0] == 0
    assert np.isnan(found.auroc_near_C[1:]).all()
    assert found.p_C[0] < 0.05 < found.p_C[2]
