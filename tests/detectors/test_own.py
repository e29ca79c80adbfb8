"""The user's own part of the lexicon: added, put in a shipped one's place, taken out, undone; and never left half written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neurons.core.errors import InvalidFile, InvalidInput, NotFound, StoreError
from neurons.detectors.lexicon import SHIPPED, ConceptEntry, lexicon_folder, load_lexicon
from neurons.detectors.own import OwnLexicon, concept_entry, key_of
from neurons.storage import journal


def entry(key: str = "kites", **changed: Any) -> ConceptEntry:
    base = {
        "key": key,
        "name": key,
        "definition": "Flying kites.",
        "words": ("kite", "string"),
        "sentences": tuple(f"The kite number {n} of {key} rose above the dunes." for n in range(12)),
        "near": tuple(f"The gull number {n} rose above the dunes." for n in range(12)),
    }
    return ConceptEntry.model_validate({**base, **changed})


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in lexicon_folder().glob("*.json")}


def by_key() -> dict[str, tuple[str, str, bool]]:
    return {c.key: (c.field, c.name, c.own) for c in load_lexicon().concepts}


@pytest.mark.usefixtures("home")
def test_a_concept_is_added_changed_and_taken_out_and_each_step_undone() -> None:
    own, shipped = OwnLexicon(), load_lexicon()
    added = own.put("Games of wind", [entry()])
    assert by_key()["kites"] == ("Games of wind", "kites", True)
    assert load_lexicon().fingerprint != shipped.fingerprint
    changed = own.put("Games of wind", [entry(name="paper kites")])
    assert by_key()["kites"][1] == "paper kites"
    assert list(files()) == ["kites.json"]
    gone = own.remove("kites")
    assert "kites" not in by_key()
    own.undo(gone)
    assert by_key()["kites"][1] == "paper kites"
    with pytest.raises(InvalidInput, match="changed again since"):
        own.undo(added)
    own.undo(changed)
    assert by_key()["kites"][1] == "kites"
    own.undo(added)
    assert not files()
    assert load_lexicon().fingerprint == shipped.fingerprint


@pytest.mark.usefixtures("home")
def test_ones_own_stands_in_a_shipped_ones_place_until_it_is_removed() -> None:
    own = OwnLexicon()
    field, name, _ = by_key()["baking"]
    own.put(field, [entry("baking", name="my baking")])
    assert by_key()["baking"] == (field, "my baking", True)
    assert [c.key for c in own.concepts()] == ["baking"]
    own.remove("baking")
    assert by_key()["baking"] == (field, name, False)
    with pytest.raises(NotFound, match="no concept 'baking' of your own"):
        own.remove("baking")


@pytest.mark.usefixtures("home")
def test_a_concept_moves_out_of_a_file_of_several_and_the_others_stay() -> None:
    data = json.dumps({"field": "Wind", "concepts": [entry(key).model_dump() for key in ("kites", "sails", "gusts")]}).encode()
    own = OwnLexicon()
    own.add_file(data, name="wind.json")
    before = files()
    change = own.put("Sea", [entry("sails", definition="Of boats.")])
    assert {key: by_key()[key][0] for key in ("kites", "sails", "gusts")} == {"kites": "Wind", "sails": "Sea", "gusts": "Wind"}
    own.undo(change)
    assert files() == before


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "wind.json is not JSON"),
        ("{}".encode("utf-16"), "wind.json is not UTF-8"),
        (b"[1]", "wind.json: Input should be|wind.json: "),
        (json.dumps({"field": "F", "concepts": []}).encode(), "concepts: needs 1 or more, and has 0"),
        (
            json.dumps({"field": "F", "concepts": [{**entry().model_dump(), "sentences": ["one", "two"]}]}).encode(),
            "concept 'kites': sentences: needs 6 or more, and has 2",
        ),
        (json.dumps({"field": "F", "concepts": [entry(name="baking and bread").model_dump()]}).encode(), "the same name"),
    ],
)
def test_a_file_is_taken_whole_or_refused_by_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(InvalidFile, match=said):
        OwnLexicon().add_file(data, name="wind.json")
    assert not files()


@pytest.mark.usefixtures("home")
def test_a_broken_file_is_named_and_can_be_taken_out_and_back() -> None:
    own = OwnLexicon()
    own.put("Wind", [entry()])
    (lexicon_folder() / "torn.json").write_bytes(b'{"field": "F"')
    with pytest.raises(InvalidFile, match=r"torn\.json"):
        own.put("Wind", [entry("sails")])
    [broken] = own.broken()
    assert broken.name == "torn.json"
    change = own.set_aside("torn.json")
    assert "kites" in by_key()
    own.undo(change)
    assert [one.name for one in own.broken()] == ["torn.json"]
    with pytest.raises(NotFound):
        own.set_aside("../outside.json")


@pytest.mark.usefixtures("home")
def test_a_crash_between_the_renames_is_finished_by_the_next_change(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnLexicon()
    own.add_file(json.dumps({"field": "Wind", "concepts": [entry(key).model_dump() for key in ("kites", "sails")]}).encode(), name="w.json")
    moved: list[Path] = []

    def crash(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(source)
        source.rename(target)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "move", crash)
        with pytest.raises(KeyboardInterrupt):
            own.put("Sea", [entry("sails")])
    OwnLexicon().put("Wind", [entry("gusts")])
    assert {key: by_key()[key][0] for key in ("kites", "sails", "gusts")} == {"kites": "Wind", "sails": "Sea", "gusts": "Wind"}


@pytest.mark.usefixtures("home")
def test_a_disk_that_refuses_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnLexicon()
    own.put("Wind", [entry()])
    before = files()

    def refuse(source: Path, target: Path) -> None:
        if target.parent == lexicon_folder():
            raise OSError(28, "No space left on device", str(target))
        source.rename(target)

    monkeypatch.setattr(journal, "move", refuse)
    with pytest.raises(StoreError, match="nothing was changed"):
        own.put("Sea", [entry(definition="Other.")])
    assert files() == before


def test_typed_text_becomes_an_entry_or_names_the_field() -> None:
    lines = "\n".join(f"Sentence {n} of the wind." for n in range(6))
    made = concept_entry("", "Kites & Gliders", "Things in the wind.", "kite, glider\nstring", f"{lines}\n\n", " near one \n")
    assert (made.key, made.words, len(made.sentences), made.near) == ("kites-gliders", ("kite", "glider", "string"), 6, ("near one",))
    assert key_of("雨").startswith("own-")
    for changed, said in (
        ({"name": ""}, "name"),
        ({"name": "one two three four five"}, "name: has more than four words"),
        ({"words": " , "}, "words: needs 1 or more, and has 0"),
        ({"sentences": "Just one line here."}, "sentences: needs 6 or more, and has 1"),
        ({"sentences": f"{lines}\nSentence 1 of the wind."}, "stands there twice"),
        ({"definition": ""}, "definition"),
    ):
        given = {"key": "", "name": "kites", "definition": "Of wind.", "words": "kite", "sentences": lines, "near": "", **changed}
        with pytest.raises(InvalidInput, match=said):
            concept_entry(**given)


def test_the_shipped_files_are_never_written(home: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in SHIPPED.glob("*.json")}
    own = OwnLexicon()
    own.put("Wind", [entry("baking", name="mine")])
    own.remove("baking")
    assert {path.name: path.stat().st_mtime_ns for path in SHIPPED.glob("*.json")} == before
