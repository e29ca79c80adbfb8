"""Sets of prompts: the rows that can be asked, those that cannot and why, kept by name. `neurons.prompts.files` reads them from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.types import Message
from neurons.prompts.values import Expected, conversation, tags_of
from neurons.storage.documents import NamedDocuments
from neurons.storage.tables import RowError, short


@dataclass(frozen=True)
class PromptRow:
    """One prompt that can be run."""

    row: int
    messages: tuple[Message, ...]
    id: str = ""
    tags: tuple[str, ...] = ()
    expected: Expected | None = None
    """What its answer should hold; None: the file does not say."""

    @property
    def prompt(self) -> str:
        """The last user message."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True)
class PromptSet:
    """Prompts that can be run, and the rows that cannot."""

    rows: tuple[PromptRow, ...]
    errors: tuple[RowError, ...] = ()
    source: str = ""
    """The file's name, or "pasted"."""
    asked: str = ""
    """What of the file is asked, for a reader."""

    @property
    def read(self) -> int:
        """Rows of the file."""
        return len(self.rows) + len(self.errors)

    @property
    def account(self) -> str:
        """What became of the file's rows: "5 rows read, 4 asked, 1 left out (row 3: the prompt is empty)"."""
        count = len(self.rows)
        said = f"{self.read:,} row{'' if self.read == 1 else 's'} read, {count:,} asked, {len(self.errors):,} left out"
        first = "".join(f" ({'the first is ' if len(self.errors) > 1 else ''}row {e.row}: {e.message})" for e in self.errors[:1])
        expected = sum(1 for row in self.rows if row.expected is not None)
        return f"{said}{first}" + (f"; {expected:,} with an expected answer" if expected else "")


# -- saved sets --------------------------------------------------------------------------------------------------------


def to_json(prompts: PromptSet) -> dict[str, Any]:
    """A set as a document or a job keeps it."""
    errors = [{"row": e.row, "message": e.message} for e in prompts.errors]
    return {"source": prompts.source, "asked": prompts.asked, "rows": [_row_json(row) for row in prompts.rows], "errors": errors}


def _row_json(row: PromptRow) -> dict[str, Any]:
    values: dict[str, Any] = {"row": row.row, "id": row.id, "tags": list(row.tags)}
    values["messages"] = [{"role": m.role, "content": m.content} for m in row.messages]
    return values if row.expected is None else {**values, "expected": {row.expected.kind: list(row.expected.texts)}}


def _row(values: Mapping[str, Any]) -> PromptRow:
    messages, answer = conversation(list(values["messages"]))
    if answer is not None:
        raise InvalidInput("a prompt of the set does not end with the user's turn", field="set")
    expected = None
    for kind, texts in dict(values.get("expected") or {}).items():
        if kind not in ("contains", "regex", "equals") or not texts or not all(isinstance(text, str) for text in texts):
            raise InvalidInput("this is not a prompt set: an expected answer is no list of texts", field="set")
        expected = Expected(tuple(texts), kind)
    return PromptRow(int(values["row"]), messages, short(str(values.get("id", ""))), tags_of(list(values.get("tags", []))), expected)


def from_json(data: Any) -> PromptSet:
    """Read a set back; raises `InvalidInput` for anything else."""
    try:
        rows = tuple(_row(values) for values in data["rows"])
        errors = tuple(RowError(int(e["row"]), str(e["message"])) for e in data.get("errors", []))
        return PromptSet(rows, errors, str(data.get("source", "")), str(data.get("asked", "")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"this is not a prompt set: {error}", field="set") from error


def _checked(data: Any) -> Any:
    return to_json(from_json(data))


def saved_sets() -> NamedDocuments:
    """The saved prompt sets, by name."""
    return NamedDocuments("prompts", check=_checked)


def save_set(name: str, prompts: PromptSet, *, replace: bool = False) -> None:
    """Keep a set under a name. Raises `InvalidInput` for an empty set or a taken name."""
    if not prompts.rows:
        raise InvalidInput("the set has no prompt that can be run", field="prompts")
    saved_sets().save(name, to_json(prompts), replace=replace)


def load_set(name: str) -> PromptSet:
    """A saved set. Raises `NotFound`."""
    return from_json(saved_sets().load(name))
