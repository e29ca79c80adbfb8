"""Statistics of pairs: each prompt answered without and with a steer. Pure numbers; knows no model.

The unit is the prompt: seeds and copies of a prompt are repeats within it, and count as their mean. Whether a difference is more than
chance is said by an exact test at every size: McNemar's where each prompt has one pair, else the test that flips the signs of the prompts'
differences. Intervals go by prompts: from `FEW` on by resampling them, below that, and where all differ alike and a resampling is blind, by
Newcombe's for paired proportions (method 10 of Statist. Med. 17, 2635, 1998), for means by Student's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap, permutation_test, ttest_1samp
from statsmodels.stats.proportion import proportion_confint

FEW = 20
"""Prompts below which the exact test alone speaks: intervals from so few are wide at best."""
SIGNIFICANT = 0.05
_RESAMPLES = 4000
_FLIPS = 9999
_LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """A share of prompts with its 95% interval (Wilson)."""

    count: float
    """Prompts that met it; one of whose repeats only some did counts in part."""
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, met: Sequence[bool], prompts: Sequence[Any] | None = None) -> Rate:
        """The share of true ones, `prompts` saying which are repeats of one; (0, 1) is the interval of nothing at all."""
        shares_P = by_prompt(range(len(met)) if prompts is None else prompts, [float(bool(value)) for value in met])
        count, total = float(shares_P.sum()), len(shares_P)
        if not total:
            return cls(0, 0, 0.0, 1.0)
        low, high = proportion_confint(count, total, alpha=1 - _LEVEL, method="wilson")
        return cls(int(count) if count == int(count) else count, total, float(low), float(high))

    @property
    def share(self) -> float:
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True)
class Difference:
    """Steered minus unsteered, paired."""

    value: float
    """Mean over prompts."""
    low: float | None
    """95% interval; None where one prompt is all there is."""
    high: float | None
    method: str
    """How the interval was made."""
    p_value: float | None = None
    """Of the exact test, two-sided; None without pairs."""
    gained: int = 0
    """Pairs where only the steered answer meets the criterion."""
    lost: int = 0
    """Pairs where only the unsteered one does."""
    prompts: int = 0

    @property
    def told(self) -> bool:
        """Whether the difference is more than chance: by the exact test, and by the interval where there is one."""
        spans_zero = self.low is not None and self.high is not None and self.low <= 0 <= self.high
        return self.p_value is not None and self.p_value < SIGNIFICANT and not spans_zero


def by_prompt(prompts: Sequence[Any], values: Sequence[float]) -> Floats:
    """The mean of each prompt's values, in the order of their first."""
    found: dict[Any, list[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        found.setdefault(prompt, []).append(float(value))
    return np.array([np.mean(one) for one in found.values()])


def paired_rates(prompts: Sequence[Any], plain: Sequence[bool], steered: Sequence[bool], *, seed: int = 0) -> Difference:
    """Difference of two rates over pairs; `prompts` says which prompt a pair belongs to."""
    gained = sum(1 for a, b in zip(plain, steered, strict=True) if b and not a)
    lost = sum(1 for a, b in zip(plain, steered, strict=True) if a and not b)
    change_P = by_prompt(prompts, [float(b) - float(a) for a, b in zip(plain, steered, strict=True)])
    if not len(change_P):
        return Difference(0.0, None, None, "no pairs")
    if len(change_P) == len(prompts):
        p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    else:
        p_value = _flipped(change_P, seed)
    low: float | None
    if len(change_P) < 2:
        low, high, method = None, None, "one prompt: no interval"
    elif len(change_P) < FEW or np.ptp(change_P) < 1e-12:
        low, high = newcombe(plain, steered, prompts)
        method = "Newcombe, paired"
    else:
        low, high = _resampled(change_P, seed)
        method = "paired bootstrap over prompts"
    return Difference(float(change_P.mean()), low, high, method, p_value, gained, lost, len(change_P))


def paired_means(prompts: Sequence[Any], change: Sequence[float], *, seed: int = 0) -> Difference:
    """Mean of paired changes, over prompts."""
    change_P = by_prompt(prompts, change)
    if not len(change_P):
        return Difference(0.0, None, None, "no pairs")
    value, p_value, count = float(change_P.mean()), _flipped(change_P, seed), len(change_P)
    if count < 2:
        return Difference(value, None, None, "one prompt: no interval", p_value, prompts=count)
    if np.ptp(change_P) < 1e-12:
        return Difference(value, value, value, "all prompts alike", p_value, prompts=count)
    if count < FEW:
        interval = ttest_1samp(change_P, 0.0).confidence_interval(_LEVEL)
        return Difference(value, float(interval.low), float(interval.high), "Student, over prompts", p_value, prompts=count)
    return Difference(value, *_resampled(change_P, seed), "paired bootstrap over prompts", p_value, prompts=count)


def _resampled(change_P: Floats, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    found = bootstrap((change_P,), np.mean, n_resamples=_RESAMPLES, confidence_level=_LEVEL, method="percentile", rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _flipped(change_P: Floats, seed: int) -> float:
    """Two-sided p of the sign-flip test: without an effect, each prompt's difference might as well have the other sign.

    All flips are tried up to 13 prompts, above that 9,999 drawn ones.
    """
    if len(change_P) < 2 or not np.any(np.abs(change_P) > 1e-12):
        return 1.0
    rng = np.random.default_rng(seed)
    test = permutation_test((change_P,), _mean, permutation_type="samples", n_resamples=_FLIPS, vectorized=True, rng=rng)
    return min(1.0, float(test.pvalue))


def _mean(change: Floats, axis: int = -1) -> Any:
    return change.mean(axis=axis)


def newcombe(plain: Sequence[bool], steered: Sequence[bool], prompts: Sequence[Any] | None = None) -> tuple[float, float]:
    """95% interval of P(steered) - P(plain) for paired proportions; repeats of one of the `prompts` count in part."""
    places = range(len(plain)) if prompts is None else prompts
    pairs = [(bool(a), bool(b)) for a, b in zip(plain, steered, strict=True)]
    cells = [by_prompt(places, [float(a == x and b == y) for a, b in pairs]).sum() for x, y in ((1, 1), (1, 0), (0, 1), (0, 0))]
    both, lost, gained, neither = map(float, cells)
    one, two = Rate.of(list(steered), places), Rate.of(list(plain), places)
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    phi = 0.0 if product == 0 else (both * neither - gained * lost) / math.sqrt(product)
    p1, p2 = one.share, two.share
    down = math.sqrt(max(0.0, (p1 - one.low) ** 2 - 2 * phi * (p1 - one.low) * (two.high - p2) + (two.high - p2) ** 2))
    up = math.sqrt(max(0.0, (one.high - p1) ** 2 - 2 * phi * (one.high - p1) * (p2 - two.low) + (p2 - two.low) ** 2))
    return max(-1.0, p1 - p2 - down), min(1.0, p1 - p2 + up)
