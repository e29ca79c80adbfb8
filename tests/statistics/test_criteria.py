"""What counts as met: words of their own in every script, Unicode form and case, and where in the answer it stands."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from neurons.core.errors import InvalidInput
from neurons.prompts.values import VERDICTS, Expected
from neurons.statistics.comparison import expected_criterion
from neurons.statistics.criteria import Criterion, parse_criterion


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("wanted", "answer", "found"),
    [
        ("东京", "日本的首都是东京。", "东京"),
        ("東京", "日本の首都は東京です。", "東京"),
        ("서울", "한국의 수도는 서울입니다.", "서울"),
        ("한국", nfd("한국어"), nfd("한국")),
        ("กรุงเทพ", "เมืองหลวงคือกรุงเทพมหานคร", "กรุงเทพ"),
        ("Tokyo", "我爱Tokyo的", "Tokyo"),
        ("tokyo", "ＴＯＫＹＯ", "ＴＯＫＹＯ"),
        ("2024", "在2024年", "2024"),
        ("café", nfd("Le Café noir"), nfd("Café")),
        (nfd("café"), "LE CAFÉ", "CAFÉ"),
        ("STRASSE", "die Straße", "Straße"),
        ("istanbul", "İSTANBUL", "İSTANBUL"),
        ("ısparta", "ISPARTA", "ISPARTA"),
        ("ΟΔΟΣ", "η οδος", "οδος"),
        ("New York", "in new\n york.", "new\n york"),
        ("C++", "I like C++.", "C++"),
        ("9.1", "It is 9.1.", "9.1"),
        ("서울", "남서울", None),
        ("cafe", nfd("café"), None),
        ("mice", "micelle", None),
        ("9.1", "9.11", None),
        ("5", "x = -5", None),
        ("5", "−5 degrees", None),
        ("-5", "It is −5.", "−5"),
        ("-4", "pages 3-4", None),
        (".5", "2.5", None),
        ("1000", "It is 1,000.", "1,000"),
        ("1,234,567", "1234567 people", "1234567"),
        ("$12000", "$12,000", "$12,000"),
        ("1000", "1,0000", None),
        ("1000", "11,000", None),
        ("1000", "1,000,000", None),
        ("1000.5", "1,000.5", "1,000.5"),
        ("0070", "0,070", None),
        ("5", "3-5", "5"),
        ("2", "1/2 cup", None),
        ("1", "1/2 cup", None),
        ("1/2", "1/2 cup", "1/2"),
        ("Paris", "-Paris", "Paris"),
        ("5", "5,000", None),
        ("92", "9\u00b2", None),
        ("fi", "\ufb01n", None),
        ("Paris", "It is _Paris_.", "Paris"),
        ("New York", "__New York__", "New York"),
        ("paris", "new_paris_hotel", None),
        ("Côte d'Ivoire", "in Côte d\u2019Ivoire,", "Côte d\u2019Ivoire"),
        ("Port-au-Prince", "Port\u2011au\u2011Prince", "Port\u2011au\u2011Prince"),
        ("-5", "The answer is \u22125.", "\u22125"),
        ("office", "the o\ufb03ce", "o\ufb03ce"),
        ("الرياض", "هي الرِّيَاضُ.", "الرِّيَاضُ"),
        ("محمد", "اسمه محـــمد", "محـــمد"),
        ("42", "الجواب ٤٢", "٤٢"),
        ("42", "उत्तर ४२ है", "४२"),
        ("תל אביב", "תל\u200f אביב", "תל\u200f אביב"),
        ("שלום", "שָׁלוֹם", "שָׁלוֹם"),
        ("می\u200cخواهم", "می\u200cخواهم", "می\u200cخواهم"),
        ("❤", "I ❤\ufe0f it", "❤\ufe0f"),
        ("IĞDIR", "Iğdır'da", "Iğdır"),
        ("4", "42", None),
        ("٤", "٤٢", None),
        ("ﻻ", "لا شيء", "لا"),
    ],
)
def test_contains(wanted: str, answer: str, found: str | None) -> None:
    span = Criterion(wanted).span(answer)
    assert (None if span is None else answer[slice(*span)]) == found
    assert Criterion(wanted).met(answer) == (found is not None)


def test_any_of_several_texts_and_its_json() -> None:
    several = Criterion("Lima", others=("Lima, Peru", "City of Kings"))
    assert several.span("It is the city of kings, Lima.") == (10, 23)
    assert parse_criterion(several.to_json()) == several
    assert parse_criterion(Criterion("a", "equals").to_json()) == Criterion("a", "equals")
    assert Criterion("lima", "equals").span(" LIMA. ") == (0, 7)
    assert all(Criterion("दिल्ली", "equals").met(f"दिल्ली{stop}") for stop in (".", "।", "॥"))
    assert Criterion("लखनऊ", "equals").met("लखनऊ۔")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("Yes, there is no doubt.", "yes"),
        ("**Yes**", "yes"),
        ("It is true that no fish flies.", "yes"),
        ("No. It is true that some think so.", "no"),
        ("That's not true: yes, some say so.", "no"),
        ("FALSE", "no"),
        ("Nobody knows; yesterday nothing was said.", ""),
    ],
)
def test_the_first_word_of_a_verdict_counts(answer: str, says: str) -> None:
    met = {word: expected_criterion(Expected(words, "verdict")).met(answer) for word, words in zip(("yes", "no"), VERDICTS, strict=True)}
    assert met == {"yes": says == "yes", "no": says == "no"}


@pytest.mark.parametrize(
    ("value", "kind", "texts"),
    [
        ("Lima", "contains", ("Lima",)),
        (12, "contains", ("12",)),
        ({"equals": "Lima"}, "equals", ("Lima",)),
        ({"regex": "[Ll]ima"}, "regex", ("[Ll]ima",)),
        ({"token": " Lima"}, "token", (" Lima",)),
        ({"contains": ["Lima", "Cusco"]}, "contains", ("Lima", "Cusco")),
    ],
)
def test_a_criterion_is_read_as_it_is_written(value: Any, kind: str, texts: tuple[str, ...]) -> None:
    found = parse_criterion(value)
    assert (found.kind, found.texts) == (kind, texts)
    assert parse_criterion(found.to_json()) == found


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "wanted is empty"),
        ({"equals": " "}, "wanted is empty"),
        ({"contains": ["Lima", ""]}, "wanted is empty"),
        ("x" * 2001, "use at most 2000"),
        (True, "write a text"),
        (None, "write a text"),
        ({}, "write a text"),
        ({"regex": "a", "equals": "b"}, "write a text"),
        ({"like": "a"}, "write a text"),
        ({"contains": []}, "write a text"),
        ({"contains": ["Lima", 3]}, "write a text"),
        ({"regex": "("}, "is not a regular expression"),
        ({"regex": "a*"}, "matches the empty answer"),
    ],
)
def test_what_is_no_criterion_names_its_field(value: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as told:
        parse_criterion(value)
    assert told.value.field == "wanted"


def test_each_kind_finds_its_places() -> None:
    answer = "Lima, not Limassol. LIMA!"
    assert Criterion("lima").spans(answer) == [(0, 4), (20, 24)]
    assert Criterion("Lima", "token").spans(answer) == [(0, 4), (10, 14)]
    assert Criterion("[Ll]ima", "regex").spans(answer) == [(0, 4), (10, 14)]
    assert Criterion("Lima", "equals").spans(answer) == []
    assert Criterion("Lima", "equals").met("Lima.")
    assert Criterion("Cusco", others=("Lima",)).find(answer) == 0
    assert Criterion("Cusco").find(answer) is None
    assert str(Criterion("a", "regex", ("b",))) == "/a/ or /b/"
