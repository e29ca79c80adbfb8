"""The plain data types of the engine: no torch, no streamlit, no disk.

Shape letters, used as suffixes of array names everywhere: L layers, I neurons per layer, T tokens (prompt + answer),
V vocabulary, K kept items, N rows, B batch. `acts_LTI` is indexed layer, token, neuron.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neurons.core.errors import InvalidInput, InvalidSteer

Polarity = Literal["+", "-"]
Mode = Literal["set", "scale", "add"]
Role = Literal["system", "user", "assistant"]
Metric = Literal["prob", "logprob", "logit", "contrast"]
FinishReason = Literal["stop", "length", "context", "cancelled", "error"]

MAX_STRENGTH = 1000.0
SMALLEST_TEMPERATURE = 1e-30
"""Below it logits divided by the temperature leave float32, and nothing can be drawn: such a temperature is greedy."""
_NEURON_FORM = re.compile(r"^\s*[lL]?(\d+)\s*[:/.]\s*(?:[nN]|(e\d+|s\d*)/)?(\d+)\s*:?\s*([+-])?\s*$")


@dataclass(frozen=True, order=True)
class NeuronSide:
    """One polarity of one neuron: `NeuronSide(17, 803, "-")` is the negative side of neuron 803 in layer 17."""

    layer: int
    index: int
    polarity: Polarity = "+"

    @classmethod
    def parse(cls, text: str, *, experts: bool = False) -> NeuronSide:
        """Read `layer:index`, `layer:index+` or `layer:index:-` (no sign means the positive side).

        With `experts`, for who has the model at hand to turn it into the one form, also `layer:e2/35` and `layer:s/35`: channel 35
        of routed expert 2, of the shared expert.
        """
        match = _NEURON_FORM.match(text)
        if not match:
            raise InvalidSteer(f"{text!r} is not a neuron; write layer:index, such as 17:803 or 17:803-", field="neurons")
        if match[2] and not experts:
            raise InvalidSteer(
                f"{text!r} counts within an expert, which only its model can look up; write layer:index here, as `attribute` prints it",
                field="neurons",
            )
        layer, index = int(match[1]), int(match[3])
        polarity: Polarity = "-" if match[4] == "-" else "+"
        return ExpertSide(layer, index, polarity, match[2]) if match[2] else NeuronSide(layer, index, polarity)

    def __str__(self) -> str:
        return f"{self.layer}:{self.index}{self.polarity}"


@dataclass(frozen=True, order=True)
class ExpertSide(NeuronSide):
    """A neuron as typed by its place in an expert; `LoadedModel.side` turns it into the one form, numbered through its layer."""

    within: str = ""
    """What `index` counts in: "e2" for routed expert 2, "s" for what every token goes through."""

    def __str__(self) -> str:
        return f"{self.layer}:{self.within}/{self.index}{self.polarity}"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. `token_ids` holds an earlier answer's own ids, so that it is never re-tokenised."""

    role: Role
    content: str
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.0
    """0 is greedy: the most probable token, ties to the lower id. So is what lies below `SMALLEST_TEMPERATURE`."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability reaches this; 1 keeps all."""
    top_k: int = 0
    """Keep this many tokens; 0 keeps all."""
    max_new_tokens: int = 128
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature < SMALLEST_TEMPERATURE

    @property
    def how(self) -> str:
        """How tokens are chosen, for a reader."""
        if not self.greedy:
            return f"temperature {self.temperature:g}"
        return "greedy" if self.temperature == 0 else f"greedy (temperature {self.temperature:g} is too small to draw at)"

    def check(self) -> Sampling:
        """Return self, or raise `InvalidInput` whose `field` is the setting that is wrong."""
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 10):
            raise InvalidInput(f"temperature is {self.temperature}; use a number from 0 (greedy) to 10", field="temperature")
        if not (math.isfinite(self.top_p) and 0 < self.top_p <= 1):
            raise InvalidInput(f"top-p is {self.top_p}; use a number above 0 and at most 1", field="top_p")
        if self.top_k < 0:
            raise InvalidInput(f"top-k is {self.top_k}; use 0 (all tokens) or more", field="top_k")
        if not 1 <= self.max_new_tokens <= 32_768:
            raise InvalidInput(f"max new tokens is {self.max_new_tokens}; use 1 to 32768", field="max_new_tokens")
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"seed is {self.seed}; use a whole number from 0 to 2^63 - 1", field="seed")
        return self


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
        match = re.fullmatch(r"(\d+)(?:\s*:\s*(\d+))?", part)
        start, stop = (int(match[1]), int(match[2]) if match[2] else int(match[1]) + 1) if match else (0, 0)
        if stop <= start:
            raise InvalidInput(f"{part!r} is not a token range; write start:stop, such as 3:9", field="tokens")
        ranges.append((start, stop))
    return tuple(ranges)


