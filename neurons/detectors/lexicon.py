"""The lexicon: named concepts in fields, each with sentences about it and near misses. Files in, checked entries out.

The shipped files stand in `data/lexicon`; the user's own in <home>/lexicon, where an entry of a known key takes the shipped one's place.
Of the sentences every third is held out: no detector is fitted on it, and every figure is measured on it. docs/lexicon.md has the format.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from neurons.core.boundary import said_of
from neurons.core.errors import InvalidFile
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.core.outside_json import parse_json, read_json_file

SHIPPED = Path(__file__).parent / "data" / "lexicon"
HELD_OUT = 3
"""Every third sentence is held out."""
ENOUGH = 12
"""Sentences, and near misses, below which a concept's figures are coarse."""
_MOST_BYTES = 20_000_000


def _words(name: str) -> str:
    if len(name.split()) > 4:
        raise ValueError("has more than four words")
    return name


_Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=400)]
_Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
_Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=60)]
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60), AfterValidator(_words)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConceptEntry(_Model):
    """One concept as a file holds it."""

    key: _Key
    """Its identity: lower case, unique in the lexicon."""
    name: _Name
    """What a person would call it: at most four words."""
    definition: _Line
    words: Annotated[tuple[_Word, ...], Field(min_length=1, max_length=30)]
    """Typical words, most specific first."""
    sentences: Annotated[tuple[_Line, ...], Field(min_length=6, max_length=500)]
    """About the concept."""
    near: Annotated[tuple[_Line, ...], Field(max_length=500)] = ()
    """Not about it, but of the same field or with the same words."""

    @model_validator(mode="after")
    def _no_repeats(self) -> ConceptEntry:
        counts = Counter(text.casefold() for text in (*self.sentences, *self.near))
        repeated = [text for text, count in counts.items() if count > 1]
        if repeated:
            raise ValueError(f"{repeated[0][:60]!r} stands there twice")
        return self

    @property
    def train(self) -> tuple[str, ...]:
        """The sentences that detectors are fitted on."""
        return training_part(self.sentences)

    @property
    def held(self) -> tuple[str, ...]:
        """The sentences kept back."""
        return held_part(self.sentences)


