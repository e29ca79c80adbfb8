"""Sets of prompts: the rows that can be asked, those that cannot and why, kept by name. `neurons.prompts.files` reads them from files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from neurons.core.boundary import checked
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
        none = (
            "; none with an expected answer that is a text, a number, true or false" if "; expected is" in self.asked and self.rows else ""
        )
        return f"{said}{first}" + (f"; {expected:,} with an expected answer" if expected else none)


# -- saved sets --------------------------------------------------------------------------------------------------------


def to_json(prompts: PromptSet) -> dict[str, Any]:
    """A set as a document or a job keeps it."""
    errors = [{"row": e.row, "message": e.message} for e in prompts.errors]
    return {"source": prompts.source, "asked": prompts.asked, "rows": [_row_json(row) for row in prompts.rows], "errors": errors}


def _row_json(row: PromptRow) -> dict[str, Any]:
    values: dict[str, Any] = {"row": row.row, "id": row.id, "tags": list(row.tags)}
    values["messages"] = [{"role": m.role, "content": m.content} for m in row.messages]
    return values if row.expected is None else {**values, "expected": {row.expected.kind: list(row.expected.texts)}}


class _Saved(BaseModel):
    """Part of a set as it was saved; a file of another version may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


class _SavedError(_Saved):
    row: int
    message: str


class _SavedRow(_Saved):
    row: int
    messages: tuple[dict[str, Any], ...]
    id: str = ""
    tags: tuple[str, ...] = ()
    expected: dict[Literal["contains", "regex", "equals", "verdict"], Annotated[tuple[str, ...], Field(min_length=1)]] | None = None

    def prompt(self) -> PromptRow:
        """The row itself. Raises `InvalidInput`."""
        messages, answer = conversation(self.messages)
        if answer is not None:
            raise InvalidInput("a prompt of the set does not end with the user's turn", field="set")
        expected = next((Expected(texts, kind) for kind, texts in (self.expected or {}).items()), None)
        return PromptRow(self.row, messages, short(self.id), tags_of(list(self.tags)), expected)


class _SavedSet(_Saved):
    rows: tuple[_SavedRow, ...]
    errors: tuple[_SavedError, ...] = ()
    source: str = ""
    asked: str = ""


def from_json(data: Any) -> PromptSet:
    """Read a set back; raises `InvalidInput` for anything else."""
    saved = checked(_SavedSet, data, what="this is not a prompt set")
    errors = tuple(RowError(error.row, error.message) for error in saved.errors)
    return PromptSet(tuple(row.prompt() for row in saved.rows), errors, saved.source, saved.asked)


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
