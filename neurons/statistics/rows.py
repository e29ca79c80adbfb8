"""One row of a comparison: a prompt answered without the steer, with it, and under random neurons. As jobs and experiments keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neurons.core.boundary import checked

_DRAW = "random "


class Facts(BaseModel):
    """What is noted of one answer."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    answer: str = ""
    met: bool | None = None
    """Whether it holds what is asked for; None where nothing is."""
    met_at: tuple[int, int] | None = None
    """Where in the answer that stands, half-open."""
    token_probability: float | None = None
    """Of the chosen token as the answer's first; None where none was chosen."""
    kl: float | None = None
    """Mean KL(unsteered, this) along the unsteered answer, nats per token."""
    length: int
    """Tokens of the answer."""
    repetition: float
    """Share of its three-token runs that were there before."""

    @property
    def met_text(self) -> str:
        """The part of the answer that met the criterion."""
        start, end = self.met_at or (0, 0)
        return self.answer[start:end]


class Row(BaseModel):
    """One prompt under one seed; `error` where it could not be asked, and then nothing else is known of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    row: str = ""
    prompt_id: str
    prompt: str = ""
    seed: int
    unit: str = ""
    """What tells its prompt from others: rows of equal prompts are repeats of one."""
    error: str = ""
    plain: Facts | None = None
    steered: Facts | None = None
    random: Mapping[str, Facts] = Field(default_factory=dict)
    """Under each draw of random neurons, by the name it is kept under: "random 1"."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        """The draws stand beside the other entries."""
        if not isinstance(value, Mapping) or "random" in value:
            return value
        return {**value, "random": {name: facts for name, facts in value.items() if str(name).startswith(_DRAW)}}

    @property
    def pair(self) -> tuple[Facts, Facts] | None:
        """The answers without and with the steer; None where it failed."""
        return None if self.error or self.plain is None or self.steered is None else (self.plain, self.steered)

    @property
    def told_apart_by(self) -> str:
        """The unit, or what stands for it in rows of older versions."""
        return self.unit or self.prompt or self.prompt_id

    def to_json(self) -> dict[str, Any]:
        """The row as a job keeps it."""
        about = {"row": self.row, "prompt_id": self.prompt_id, "prompt": self.prompt, "seed": self.seed, "unit": self.unit}
        if self.pair is None:
            return {**about, "error": self.error}
        sides = {"plain": self.plain, "steered": self.steered, **self.random}
        return {**about, **{name: facts.model_dump(mode="json") for name, facts in sides.items() if facts is not None}}


def read_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    """Rows as they were kept. Raises `InvalidInput` that says which is none and why."""
    return checked(tuple[Row, ...], list(rows), what="the rows of a comparison")