class FieldFile(_Model):
    """One file: a field and its concepts."""

    field: _Name
    concepts: Annotated[tuple[ConceptEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> FieldFile:
        for what in ("key", "name"):
            counts = Counter(getattr(concept, what) for concept in self.concepts)
            repeated = [text for text, count in counts.items() if count > 1]
            if repeated:
                raise ValueError(f"two concepts have the {what} {repeated[0]!r}")
        return self


@dataclass(frozen=True)
class LexiconConcept:
    """A concept of the whole lexicon."""

    field: str
    entry: ConceptEntry
    own: bool = False
    """From the user's own files."""

    @property
    def key(self) -> str:
        return self.entry.key

    @property
    def name(self) -> str:
        return self.entry.name


@dataclass(frozen=True)
class Lexicon:
    """Named concepts by field. Order: fields as their files stand, concepts as they stand in them."""

    concepts: tuple[LexiconConcept, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(concept.field for concept in self.concepts))

    @property
    def fingerprint(self) -> str:
        """Changes with any text that detectors are fitted or measured on."""
        content = [
            [c.field, c.key, c.name, c.entry.definition, list(c.entry.words), list(c.entry.sentences), list(c.entry.near)]
            for c in self.concepts
        ]
        return hashlib.sha256(json_text(content).encode()).hexdigest()[:32]


def training_part(texts: Sequence[str]) -> tuple[str, ...]:
    """Two of three, in order."""
    return tuple(text for number, text in enumerate(texts) if number % HELD_OUT != HELD_OUT - 1)


def held_part(texts: Sequence[str]) -> tuple[str, ...]:
    """Every third."""
    return tuple(texts[HELD_OUT - 1 :: HELD_OUT])


def lexicon_folder() -> Path:
    """Where the user's own files go."""
    return subfolder("lexicon")


def load_lexicon(folders: Iterable[Path] | None = None) -> Lexicon:
    """The shipped lexicon with the user's own files over it (or the files of `folders`, later ones over earlier ones).

    Raises `InvalidFile` naming the file, the concept and the field that is wrong, or two concepts of one name.
    """
    places = (SHIPPED, lexicon_folder()) if folders is None else folders
    return lexicon_of([[(path, read_field(path)) for path in sorted(folder.glob("*.json"))] for folder in places])


def lexicon_of(folders: Iterable[Sequence[tuple[Path, FieldFile]]]) -> Lexicon:
    """The lexicon that the files of some folders amount to, later folders over earlier ones. Raises `InvalidFile` as `load_lexicon`."""
    found: dict[str, LexiconConcept] = {}
    for files in folders:
        mine: dict[str, Path] = {}
        for path, given in files:
            for entry in given.concepts:
                if entry.key in mine:
                    raise InvalidFile(f"{path}: the key {entry.key!r} stands in {mine[entry.key].name} too; rename one", field="lexicon")
                mine[entry.key] = path
                found[entry.key] = LexiconConcept(given.field, entry, own=path.parent != SHIPPED)
    counts = Counter(concept.name.casefold() for concept in found.values())
    for concept in found.values():
        if counts[concept.name.casefold()] > 1:
            keys = [other.key for other in found.values() if other.name.casefold() == concept.name.casefold()]
            raise InvalidFile(f"the concepts {' and '.join(keys)} have the same name {concept.name!r}; rename one", field="lexicon")
    ordered = sorted(found.values(), key=lambda concept: concept.field)
    return Lexicon(tuple(ordered))


def read_field(path: Path) -> FieldFile:
    """One file, checked. Raises `InvalidFile` with the concept and the field that is wrong and what it should be."""
    return _field_of(read_json_file(path, field="lexicon", most=_MOST_BYTES), path.name)


def parse_field(data: bytes, *, what: str) -> FieldFile:
    """The same of a file's bytes; `what` is what errors name."""
    return _field_of(parse_json(data, what=what, field="lexicon"), what)


def _field_of(data: Any, what: str) -> FieldFile:
    try:
        return FieldFile.model_validate(data)
    except ValidationError as error:
        problems = [_problem(data, one) for one in error.errors()]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InvalidFile(f"{what}: {problems[0]}{more}", field="lexicon") from error


def check_file(path: Path) -> tuple[FieldFile | None, list[str], list[str]]:
    """(the file where it can be used, every problem, what is allowed but weak)."""
    try:
        data = read_json_file(path, field="lexicon", most=_MOST_BYTES)
    except InvalidFile as error:
        return None, [f"no readable JSON file: {error}"], []
    try:
        given = FieldFile.model_validate(data)
    except ValidationError as error:
        return None, [_problem(data, one) for one in error.errors()], []
    return given, [], [note for entry in given.concepts for note in notes_on(entry)]


def notes_on(entry: ConceptEntry) -> list[str]:
    """What is allowed but weak in a concept's texts."""
    notes = []
    if len(entry.sentences) < ENOUGH:
        notes.append(f"{entry.key}: {len(entry.sentences)} sentences; {ENOUGH} or more give surer figures")
    if len(entry.near) < ENOUGH:
        notes.append(f"{entry.key}: {len(entry.near)} near misses; {ENOUGH} or more make it sharper")
    starts = Counter(" ".join(text.split()[:2]).casefold() for text in entry.sentences)
    often, count = starts.most_common(1)[0]
    if count > max(3, len(entry.sentences) // 4):
        notes.append(f"{entry.key}: {count} sentences begin with {often!r}; vary them, or the detector learns that")
    return notes


def _problem(data: Any, error: Any) -> str:
    """A validation error in words: which concept, which field, what is wrong."""
    place = list(error["loc"])
    named = ""
    if len(place) > 1 and place[0] == "concepts" and isinstance(place[1], int):
        concept = data["concepts"][place[1]]
        key = concept.get("key") if isinstance(concept, dict) else None
        named = f"concept {key!r}: " if isinstance(key, str) else f"concept number {place[1] + 1}: "
        place = place[2:]
    where = " ".join(str(part + 1) if isinstance(part, int) else str(part) for part in place)
    message = said_of(error)
    return f"{named}{where}: {message}" if where else f"{named}{message}"
