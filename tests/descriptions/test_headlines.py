"""Headlines: how chosen things are said, and what is said of a table that has none."""

from __future__ import annotations

import pandas as pd
import pytest

from neurons.descriptions.headlines import MAX_WORDS, Named, Trait, count_words, headline, said, unclear
from neurons.descriptions.old_headlines import headlines_of, of_description


def named(kind: str, value: str, places: int = 5, *, inside: int | None = None, qualifier: Trait | None = None, shown: str = "") -> Named:
    return Named(Trait(kind, value), qualifier, places, inside, shown)


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        ([named("lemma", "study", shown="studies"), named("word", "research", 3)], '"studies", "research"'),
        ([named("class", "number", 12), named("class", "year", 3)], "numbers, years"),
        ([named("class", "number", 12), named("word", "19", 9, inside=0)], 'numbers, mostly "19"'),
        ([named("meaning", "police", 12), named("word", "law", 3, inside=0)], 'police such as "law"'),
        ([named("class", "comma", 12, qualifier=Trait("domain", "code"))], "commas in code"),
        ([named("after", "to the extent", 9)], 'after "to the extent"'),
        ([named("after", "a", 9), named("after", "an", 4)], 'after "a" or "an"'),
        ([named("word", "of", 9), named("phrase", "piece of", 8)], '"piece of"'),
        ([named("word", "of", 20), named("phrase", "piece of", 3)], '"of"'),
        ([named("piece", "il", 9), named("piece", "yp", 4)], 'word pieces "il", "yp"'),
        ([named("word", "x", 3), named("place", "sentence end", 9)], 'ends of sentences, "x"'),
        ([named("word", "\n", 9)], "line breaks"),
        ([named("word", '"', 9)], "'\"'"),
        ([], ""),
    ],
)
def test_what_was_chosen_is_said_in_plain_words(things: list[Named], expected: str) -> None:
    assert headline(things) == expected


def test_a_headline_has_at_most_eight_words_and_drops_what_came_last() -> None:
    things = [named("topic", "problems and solutions", 9), named("near", "a b", 5), named("domain", "docs", 4), named("word", "so", 3)]
    text = headline(things)
    assert count_words(text) <= MAX_WORDS
    assert text.startswith("texts about problems and solutions")
    assert '"so"' not in text


def test_nobody_says_broken_characters_or_rare_endings() -> None:
    assert said(Trait("word", "�")) is None
    assert said(Trait("class", "ends:en")) is None
    assert said(Trait("class", "ends:ing")) == "words in -ing"


def test_an_unclear_side_names_what_stands_there() -> None:
    assert unclear(["wind", "hour"]) == 'unclear: around "wind", "hour"'
    assert unclear([]) == "unclear"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('strongly numbers, "but"; white space, ".", "it"', 'numbers, "but", "."'),
        ('"than", "about"; weakly numbers, after "of"/"in"; not commas', '"than", "about", numbers'),
        ("unclear", "unclear"),
        ("", "unclear"),
        ("fires on court and law", "fires on court and law"),
        ("a long sentence that somebody wrote by hand about many different things", "none"),
    ],
)
def test_an_old_table_gets_its_headlines_from_its_lines(line: str, expected: str) -> None:
    assert of_description(line) == expected


def test_a_tables_own_headlines_come_first() -> None:
    table = pd.DataFrame({"description": ["numbers", "numbers"], "headline": ["years", None]})
    assert headlines_of(table).tolist() == ["years", "numbers"]
    assert headlines_of(table.drop(columns="headline")).tolist() == ["numbers", "numbers"]
