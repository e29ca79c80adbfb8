"""The plain data types of the engine: no torch, no streamlit, no disk.

Shape letters, used as suffixes of array names everywhere: L layers, I neurons per layer, T tokens (prompt + answer),
V vocabulary, K kept items, N rows, B batch. `acts_LTI` is indexed layer, token, neuron.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neurons.core.errors import InvalidInput, InvalidSteer

Polarity = Literal["+", "-"]
Role = Literal["system", "user", "assistant"]
Metric = Literal["prob", "logprob", "logit", "contrast", "logodds"]
FinishReason = Literal["stop", "length", "context", "cancelled", "error"]

SMALLEST_TEMPERATURE = 1e-30
"""Below it logits divided by the temperature leave float32, and nothing can be drawn: such a temperature is greedy."""
NEURON_PATTERN = r"^\s*[lL]?(\d{1,9})\s*[:/.]\s*(?:[nN]|(e\d{1,9}|s\d{0,9})/)?(\d{1,9})\s*:?\s*([+-])?\s*$"
"""How a neuron is written: layer:index, with or without its side; counted within an expert as layer:e2/35."""
_NEURON_FORM = re.compile(NEURON_PATTERN)


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
            raise InvalidSteer(f"{text[:60]!r} is not a neuron; write layer:index, such as 17:803 or 17:803-", field="neurons")
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


Follow = tuple[tuple[str, int | float | tuple[int, ...]], ...]
FOLLOWED = ("repetition_penalty", "no_repeat_ngram_size", "suppress_tokens", "begin_suppress_tokens")
"""Settings of a model's generation config that can be followed."""


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
    follow: Follow = ()
    """Penalties and suppressed tokens, name and value, that the model's generation config asked for and somebody chose to follow."""

    def __post_init__(self) -> None:
        """Lists, as JSON has them, become tuples."""
        given: Any = self.follow
        pairs = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in given)
        object.__setattr__(self, "follow", pairs)

    def to_json(self) -> dict[str, Any]:
        """Its settings; what is not followed is left out, as files of older versions have it."""
        fields = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "max_new_tokens", "seed")}
        return {**fields, **({"follow": [list(pair) for pair in self.follow]} if self.follow else {})}

    @property
    def greedy(self) -> bool:
        return self.temperature < SMALLEST_TEMPERATURE

    @property
    def how(self) -> str:
        """How tokens are chosen, for a reader."""
        followed = "".join(f", {name.replace('_', ' ')} followed" for name, _ in self.follow)
        if not self.greedy:
            return f"temperature {self.temperature:g}{followed}"
        if followed:
            return f"greedy{followed}"
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
        for name, value in self.follow:
            _check_followed(name, value)
        return self


def _check_followed(name: str, value: float | tuple[int, ...]) -> None:
    """Raise `InvalidInput` for a setting of a generation config that is none or cannot be."""
    tokens = value if isinstance(value, tuple) else (value,)
    good = {
        "repetition_penalty": not isinstance(value, tuple) and math.isfinite(value) and 0 < value <= 100,
        "no_repeat_ngram_size": isinstance(value, int) and 0 < value <= 10_000,
        "suppress_tokens": all(isinstance(token, int) and 0 <= token < 1 << 53 for token in tokens),
        "begin_suppress_tokens": all(isinstance(token, int) and 0 <= token < 1 << 53 for token in tokens),
    }
    if not good.get(name, False):
        raise InvalidInput(f"{name[:60]} {str(value)[:60]} cannot be followed; leave it out", field="follow")


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
