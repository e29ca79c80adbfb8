"""What a trace is: the record of one run, its JSON form, and the checks that untrusted JSON must pass.

Ids and settings are the truth. Tensors (see `traces.tensors`) are a cache that the record can recompute.
"""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from neurons.core.clock import parse_moment
from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.json_text import strict_json
from neurons.core.steers import Steer
from neurons.core.types import Environment, FinishReason, Message, ModelRef, Sampling, Segment

FORMAT = "neuronscope-trace"
VERSION = 1
MAX_TOKENS = 1_000_000
MAX_WHOLE = 1 << 53
"""The largest whole number that every reader of JSON holds exactly; nothing in a trace comes near."""
MAX_VOCAB = 10_000_000
MAX_SECONDS = 1e9
MAX_NAME = 200
MAX_NOTE = 20_000
MAX_TAGS = 50
MAX_TAG = 60
_ID_FORM = re.compile(r"^[a-z0-9][a-z0-9-]{3,63}$")

ActivationState = Literal["stored", "evicted", "none"]


@dataclass(frozen=True)
class TraceRecord:
    """One run: everything needed to show it and to run it again."""

    id: str
    """Lower-case letters, digits and dashes; "" before it is saved."""
    created: str
    """UTC, ISO 8601 with a Z, to the millisecond."""
    model: ModelRef
    environment: Environment
    messages: tuple[Message, ...]
    """The conversation sent, without the answer of this run."""
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    segments: tuple[Segment, ...]
    """Which positions belong to which role; the template's own tokens are marked."""
    pieces: tuple[str, ...]
    """The text of every position (prompt + answer); split characters stand joined at their first token."""
    answer: str
    finish_reason: FinishReason
    sampling: Sampling
    steers: tuple[Steer, ...] = ()
    """With their values filled in, so that a replay needs no quantiles."""
    seconds: float = 0.0
    error: str = ""
    """What went wrong, when the finish reason is "error"."""
    baseline_id: str | None = None
    """The unsteered run with the same seed and settings that this one is compared with."""
    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    pinned: bool = False
    set_name: str | None = None
    """The prompt set this run belongs to."""
    set_row: int | None = None
    """Its row there, from 1."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Prompt and answer, in order."""
        return self.prompt_ids + self.answer_ids

    @property
    def prompt(self) -> str:
        """The last thing the user said, or the last message of any role."""
        said = [message for message in self.messages if message.role == "user"] or list(self.messages)
        return said[-1].content if said else ""

    @property
    def partial(self) -> bool:
        """Whether the run was stopped or broke before the model ended it."""
        return self.finish_reason in ("cancelled", "error")


_RECORDS = TypeAdapter(TraceRecord)


def new_id() -> str:
    """A fresh trace id: 12 hexadecimal digits."""
    return secrets.token_hex(6)


def check_id(trace_id: str) -> str:
    """Return the id, or raise `InvalidInput` when it could not be a folder name of ours."""
    if not _ID_FORM.fullmatch(trace_id):
        raise InvalidInput(f"{trace_id[:80]!r} is not a trace id; ids are 4 to 64 lower-case letters, digits and dashes", field="id")
    return trace_id


def to_json(record: TraceRecord) -> str:
    """The record as JSON text with its format and version. Raises `InvalidInput` where it holds NaN or infinity."""
    try:
        return strict_json({"format": FORMAT, "version": VERSION, **asdict(record)}, indent=1)
    except ValueError as error:
        raise InvalidInput(f"the trace holds a number that JSON cannot write: {error}") from error


def from_json_text(data: bytes | str, *, what: str = "trace.json") -> TraceRecord:
    """Read a record that may come from anybody: types, lengths, ranges and cross references are checked.

    Raises `InvalidInput` that says what is wrong and where.
    """
    try:
        raw = from_json(data, allow_inf_nan=False)
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise InvalidInput(f"{what} is not a Neuronscope trace (its format is not {FORMAT!r})")
        if raw.get("version") != VERSION:
            raise InvalidInput(
                f"{what} has schema version {raw.get('version')!r}; this program reads version {VERSION}: update Neuronscope"
            )
        record = _RECORDS.validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{what}: {place}: {first['msg']}") from error
    except InvalidInput:
        raise
    except ValueError as error:
        raise InvalidInput(f"{what} is not readable JSON: {error}") from error
    return check_record(replace(record, steers=tuple(_as_applied(steer) for steer in record.steers)), what=what)


def _as_applied(steer: Steer) -> Steer:
    """A steer of an older trace, in which a neuron may stand twice: the last one was applied then."""
    last = {(side.layer, side.index): n for n, side in enumerate(steer.neurons)}
    if len(last) == len(steer.neurons) or (steer.values is not None and len(steer.values) != len(steer.neurons)):
        return steer
    values = None if steer.values is None else tuple(steer.values[n] for n in last.values())
    return replace(steer, neurons=tuple(steer.neurons[n] for n in last.values()), values=values)


def check_record(record: TraceRecord, *, what: str = "the trace") -> TraceRecord:
    """Return the record, or raise `InvalidInput` where its parts contradict each other."""
    wrong = _first_contradiction(record)
    if wrong:
        raise InvalidInput(f"{what}: {wrong}")
    try:
        record.sampling.check()
        for steer in record.steers:
            steer.check()
    except NeuronscopeError as error:
        raise InvalidInput(f"{what}: {error}") from error
    check_meta(record)
    return record


