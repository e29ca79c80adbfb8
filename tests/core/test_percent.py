"""Shares as people read them: nothing that is not all reads 100%, nothing that is not nothing reads 0%."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurons.core.percent import becomes, column_share, percent


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.93, "93%"),
        (0.004, "0.4%"),
        (0.996, "99.6%"),
        (0.0012, "0.1%"),
        (0.0004, "0.04%"),
        (0.00001, "under 0.01%"),
        (0.9995, "over 99.9%"),
        (0.99999, "over 99.9%"),
        (-0.25, "-25%"),
        (1.5, "150%"),
        (1.002, "100.2%"),
        (1.0001, "over 100%"),
        (math.nan, "unknown"),
    ],
)
def test_a_share_is_said_with_as_many_digits_as_it_takes(share: float, said: str) -> None:
    assert percent(share) == said


def test_a_difference_says_which_way_it_goes() -> None:
    assert percent(0.25, signed=True) == "+25%"
    assert percent(-0.25, signed=True) == "-25%"
    assert percent(0.0, signed=True) == "0%"


def test_a_computed_probability_is_never_quite_0_or_1() -> None:
    assert percent(1.0, exact=False) == "over 99.9%"
    assert percent(0.0, exact=False) == "under 0.01%"


@given(st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True))
def test_what_is_between_reads_neither_all_nor_nothing(share: float) -> None:
    number = float(re.findall(r"[\d.]+", percent(share))[0])
    assert 0 < number < 100
    assert abs(number - 100 * share) < max(0.5001, 0.01)


@given(st.floats(min_value=0, max_value=1), st.floats(min_value=0, max_value=1))
def test_a_larger_share_never_reads_smaller(one: float, two: float) -> None:
    low, high = sorted((one, two))
    numbers = [float(re.findall(r"[\d.]+", percent(share))[0]) for share in (low, high)]
    assert numbers[0] <= numbers[1]


def test_a_change_is_said_with_the_digits_that_tell_it() -> None:
    assert becomes(0.74, 0.58) == "74% becomes 58%"
    assert becomes(0.5012, 0.5034) == "50.1% becomes 50.3%"
    assert becomes(0.50121, 0.50123) == "50.121% becomes 50.123%"
    assert becomes(0.5, 0.5) == "50% stays 50%"
    assert "100" not in becomes(0.99999, 0.999999)


def test_a_column_of_two_decimals_keeps_what_is_small_and_what_is_nearly_all() -> None:
    assert column_share(None) is None
    assert column_share(0.0) == 0
    assert column_share(1.0) == 1
    assert column_share(1e-9) == 0.0001
    assert column_share(-1e-9) == -0.0001
    assert column_share(0.999999) == 0.9999
    assert column_share(0.42) == 0.42
    assert column_share(2.5) == 2.5
    assert math.isnan(column_share(math.nan) or 0.0)
