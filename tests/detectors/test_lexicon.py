"""The lexicon: the shipped one is whole, mistakes are named by concept and field, the user's own files take their place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from neurons.core.errors import InvalidFile
from neurons.detectors.lexicon import SHIPPED, check_file, held_part, lexicon_folder, load_lexicon, read_field, training_part


def entry(**changed: Any) -> dict[str, Any]:
    base = {
        "key": "kites",
        "name": "kites",
        "definition": "Flying kites.",
        "words": ["kite", "string"],
        "sentences": [f"The kite number {n} rose above the dunes." for n in range(12)],
        "near": [f"The gull number {n} rose above the dunes." for n in range(12)],
    }
    return {**base, **changed}


def write(path: Path, *entries: dict[str, Any], field: str = "Games of wind") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"field": field, "concepts": list(entries)}), encoding="utf-8")
    return path


def test_the_shipped_lexicon_is_as_large_as_promised_and_small_on_disk() -> None:
    lexicon = load_lexicon([SHIPPED])
    assert len(lexicon.concepts) >= 600
    assert len(lexicon.fields) >= 20
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 6_000_000
    assert min(len(c.entry.sentences) for c in lexicon.concepts) >= 12
    assert min(len(c.entry.near) for c in lexicon.concepts) >= 12
    for path in SHIPPED.glob("*.json"):
        assert check_file(path)[1:] == ([], []), path


def test_hardly_a_sentence_stands_for_two_concepts() -> None:
    texts = Counter(text.casefold() for c in load_lexicon([SHIPPED]).concepts for text in c.entry.sentences)
    twice = [text for text, count in texts.items() if count > 1]
    assert twice == ["forgive me, father, for i have sinned."], "one that is an apology and a confession; no more"


def test_every_third_is_held_out() -> None:
    texts = [str(n) for n in range(8)]
    assert held_part(texts) == ("2", "5")
    assert training_part(texts) == ("0", "1", "3", "4", "6", "7")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "the art of flying kites"}, "concept 'kites': name: has more than four words"),
        ({"sentences": ["Only one."]}, "concept 'kites': sentences: needs 6 or more, and has 1"),
        ({"sentences": ["The same.", "THE SAME."] * 5}, "concept 'kites': 'the same.' stands there twice"),
        ({"colour": "red"}, "concept 'kites': colour: is not known here"),
        ({"key": "Kites!"}, "concept 'Kites!': key: String should match pattern"),
        ({"near": ["x" * 500]}, "concept 'kites': near 1: String should have at most 400 characters"),
    ],
)
def test_a_mistake_is_named_by_concept_and_field(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "own.json", entry(**changed))
    with pytest.raises(InvalidFile) as error:
        read_field(path)
    assert said in str(error.value)
    assert any(said in problem for problem in check_file(path)[1])


def test_files_that_are_no_lexicon_are_refused(tmp_path: Path) -> None:
    for content in ("", "{", "[]", "null", '{"field": "x"}', '{"field": "x", "concepts": ["a"]}', "[" * 5000):
        path = tmp_path / "bad.json"
        path.write_text(content, encoding="utf-8")
        assert check_file(path)[1]
        with pytest.raises(InvalidFile):
            read_field(path)
    assert check_file(tmp_path / "none.json")[1]


def test_weak_entries_are_allowed_and_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "own.json", entry(sentences=[f"Kite {n} is up" for n in range(7)], near=[]))
    given, problems, notes = check_file(path)
    assert given is not None
    assert not problems
    assert [note.split(":")[0] for note in notes] == ["kites"] * 2
    assert "7 sentences" in notes[0]


def test_own_concepts_are_added_and_take_the_shipped_ones_place(home: Path) -> None:
    shipped = load_lexicon()
    write(lexicon_folder() / "mine.json", entry(), entry(key="baking", name="my baking"))
    mixed = load_lexicon()
    assert len(mixed.concepts) == len(shipped.concepts) + 1
    assert {c.key: c.own for c in mixed.concepts}["baking"]
    assert {c.key: c.name for c in mixed.concepts}["baking"] == "my baking"
    assert mixed.fingerprint != shipped.fingerprint
    write(lexicon_folder() / "more.json", entry())
    with pytest.raises(InvalidFile, match=r"stands in mine\.json too"):
        load_lexicon()
    write(lexicon_folder() / "more.json", entry(key="other", name="Kites"))
    with pytest.raises(InvalidFile, match="same name"):
        load_lexicon()