@dataclass(frozen=True)
class Steer:
    """A concept (set of neuron sides) with what is done to it. DESIGN: concept x strength x tokens x mode.

    It acts on a neuron once: see `once`.

    set: activation = strength * value; scale: activation * strength; add: activation + strength * value, where `value`
    is the neuron's own extreme quantile on the given side (negative for "-"). Suppress is set with strength 0.
    """

    neurons: tuple[NeuronSide, ...]
    mode: Mode = "set"
    strength: float = 0.0
    tokens: TokenScope = TokenScope()
    name: str = ""
    enabled: bool = True
    values: tuple[float, ...] | None = None
    """One value per neuron, in activation units. None: looked up from the model's quantiles when the run starts."""

    def check(self) -> Steer:
        """Return self, or raise `InvalidSteer`. Does not know the model: see `steering.resolve` for that."""
        if self.mode not in ("set", "scale", "add"):
            raise InvalidSteer(f"steer mode is {self.mode!r}; use set, scale or add", field="mode")
        if not math.isfinite(self.strength) or abs(self.strength) > MAX_STRENGTH:
            raise InvalidSteer(
                f"steer strength is {self.strength}; use a number from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}", field="strength"
            )
        if self.values is not None:
            if len(self.values) != len(self.neurons):
                raise InvalidSteer(f"a steer has {len(self.neurons)} neurons but {len(self.values)} values", field="values")
            if not all(math.isfinite(value) and abs(value) < 1e6 for value in self.values):
                raise InvalidSteer("a steer's values must be finite numbers under a million", field="values")
        place = self.tokens.question
        if place is not None and not 0 <= place[0] < place[1]:
            raise InvalidSteer(f"the question cannot stand at tokens {place[0]} to {place[1]}", field="tokens")
        return self

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
        """Whether the per-neuron values matter: not for scale, nor for set to 0 or add of 0."""
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


@dataclass(frozen=True)
class ModelRef:
    """Which model, exactly: enough to say whether a trace, atlas or steer belongs to it."""

    id: str
    """What the user would type to load it again: "default", a hub id, a folder or a GGUF file."""
    name: str
    architecture: str
    """The class name, such as LlamaForCausalLM."""
    weights_hash: str
    """SHA-256 over the weight files, hex."""
    dtype: str
    device: str
    n_layers: int
    n_neurons: int
    """The widest layer's neurons: the length of the I axis."""
    n_vocab: int
    max_positions: int


@dataclass(frozen=True)
class Segment:
    """Tokens [start, stop) of the ids that belong to one chat role. `template` marks the template's own tokens."""

    role: str
    start: int
    stop: int
    template: bool = False


def question_of(segments: Sequence[Segment]) -> tuple[int, int] | None:
    """Where the last user turn's own tokens stand, half-open; None where there is none."""
    return next(((s.start, s.stop) for s in reversed(segments) if s.role == "user" and not s.template and s.stop > s.start), None)


@dataclass(frozen=True)
class Environment:
    """What may change the numbers of a run: recorded in each trace and compared on replay."""

    neuronscope: str
    torch: str
    transformers: str
    python: str
    platform: str
    threads: int
    dtype: str
    device: str


@dataclass(frozen=True)
class AttributionRow:
    """One (neuron, source token) of an attribution. The sign is kept: promoting > 0, suppressing < 0."""

    layer: int
    index: int
    token: int
    polarity: Polarity
    activation: float
    attribution: float


@dataclass(frozen=True)
class TargetSpec:
    """What an attribution or effect explains: the token at position `token`, from the logits at `token - 1`."""

    token: int
    metric: Metric = "prob"
    token_id: int | None = None
    """The token explained; None is the one that stands at `token`."""
    against_id: int | None = None
    """For the contrast: the other token's id."""
