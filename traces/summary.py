"""One row of the list of traces, and the text that a search looks at."""

from __future__ import annotations

from dataclasses import dataclass

from traces.schema import ActivationState, TraceRecord

_PREVIEW = 600


@dataclass(frozen=True)
class TraceSummary:
    """One row of the list of traces."""

    id: str
    created: str
    name: str
    note: str
    tags: tuple[str, ...]
    pinned: bool
    model_id: str
    model_name: str
    weights_hash: str
    prompt: str
    """The last user message, at most 600 characters."""
    answer: str
    """At most 600 characters."""
    finish_reason: str
    prompt_tokens: int
    answer_tokens: int
    temperature: float
    seed: int
    steers: int
    """How many steers were on."""
    set_name: str | None
    set_row: int | None
    baseline_id: str | None
    seconds: float
    activations: ActivationState
    bytes: int
    """On disk, tensors and attributions included."""
    tensor_bytes: int
    """What evicting the activations would free."""
    tensors_at: float
    """When the activations were written (Unix time): the oldest are evicted first."""
    trashed: bool = False
    example: bool = False

    @property
    def title(self) -> str:
        """The name, else the prompt's first line, shortened to 80 characters."""
        first = (self.prompt.strip().splitlines() or ["(empty prompt)"])[0]
        return self.name or (first if len(first) <= 80 else f"{first[:79].rstrip()}…")


def summarise(
    record: TraceRecord,
    *,
    activations: ActivationState,
    size: int,
    tensor_size: int,
    tensors_at: float,
    trashed: bool = False,
    example: bool = False,
) -> TraceSummary:
    """The row of a record."""
    return TraceSummary(
        id=record.id,
        created=record.created,
        name=record.name,
        note=record.note,
        tags=record.tags,
        pinned=record.pinned,
        model_id=record.model.id,
        model_name=record.model.name,
        weights_hash=record.model.weights_hash,
        prompt=record.prompt[:_PREVIEW],
        answer=record.answer[:_PREVIEW],
        finish_reason=record.finish_reason,
        prompt_tokens=len(record.prompt_ids),
        answer_tokens=len(record.answer_ids),
        temperature=record.sampling.temperature,
        seed=record.sampling.seed,
        steers=sum(1 for steer in record.steers if steer.enabled),
        set_name=record.set_name,
        set_row=record.set_row,
        baseline_id=record.baseline_id,
        seconds=record.seconds,
        activations=activations,
        bytes=size,
        tensor_bytes=tensor_size,
        tensors_at=tensors_at,
        trashed=trashed,
        example=example,
    )


def haystack_of(record: TraceRecord) -> str:
    """Everything the search looks at, case-folded."""
    parts = [
        record.id,
        record.name,
        record.note,
        *record.tags,
        record.model.name,
        record.model.id,
        record.set_name or "",
        record.created[:10],
    ]
    parts += [message.content for message in record.messages] + [record.answer]
    return "\n".join(parts).casefold()
