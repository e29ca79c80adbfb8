"""The largest of many numbers are those that `torch.topk` finds."""

from __future__ import annotations

import pytest
import torch

from neurons.attribution.top_k import largest


@pytest.mark.parametrize("count", [5, 64, 6_000, 200_000])
def test_the_largest_of_many_are_those_of_topk(count: int) -> None:
    size_N = torch.rand(count, generator=torch.Generator().manual_seed(count)).round(decimals=4)  # many are equal
    for k in (0, 1, 50, 5_000):
        values_K, places_K = largest(size_N, k)
        assert torch.equal(values_K, torch.topk(size_N, min(k, count)).values)
        assert torch.equal(size_N[places_K], values_K)
        assert len(set(places_K.tolist())) == len(values_K)


def test_the_largest_of_numbers_that_overflowed() -> None:
    size_N = torch.rand(10_000)
    size_N[[7, 700, 7_000]] = torch.nan
    assert set(largest(size_N, 3)[1].tolist()) == {7, 700, 7_000}
