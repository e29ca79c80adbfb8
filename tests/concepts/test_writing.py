"""What a neuron writes against what was searched for, on lines in the forms that atlases have and with the real embedder."""

from __future__ import annotations

import numpy as np
import pytest

from neurons.atlas.store import SHIPPED, open_folder
from neurons.concepts.embed import embed_query, embedder
from neurons.concepts.search import SearchIndex, match_note
from neurons.concepts.writing import leanings, words_of


@pytest.mark.parametrize(
    ("line", "more", "less"),
    [
        ('makes "third", "second" more likely', ("third", "second"), ()),
        ('makes "medical", "patient" less likely', (), ("medical", "patient")),
        ('makes "can", "my" more likely and "porter", "porters" less likely', ("can", "my"), ("porter", "porters")),
        ('promotes "record", "records"; suppresses "music"', ("record", "records"), ("music",)),
        ("", (), ()),
    ],
)
def test_both_forms_of_a_line_are_read(line: str, more: tuple[str, ...], less: tuple[str, ...]) -> None:
    assert words_of(line) == (more, less)


def test_words_near_the_query_say_for_or_against() -> None:
    lines = [
        'makes "medical", "patient", "patients" less likely',
        'promotes "patients", "patient"',
        'makes "unit", "units" more likely',
        'promotes "record", "records"; suppresses "illness"',
        'makes ",", "." less likely',
        "",
    ]
    assert leanings(lines, embed_query("illness"), embedder().encode) == [-1, 1, 0, -1, 0, 0]
    assert leanings(["", 'promotes "of"'], np.zeros(384, dtype=np.float32), lambda texts: np.zeros((len(texts), 384), np.float32)) == [0, 0]


@pytest.fixture(scope="module")
def shipped() -> SearchIndex:
    return SearchIndex(open_folder(SHIPPED))


def test_what_works_against_the_query_comes_last(shipped: SearchIndex) -> None:
    hits = shipped.search("illness", top=20)
    leaning = [hit.leaning for hit in hits]
    assert leaning[0] >= 0
    assert leaning == sorted(leaning, key=lambda one: one < 0)
    against = [hit for hit in hits if hit.leaning < 0]
    assert any('"medical"' in hit.writes for hit in against)
    assert all("less likely" in hit.writes or "suppresses" in hit.writes for hit in against)
    first = [hit.similarity for hit in hits if hit.leaning >= 0]
    assert first == sorted(first, reverse=True)


def test_a_poor_match_is_said(shipped: SearchIndex) -> None:
    def note(text: str) -> str:
        return match_note(text, max((hit.reading for hit in shipped.search(text, top=20)), default=None))

    assert note("court and law") == ""
    assert note("anger") == "no neuron found is clearly about “anger”: the best match is 0.16, a clear one has 0.20 or more"
    assert "clearly about" in note("asdfgh")
    assert match_note("x", None) == "no neuron was found for “x”"
