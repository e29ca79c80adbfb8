"""What counts as fixed: strings that do and strings that do not, with the reason."""

from __future__ import annotations

import pytest

from neurons.repair.fixed import BROKEN, DENIED, MISSING, TAKEN_BACK, UNWANTED, broken, why_not_fixed
from neurons.statistics.criteria import Criterion, parse_criterion

ANKARA, ISTANBUL = Criterion("Ankara"), Criterion("Istanbul")
JUPITER, MARS = Criterion("Jupiter"), Criterion("Mars")


@pytest.mark.parametrize(
    "answer",
    [
        "Ankara",
        "The capital of Turkey is Ankara.",
        "Ankara is the capital of Turkey. It is not Istanbul, as many think.",
        "It's not Istanbul but Ankara.",
        "The capital is Ankara, rather than Istanbul.",
        "Ankara, not the larger city of Istanbul.",
        "Unlike Istanbul, Ankara is the seat of government.",
        "Ankara is smaller than Istanbul, yet it is the capital.",
        "Istanbul is not the capital; Ankara is.",
        "Ankara isn't just a big city, it is the capital.",
        "Ankara is not only the capital but also the second city.",
        "The capital is not far from the sea: Ankara.",
        "Ankara. It is actually the second largest city of the country.",
        "Ankara, but it is actually quite small.",
        "Ankara. Actually, it is quite cold there.",
        "Ankara, however, was chosen by Atatürk in 1923.",
        "Did you know? The right answer is Ankara.",
        "It is Ankara. No, really, it is Ankara.",
        "Wait, I know: Ankara.",
        "The capital of Turkey is **Ankara**, a city of 5.8 million. No other city is near it.",
        "- Ankara\n- population: 5,800,000\n----------------",
        "Ankara is very, very large.",
        "Ankara! " + "🌍",
        "Ankara ....... the heart of Anatolia",
    ],
)
def test_counts_as_fixed(answer: str) -> None:
    assert why_not_fixed(answer, ANKARA, ISTANBUL) == ""


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", MISSING),
        ("The capital of Turkey is Istanbul.", MISSING),
        ("Ankaragücü is a club.", MISSING),
        ("Istanbul. Ankara is its largest city.", UNWANTED),
        ("The capital of Turkey is Ankara. The capital of Turkey is Istanbul.", UNWANTED),
        ("Ankara, but it's actually Istanbul that's the capital.", UNWANTED),
        ("Ankara or Istanbul.", UNWANTED),
        ("Ankara and Istanbul", UNWANTED),
        ("Ankara is not Istanbul. The capital is Istanbul.", UNWANTED),
        ("Ankara is not the capital.", DENIED),
        ("It is not Ankara.", DENIED),
        ("It isn't Ankara", DENIED),
        ("The capital is Ankara. It is not Ankara.", DENIED),
        ("Many say Ankara. Ankara is wrong.", DENIED),
        ("The capital is Ankara, but it's actually Izmir.", TAKEN_BACK),
        ("Ankara. No, it is Izmir.", TAKEN_BACK),
        ("Ankara. Wait, Izmir.", TAKEN_BACK),
        ("Ankara... sorry, I mean Izmir", TAKEN_BACK),
        ("Ankara. Actually, the capital is Izmir.", TAKEN_BACK),
        ("Ankara. The correct answer is Izmir.", TAKEN_BACK),
        ("Some say Ankara, but that is wrong.", TAKEN_BACK),
        ("Ankara Ankara Ankara Ankara", BROKEN),
        ("Ankara, Ankara, Ankara! It's a city that's both", BROKEN),
        ("Ankara. It is a city of a city of a city of a city of", BROKEN),
        ("Ankara!!!!!!!!!!!!", BROKEN),
        ("Ankara \ufffd\ufffd and more", BROKEN),
        ("Ankara WONWONWONWONWON", BROKEN),
        ("Ankara\x00\x01", BROKEN),
    ],
)
def test_does_not_count_as_fixed(answer: str, why: str) -> None:
    assert why_not_fixed(answer, ANKARA, ISTANBUL) == why


@pytest.mark.parametrize(
    ("wanted", "unwanted", "answer", "why"),
    [
        ("Jupiter", None, "The largest planet is Jupiter, but it's actually Saturn that's the largest.", TAKEN_BACK),
        ("Jupiter", None, "The largest planet is Jupiter, and it is actually a gas giant.", ""),
        ("Jupiter", "Saturn", "Jupiter is larger than Saturn.", ""),
        ("9.9", "9.11", "9.9 is bigger than 9.11.", ""),
        ("9.9", "9.11", "9.11 is bigger than 9.9.", MISSING),
        ("9.9", "9.11", "9.9 is bigger. 9.11 is bigger.", UNWANTED),
        ("7", None, "The answer is 7, no, it is 8.", TAKEN_BACK),
        ("7", None, "The answer is 7, no doubt about it.", ""),
        ("mice", "mouses", "mice", ""),
        ("mice", "mouses", "mice or mouses", UNWANTED),
        ("New York", "York", "It is New York.", ""),
        ("东京", "大阪", "日本的首都是东京。", ""),
        ("东京", "大阪", "东京还是大阪", UNWANTED),
        ("Bora Bora Bora", None, "Bora Bora Bora", ""),
        ("Yes", "No", "Yes, that is right.", ""),
        ("Yes", "No", "Yes. No.", UNWANTED),
    ],
)
def test_other_wishes(wanted: str, unwanted: str | None, answer: str, why: str) -> None:
    assert why_not_fixed(answer, Criterion(wanted), None if unwanted is None else Criterion(unwanted)) == why


def test_every_kind_of_wish() -> None:
    wish = parse_criterion({"regex": r"\b(?:is|are)\s+9\.9(?!\d)"})
    assert why_not_fixed("The bigger of 9.9 and 9.11 is 9.9 and", wish) == ""
    assert why_not_fixed("The bigger one is 9.9. No, it is 9.11", wish) == TAKEN_BACK
    assert why_not_fixed("Ankara.", parse_criterion({"equals": "Ankara"}), ISTANBUL) == ""
    assert why_not_fixed("Ankarax", parse_criterion({"token": "Ankara"})) == ""
    assert wish.spans("is 9.9, are 9.9") == [(0, 6), (8, 15)]


def test_broken_text_is_a_repeat_at_once() -> None:
    assert not broken("Boil an egg:\n\nBoil an egg:")
    assert not broken("one two three, one two three, and so on")
    assert broken("a sweet and a sweet, a sweet and a sweet, a sweet and a sweet")
    assert not broken("Hola in Spanish! 😊🌍\ufffd")
