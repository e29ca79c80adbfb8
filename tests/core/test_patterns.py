"""Expressions that people write: told in time and in little memory, whatever they ask."""

from __future__ import annotations

import time

import pytest

from neurons.core.errors import InvalidInput
from neurons.core.patterns import MOST_PARTS, OutsidePattern, unrolled


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("abc", 3),
        ("a{7}", 7),
        ("a{7,9}", 7),
        ("a{,9}", 5),
        ("a{0,9}", 1),
        ("(ab){5}c", 11),
        ("((a{10}){10}b){10}", 1010),
        (r"\d{4}-\d{2}", 7),
        (r"[)\]({]{3}", 3),
        (r"\(a{3}", 4),
        ("a{2}{3}", 6),
        ("a{" + "9" * 5000 + "}", MOST_PARTS),
    ],
)
def test_counted_repeats_are_written_out(pattern: str, parts: int) -> None:
    assert unrolled(pattern) == parts


@pytest.mark.parametrize("pattern", ["a{99999999}", "(?:a{1000}){1000}", "((a{300}b){300}){300}", r"(?<=(ab){30000})c", "[)](a{40000})"])
def test_repeats_that_would_fill_the_memory_are_refused_at_once(pattern: str) -> None:
    """The package writes them out: a hundred million took 21 GB and ended the server."""
    begun = time.process_time()
    with pytest.raises(InvalidInput, match="ask for fewer repeats"):
        OutsidePattern(pattern).check()
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("pattern", [r"\w{1,1000} \w{1,1000} \w{1,1000}!", r".{0,5000}x", r"\d{4}-\d{2}-\d{2}", r"(\w+ ){20}\w+"])
def test_usual_repeats_are_taken(pattern: str) -> None:
    OutsidePattern(pattern).check()