def check_created(record: TraceRecord) -> TraceRecord:
    """Return the record, or raise `InvalidInput` where its date has no time or zone: older programs did not look."""
    parse_moment(record.created)
    return record


def _first_contradiction(record: TraceRecord) -> str | None:
    n_tokens = len(record.prompt_ids) + len(record.answer_ids)
    model = record.model
    if record.id and not _ID_FORM.fullmatch(record.id):
        return "the id is not one of ours"
    if record.baseline_id is not None and not _ID_FORM.fullmatch(record.baseline_id):
        return "baseline_id is not a trace id"
    if not record.prompt_ids:
        return "it has no prompt tokens"
    if n_tokens > MAX_TOKENS:
        return f"it has {n_tokens} tokens; the limit is {MAX_TOKENS}"
    if not 0 < model.n_vocab <= MAX_VOCAB or not 0 < model.n_layers <= 10_000 or not 0 < model.n_neurons <= 10_000_000:
        return "the model's sizes are impossible"
    if not all(0 <= token < model.n_vocab for token in record.token_ids):
        return f"a token id lies outside the vocabulary of {model.n_vocab}"
    if len(record.pieces) != n_tokens:
        return f"it has {n_tokens} tokens but {len(record.pieces)} pieces of text"
    if not all(0 <= segment.start <= segment.stop <= n_tokens for segment in record.segments):
        return "a segment lies outside the tokens"
    if any(s.tokens.question is not None and s.tokens.question[1] > len(record.prompt_ids) for s in record.steers):
        return "a steer's question lies outside the prompt"
    if not all(0 <= s.layer < model.n_layers and 0 <= s.index < model.n_neurons for steer in record.steers for s in steer.neurons):
        return "a steer names a neuron the model does not have"
    if not all(0 <= start < stop <= MAX_WHOLE for steer in record.steers for start, stop in steer.tokens.ranges):
        return "a steer acts on impossible positions"
    if not (math.isfinite(record.seconds) and 0 <= record.seconds <= MAX_SECONDS):
        return "its seconds are not a time"
    whole = (record.sampling.top_k, record.environment.threads, model.max_positions, record.set_row or 0)
    if not all(0 <= number <= MAX_WHOLE for number in whole):
        return "a whole number in it is negative or too large"
    if not all(0 <= token < MAX_VOCAB for message in record.messages for token in message.token_ids or ()):
        return "a message holds token ids that cannot be"
    try:
        datetime.fromisoformat(record.created)
    except ValueError:
        return f"created is {record.created[:40]!r}, which is not a date"
    return None


def check_meta(record: TraceRecord) -> TraceRecord:
    """Check what a person may change (name, note, tags, set); raise `InvalidInput` with its `field`."""
    if len(record.name) > MAX_NAME:
        raise InvalidInput(f"the name has {len(record.name)} characters; use at most {MAX_NAME}", field="name")
    if len(record.note) > MAX_NOTE:
        raise InvalidInput(f"the note has {len(record.note)} characters; use at most {MAX_NOTE}", field="note")
    if len(record.tags) > MAX_TAGS or any(not tag.strip() or len(tag) > MAX_TAG for tag in record.tags):
        raise InvalidInput(f"use at most {MAX_TAGS} tags of 1 to {MAX_TAG} characters", field="tags")
    if record.set_name is not None and not 0 < len(record.set_name) <= MAX_NAME:
        raise InvalidInput(f"a set's name has 1 to {MAX_NAME} characters", field="set_name")
    for field, texts in {"name": (record.name,), "note": (record.note,), "set_name": (record.set_name or "",), "tags": record.tags}.items():
        if any(0xD800 <= ord(char) <= 0xDFFF or char == "\0" for text in texts for char in text):
            raise InvalidInput(f"the {field} holds characters that cannot be stored", field=field)
    if not 0 <= (record.set_row or 0) <= MAX_WHOLE:
        raise InvalidInput("the row in a set is a whole number from 1 on", field="set_row")
    return record


META_FIELDS = ("name", "note", "tags", "pinned", "set_name", "set_row")


def meta_of(record: TraceRecord) -> dict[str, Any]:
    """The part of a record that may change after it is saved."""
    return {"version": VERSION, **{field: getattr(record, field) for field in META_FIELDS}}


def with_meta(record: TraceRecord, meta: dict[str, Any]) -> TraceRecord:
    """The record with its changeable part replaced by `meta`. Raises `InvalidInput` when that is not valid."""
    known: dict[str, Any] = {field: meta[field] for field in META_FIELDS if field in meta}
    if "tags" in known:
        known["tags"] = tuple(known["tags"]) if isinstance(known["tags"], list | tuple) else known["tags"]
    changed = replace(record, **known)
    good = (
        isinstance(changed.name, str)
        and isinstance(changed.note, str)
        and isinstance(changed.pinned, bool)
        and isinstance(changed.tags, tuple)
        and all(isinstance(tag, str) for tag in changed.tags)
        and isinstance(changed.set_name, str | None)
        and isinstance(changed.set_row, int | None)
        and not isinstance(changed.set_row, bool)
    )
    if not good:
        raise InvalidInput("meta.json holds a value of the wrong type")
    return check_meta(changed)
