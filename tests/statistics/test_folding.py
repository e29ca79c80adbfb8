"""Texts that mean the same are found in each other, and the place that is found is the original's."""

from __future__ import annotations

import pytest

from neurons.statistics.folding import fold, folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("\uff21\uff42", "ab"),  # wide letters
        ("caf\u00e9", "cafe\u0301"),
        ("so\u00adft", "soft"),
        ("\u0130stanbul", "istanbul"),
        ("I\u015eIK", "\u0131\u015f\u0131k"),
        ("\ufb01n", "fin"),
    ],
)
def test_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_a_power_is_no_number() -> None:
    assert fold("9\u00b2") != fold("92")


def test_places_are_the_originals() -> None:
    text = "Die Straße"
    found = folded(text)
    start = found.text.index("strasse")
    span = found.span(start, start + len("strasse"))
    assert span is not None
    assert text[span[0] : span[1]] == "Straße"


def test_no_grapheme_is_cut_in_two() -> None:
    found = folded("Straße")
    assert found.text == "strasse"
    assert found.span(0, 5) is None  # it ends within the sharp s
    assert found.span(5, 7) is None  # it begins within it
    assert found.span(3, 3) is None
    assert found.span(0, 4) == (0, 4)
