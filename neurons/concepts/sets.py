"""Concepts: named sets of neuron sides, combined like sets, kept on disk, turned into steers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.names import MAX_NAME
from neurons.core.outside_json import read_json_file
from neurons.core.steers import Mode, Steer, TokenScope
from neurons.core.types import ModelRef, NeuronSide
from neurons.storage.documents import Entry, NamedDocuments

FORMAT = "neuronscope-concept"
MOST = 100_000
ALL_TOKENS = TokenScope()


@dataclass(frozen=True)
class Concept:
    """A set of sides and how it came about. Order is kept (best first); no side twice."""

    sides: tuple[NeuronSide, ...]
    origin: str = ""
    """A query, "cluster 3 of trace ...", "hand-picked", "union of a, b"..."""
    note: str = ""
    model: str = ""
    """The name of the model whose neurons these are."""
    weights_hash: str = ""
    similarity: Mapping[str, float] = field(default_factory=dict)
    """Where known: how well each side fits, by its text form."""

    @classmethod
    def of(cls, sides: Iterable[NeuronSide], *, ref: ModelRef | None = None, origin: str = "", note: str = "") -> Concept:
        """A concept from any sides."""
        unique = tuple(dict.fromkeys(sides))
        if len(unique) > MOST:
            raise InvalidInput(f"a concept holds at most {MOST:,} neurons, not {len(unique):,}", field="neurons")
        return cls(unique, origin, note, ref.name if ref else "", ref.weights_hash if ref else "")

    def union(self, other: Concept) -> Concept:
        """Sides of either."""
        return self._with((*self.sides, *other.sides), "union", other)

    def intersection(self, other: Concept) -> Concept:
        """Sides of both, in this one's order."""
        there = set(other.sides)
        return self._with([side for side in self.sides if side in there], "intersection", other)

    def difference(self, other: Concept) -> Concept:
        """Sides of this one that the other lacks."""
        there = set(other.sides)
        return self._with([side for side in self.sides if side not in there], "difference", other)

    def _with(self, sides: Iterable[NeuronSide], operation: str, other: Concept) -> Concept:
        if self.weights_hash and other.weights_hash and self.weights_hash != other.weights_hash:
            raise InvalidInput(f"these concepts belong to different models ({self.model} and {other.model})", field="concept")
        kept = tuple(dict.fromkeys(sides))
        names = [concept.origin or f"{len(concept.sides)} neurons" for concept in (self, other)]
        owner = other if other.weights_hash and not self.weights_hash else self  # sides of a model go with nothing but that model
        return Concept(kept, f"{operation} of {names[0]} and {names[1]}", "", owner.model, owner.weights_hash)

    def to_json(self) -> dict[str, Any]:
        """As it is stored and exported."""
        return {
            "format": FORMAT,
            "version": 1,
            "origin": self.origin,
            "note": self.note,
            "model": {"name": self.model, "weights_hash": self.weights_hash},
            "neurons": [str(side) for side in self.sides],
            "similarity": {key: round(float(value), 4) for key, value in self.similarity.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> Concept:
        """Read what `to_json` wrote, or a bare list of neurons. Raises `InvalidInput` (or its kin) naming what is wrong."""
        if isinstance(value, list):
            value = {"neurons": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("neurons"), list):
            raise InvalidInput('a concept is {"neurons": ["17:803+", ...]} or a list of neurons', field="neurons")
        model = value.get("model") or {}
        if not isinstance(model, Mapping):
            raise InvalidInput('"model" must be an object with name and weights_hash', field="model")
        similarity = value.get("similarity") or {}
        if not isinstance(similarity, Mapping) or not all(isinstance(v, int | float) and abs(v) < 1e9 for v in similarity.values()):
            raise InvalidInput('"similarity" must map neurons to numbers', field="similarity")
        concept = cls.of(
            (NeuronSide.parse(str(text)) for text in value["neurons"]), origin=str(value.get("origin", "")), note=str(value.get("note", ""))
        )
        return replace(
            concept,
            model=str(model.get("name", "")),
            weights_hash=str(model.get("weights_hash", "")),
            similarity={str(key): float(number) for key, number in similarity.items()},
        )

    def steer(
        self, *, strength: float = 0.0, mode: Mode = "set", tokens: TokenScope = ALL_TOKENS, most: int | None = None, name: str = ""
    ) -> Steer:
        """The steer that sets (or scales, or adds to) these sides; the values come from each neuron's own quantile when it runs."""
        return Steer(self.sides[:most], mode=mode, strength=strength, tokens=tokens, name=name or self.origin).check()


class SavedConcepts:
    """The user's saved concepts."""

    def __init__(self) -> None:
        self._documents = NamedDocuments("concepts", check=lambda content: Concept.from_json(content).to_json())

    def save(self, name: str, concept: Concept, *, replace: bool = False) -> Entry:
        """Keep a concept. Raises `InvalidInput` when it is empty, or the name is taken and `replace` is off."""
        if not concept.sides:
            raise InvalidInput("this concept has no neurons, so there is nothing to save", field="neurons")
        return self._documents.save(name, concept.to_json(), replace=replace)

    def load(self, name: str) -> Concept:
        """Raises `NotFound`."""
        return Concept.from_json(self._documents.load(name))

    def list(self) -> tuple[Entry, ...]:
        """All saved concepts by name; `content` is as `Concept.to_json` gives it."""
        return self._documents.list()

    def rename(self, name: str, new_name: str) -> Entry:
        """Raises `InvalidInput` when the new name is taken."""
        return self._documents.rename(name, new_name)

    def delete(self, name: str) -> str:
        """Returns the token that `restore` takes."""
        return self._documents.delete(name)

    def restore(self, token: str) -> Entry:
        """Put a deleted concept back."""
        return self._documents.restore(token)

    def note(self, name: str, text: str) -> Entry:
        """Write a concept's note."""
        return self._documents.save(name, replace(self.load(name), note=text.strip()).to_json())

    def __contains__(self, name: str) -> bool:
        return name in self._documents


def named_json(name: str, concept: Concept) -> dict[str, Any]:
    """What an exported concept's file holds."""
    return {"name": name, **concept.to_json()}


def read_named(value: Any, file: str) -> tuple[str, Concept]:
    """A concept that was exported, and its name: the one in `value`, else that of the file. Raises `InvalidInput`."""
    concept = Concept.from_json(value)
    named = value.get("name") if isinstance(value, Mapping) else None
    name = " ".join((named if isinstance(named, str) else "").split()) or Path(file).stem
    return name[:MAX_NAME], concept


def read_concept(path: Path) -> tuple[str, Concept]:
    """A concept and its name from a JSON file. Raises `InvalidFile` when it is no such file."""
    return read_named(read_json_file(path), path.name)
