"""What people say of neurons: descriptions written by hand, votes, locks and notes, with their history. The user's text always wins.

Kept apart from the atlas, one document a model, so that describing anew, importing or shipping an atlas never touches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from filelock import FileLock

from neurons.core.clock import now
from neurons.core.errors import InvalidInput
from neurons.core.types import ModelRef, NeuronSide
from neurons.storage.documents import NamedDocuments

HAND = "hand"
"""The `source` of a description that a person wrote."""
_SCORES = ("score", "null", "auprc", "auprc_null", "headline_auprc", "headline_auprc_null", "headline_auroc", "headline_auroc_null",
           "headline_detection", "headline_fuzzing", "headline_judged_before")  # fmt: skip
LONGEST = 2000
HISTORY = 50
Field = Literal["description", "vote", "locked", "note"]


@dataclass(frozen=True)
class Change:
    """One past change of one field."""

    when: str
    """ISO time in UTC."""
    field: Field
    before: Any
    after: Any


@dataclass(frozen=True)
class Edit:
    """What a person has set for one neuron side."""

    description: str | None = None
    """None: the atlas's own is shown."""
    vote: int = 0
    """1: right, -1: wrong, 0: no opinion."""
    locked: bool = False
    """The description shown stays as it is, also when the atlas is described anew (its text is kept in `description`)."""
    note: str = ""
    history: tuple[Change, ...] = ()
    """Oldest first; the last 50 are kept."""


class Edits:
    """All edits of one model. Every change is on disk when the call returns; several sessions may edit at once."""

    def __init__(self, name: str) -> None:
        """`name` is the document's: use `Edits.of(ref)`."""
        self._documents = NamedDocuments("descriptions", check=_check)
        self._name = name
        self._by_side = self._load()

    @classmethod
    def of(cls, ref: ModelRef) -> Edits:
        """The edits of a model, by its weights."""
        return cls(ref.weights_hash[:32] or "unknown")

    def __len__(self) -> int:
        return len(self._by_side)

    def get(self, side: NeuronSide) -> Edit:
        """What is set for a side; an empty `Edit` where nothing is."""
        return self._by_side.get(str(side), Edit())

    def sides(self) -> tuple[NeuronSide, ...]:
        """All sides with an edit, sorted."""
        return tuple(sorted(NeuronSide.parse(text) for text in self._by_side))

    def written(self) -> dict[NeuronSide, str]:
        """The descriptions that a person wrote."""
        return {side: text for side in self.sides() if (text := self.get(side).description) is not None}

    def describe(self, side: NeuronSide, text: str | None) -> Edit:
        """Write a description, or take it back with None. Raises `InvalidInput` when it is empty, too long, or the side is locked."""
        if text is not None:
            text = " ".join(text.split())
            if not text or len(text) > LONGEST:
                raise InvalidInput(f"a description needs 1 to {LONGEST} characters", field="description")
        if self.get(side).locked:
            raise InvalidInput(f"the description of {side} is locked; unlock it first", field="description")
        return self._change(side, "description", text)

    def vote(self, side: NeuronSide, vote: int) -> Edit:
        """1, -1 or 0."""
        if vote not in (-1, 0, 1):
            raise InvalidInput(f"a vote is 1, -1 or 0, not {vote}", field="vote")
        return self._change(side, "vote", vote)

    def lock(self, side: NeuronSide, locked: bool, *, shown: str | None = None) -> Edit:
        """Lock or unlock. `shown` is the description as it is shown now: it is kept, so that describing anew does not change it."""
        if locked and self.get(side).description is None and shown:
            self._change(side, "description", shown)
        return self._change(side, "locked", bool(locked))

    def note(self, side: NeuronSide, text: str) -> Edit:
        """Write a note; empty removes it."""
        if len(text) > 10 * LONGEST:
            raise InvalidInput(f"a note has at most {10 * LONGEST} characters", field="note")
        return self._change(side, "note", text.strip())

    def undo(self, side: NeuronSide) -> Edit:
        """Take the last change of a side back. Raises `InvalidInput` when there is none."""
        edit = self.get(side)
        if not edit.history:
            raise InvalidInput(f"nothing was changed for {side}", field="neuron")
        last = edit.history[-1]
        return self._store(side, lambda now: replace(now, **{last.field: last.before}, history=now.history[:-1]))

    def applied(self, table: pd.DataFrame) -> pd.DataFrame:
        """A description table with the user's texts in place: their `source` is "hand", and they have no score of the atlas's."""
        written = self.written()
        if not written:
            return table
        table = table.copy()
        where = pd.MultiIndex.from_frame(table[["layer", "index", "polarity"]])
        rows = where.get_indexer(pd.MultiIndex.from_tuples([(side.layer, side.index, side.polarity) for side in written]))
        texts = np.array(list(written.values()), dtype=object)[rows >= 0]
        rows = rows[rows >= 0]
        changed = rows[table["description"].to_numpy()[rows] != texts]
        table.loc[table.index[rows], "description"] = texts
        if "headline" in table:
            table.loc[table.index[rows], "headline"] = texts
        if "headline_by" in table:
            table.loc[table.index[changed], "headline_by"] = ""
        table.loc[table.index[rows], "source"] = HAND
        table.loc[table.index[changed], [name for name in _SCORES if name in table]] = np.nan
        return table

    def _change(self, side: NeuronSide, field: Field, value: Any) -> Edit:
        def update(edit: Edit) -> Edit:
            before = getattr(edit, field)
            if before == value:
                return edit
            change = Change(now(), field, before, value)
            return replace(edit, **{field: value}, history=(*edit.history, change)[-HISTORY:])

        return self._store(side, update)

    def _store(self, side: NeuronSide, update: Any) -> Edit:
        self._documents.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._documents.folder / ".edits.lock"):
            self._by_side = self._load()
            edit: Edit = update(self.get(side))
            if edit == Edit():
                self._by_side.pop(str(side), None)
            else:
                self._by_side[str(side)] = edit
            self._documents.save(self._name, {key: asdict(value) for key, value in self._by_side.items()})
        return edit

    def _load(self) -> dict[str, Edit]:
        if self._name not in self._documents:
            return {}
        content: Mapping[str, Mapping[str, Any]] = self._documents.load(self._name)
        return {key: _edit(value) for key, value in content.items()}


def _edit(value: Mapping[str, Any]) -> Edit:
    history = tuple(Change(c["when"], c["field"], c["before"], c["after"]) for c in value.get("history", ()))
    description = value.get("description")
    return Edit(
        None if description is None else str(description),
        int(value.get("vote", 0)),
        bool(value.get("locked", False)),
        str(value.get("note", "")),
        history,
    )


def _check(content: Any) -> Any:
    if not isinstance(content, dict):
        raise InvalidInput("edits must be an object of neurons", field="content")
    for key, value in content.items():
        NeuronSide.parse(key)
        try:
            _edit(value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"the edit of {key} is not usable: {error}", field="content") from error
    return content
