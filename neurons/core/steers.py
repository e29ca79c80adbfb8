"""What is done to neurons while a model runs: a steer, the tokens it acts on, and how it fades. No torch, no disk."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neurons.core.errors import InvalidInput, InvalidSteer
from neurons.core.percent import percent
from neurons.core.types import NeuronSide

Mode = Literal["set", "scale", "add", "cap"]
MODES: tuple[Mode, ...] = ("set", "scale", "add", "cap")
MAX_STRENGTH = 1000.0
TokenKind = Literal["all", "prompt", "question", "from question", "answer", "ranges"]


@dataclass(frozen=True)
class TokenScope:
    """Which tokens a steer acts on, named by what they are, so that it means the same under every prompt.

    "all"; "prompt", with the template's tokens; "question", the last user turn's own tokens; "from question", these and all that follow;
    "answer", the tokens that are generated; "ranges", positions from 0 over prompt + answer: a range of one trace.
    """

    kind: TokenKind = "all"
    ranges: tuple[tuple[int, int], ...] = ()
    """Half-open, with kind "ranges"."""
    with_answer: bool = False
    """With kinds "ranges" and "question": also the answer's tokens as they are generated."""
    question: tuple[int, int] | None = None
    """Where the question stands in the prompt that is run, half-open; None before `at_question`."""

    @classmethod
    def parse(cls, text: str) -> TokenScope:
        """Read "all", "prompt", "question", "from question", "answer" or half-open ranges such as "3:9,12:14" (a single "5" is 5:6).

        To "question" and to ranges ",answer" may be added.
        """
        word = " ".join(re.split(r"[\s_-]+", text.strip().lower()))
        if word in ("all", "prompt", "question", "from question", "answer"):
            return cls(word)  # type: ignore[arg-type]
        parts = [part.strip() for part in word.split(",") if part.strip()]
        with_answer = "answer" in parts
        rest = [part for part in parts if part != "answer"]
        return (
            cls("question", with_answer=with_answer) if rest == ["question"] else cls("ranges", parse_ranges(",".join(rest)), with_answer)
        )

    def __str__(self) -> str:
        if self.kind not in ("ranges", "question"):
            return self.kind
        parts = [f"{start}:{stop}" for start, stop in self.ranges] if self.kind == "ranges" else [self.kind]
        return ",".join([*parts, "answer"] if self.with_answer else parts)

    @property
    def words(self) -> str:
        """Where it acts, for a sentence."""
        if self.kind == "ranges":
            places = f"at tokens {', '.join(f'{start}:{stop}' for start, stop in self.ranges)} counted from the prompt's start"
        else:
            places = _SCOPE_WORDS[self.kind]
        return f"{places} and at the answer's" if self.with_answer else places

    @property
    def is_unplaced(self) -> bool:
        """Whether it names the question and nobody has said yet where that stands."""
        return self.kind in ("question", "from question") and self.question is None

    def at_question(self, question: tuple[int, int] | None) -> TokenScope:
        """The same with the place of the question in one prompt; None takes it away again."""
        return replace(self, question=question if self.kind in ("question", "from question") else None)

    def covers(self, position: int, prompt_tokens: int) -> bool:
        """Whether the token at `position` is steered, in a run whose prompt has `prompt_tokens` tokens. Not for unplaced ones."""
        if self.kind == "all":
            return True
        if self.kind == "prompt":
            return position < prompt_tokens
        if self.kind == "answer" or (self.with_answer and position >= prompt_tokens):
            return position >= prompt_tokens
        if self.kind == "ranges":
            return any(start <= position < stop for start, stop in self.ranges)
        assert self.question is not None, "an unplaced scope"
        start, stop = self.question
        return start <= position if self.kind == "from question" else start <= position < stop


_SCOPE_WORDS: dict[str, str] = {
    "all": "at every token",
    "prompt": "at the prompt's tokens",
    "question": "at the question's tokens",
    "from question": "from the question's start to the answer's end",
    "answer": "at the answer's tokens",
}


def parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Read half-open token ranges: "3:9,12" is ((3, 9), (12, 13))."""
    ranges = []
    for part in (p.strip() for p in text.split(",")):
        match = re.fullmatch(r"(\d{1,9})(?:\s*:\s*(\d{1,9}))?", part)
        start, stop = (int(match[1]), int(match[2]) if match[2] else int(match[1]) + 1) if match else (0, 0)
        if stop <= start:
            raise InvalidInput(f"{part[:60]!r} is not a token range; write start:stop, such as 3:9", field="tokens")
        ranges.append((start, stop))
    return tuple(ranges)


@dataclass(frozen=True)
class Fade:
    """A steer that lets go: from token `after` of the answer on, `to` times its strength."""

    after: int = 12
    to: float = 0.5

    def at(self, position: int, prompt_tokens: int) -> float:
        """What the strength is multiplied by at `position`."""
        return 1.0 if position < prompt_tokens + self.after else self.to

    @property
    def words(self) -> str:
        """For a sentence."""
        if not self.to and not self.after:
            return "and lets go where the answer begins"
        left = f"{percent(self.to)} of it" if self.to else "nothing of it"
        return f"{left} after {self.after} tokens of the answer"


@dataclass(frozen=True)
class Steer:
    """A concept (set of neuron sides) with what is done to it. DESIGN: concept x strength x tokens x mode.

    It acts on a neuron once: see `once`.

    set: activation = strength * value; scale: activation * strength; add: activation + strength * value; cap: at most strength * value
    on a positive side, at least that on a negative one. `value` is the neuron's own extreme quantile on the given side (negative for
    "-") unless `values` gives others. Suppress caps at the neutral mean, or is set with strength 0.
    """

    neurons: tuple[NeuronSide, ...]
    mode: Mode = "set"
    strength: float = 0.0
    tokens: TokenScope = TokenScope()
    name: str = ""
    enabled: bool = True
    values: tuple[float, ...] | None = None
    """One value per neuron, in activation units. None: looked up from the model's quantiles when the run starts."""
    fade: Fade | None = None
    """With add: how it lets go as the answer gets longer. None: it does not."""

    def check(self) -> Steer:
        """Return self, or raise `InvalidSteer`. Does not know the model: see `steering.resolve` for that."""
        if self.mode not in MODES:
            raise InvalidSteer(f"steer mode is {self.mode!r}; use set, scale, add or cap", field="mode")
        if not math.isfinite(self.strength) or abs(self.strength) > MAX_STRENGTH:
            raise InvalidSteer(
                f"steer strength is {self.strength}; use a number from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}", field="strength"
            )
        if self.values is not None:
            if len(self.values) != len(self.neurons):
                raise InvalidSteer(f"a steer has {len(self.neurons)} neurons but {len(self.values)} values", field="values")
            if not all(math.isfinite(value) and abs(value) < 1e6 for value in self.values):
                raise InvalidSteer("a steer's values must be finite numbers under a million", field="values")
        if self.fade is not None:
            self._check_fade(self.fade)
        place = self.tokens.question
        if place is not None and not 0 <= place[0] < place[1]:
            raise InvalidSteer(f"the question cannot stand at tokens {place[0]} to {place[1]}", field="tokens")
        return self

    def _check_fade(self, fade: Fade) -> None:
        if self.mode != "add":
            raise InvalidSteer(f"a steer of mode {self.mode} cannot fade; only what is added can", field="fade")
        if not (0 <= fade.after <= 1_000_000 and math.isfinite(fade.to) and 0 <= fade.to <= 1):
            raise InvalidSteer(f"a steer cannot fade to {fade.to} after {fade.after} tokens; use 0 to 1 after 0 or more", field="fade")

    @property
    def size(self) -> int:
        """How many neurons it acts on: a neuron that is listed with both its sides is one."""
        return len({(side.layer, side.index) for side in self.neurons})

    def once(self) -> Steer:
        """The same with each neuron once. Of its two sides (or of repeats) the one with the larger value stands; with none, the positive.

        So the order in which they are listed does not matter.
        """
        best: dict[tuple[int, int], int] = {}
        for n, side in enumerate(self.neurons):
            key = (side.layer, side.index)
            if key not in best or self._weight(n) > self._weight(best[key]):
                best[key] = n
        if len(best) == len(self.neurons):
            return self
        values = None if self.values is None else tuple(self.values[n] for n in best.values())
        return replace(self, neurons=tuple(self.neurons[n] for n in best.values()), values=values)

    def _weight(self, place: int) -> tuple[float, bool, float]:
        value = 0.0 if self.values is None else self.values[place]
        return abs(value), self.neurons[place].polarity == "+", value

    @property
    def needs_values(self) -> bool:
        """Whether the per-neuron values matter: not for scale, nor for set to 0, a cap at 0 or add of 0."""
        return self.mode != "scale" and self.strength != 0

    @property
    def is_noop(self) -> bool:
        """Whether it changes nothing by construction: off, empty, scale by 1, add of 0."""
        return (
            not self.enabled
            or not self.neurons
            or (self.mode == "scale" and self.strength == 1)
            or (self.mode == "add" and self.strength == 0)
        )

    def with_values(self, values: Sequence[float] | None) -> Steer:
        """The same steer with its per-neuron values filled in."""
        return replace(self, values=None if values is None else tuple(float(v) for v in values))
