"""What long work on a text will take, said before it begins: seconds by arithmetic and this machine's pace, and bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from neurons.attribution.ablation import FIXED_COST, MAX_TOKENS
from neurons.attribution.methods import IG_MAX_STEPS
from neurons.core.errors import InvalidInput
from neurons.models.layers import decoder_layers
from neurons.models.load import available_bytes
from neurons.models.loaded import LoadedModel
from neurons.runs.graph_run import run_bytes

FORWARDS = 3.5
"""Forward passes that the shortest attribution takes: measured 4.0 at 101 tokens, 5.5 at 481, 8.3 at 1,013, see below."""
TOKENS_A_FORWARD = 210
"""Each so many tokens cost one forward pass more."""
METHOD_FORWARDS = {"grad": 2.2, "logodds": 2.2, "direct": 1.5, "frozen": 2.2, "relp": 2.2, "ig": 2.2 * (2 + IG_MAX_STEPS)}
"""Forward passes of the other methods (docs/attribution.md has them measured); of integrated gradients the most."""
BACKWARD = 1.2
"""Forward passes that a pass back costs."""
LONG = 60.0
"""Seconds from which work is told beforehand what it takes."""
EFFICIENCY = 0.35
"""Part of a plain matrix product's pace that a forward pass reaches."""
SPARE = 0.9
"""Part of the free memory that may be taken."""
_PACE = "attribution pace"


@dataclass(frozen=True)
class Forecast:
    """What is expected of one piece of work."""

    seconds: float
    bytes: int
    free: int
    """Free memory of the model's device now."""

    @property
    def long(self) -> bool:
        """Whether a person should be told before it begins."""
        return self.seconds > LONG

    def check(self, token: int, *, doing: str = "attributing") -> Forecast:
        """Return self, or raise `InvalidInput` where the memory would not do: it would take the server down with everybody's work."""
        if self.bytes > SPARE * self.free:
            raise InvalidInput(
                f"{doing} token {token} needs about {self.bytes / 1e9:.1f} GB, and {self.free / 1e9:.1f} GB are free; "
                "choose an earlier token, a shorter conversation or a machine with more memory",
                field="token",
            )
        return self


def forecast(loaded: LoadedModel, tokens: int, method: str = "refined") -> Forecast:
    """What attributing a target after `tokens` tokens will take. The first look at a machine measures its pace (a tenth of a second)."""
    forwards = METHOD_FORWARDS.get(method, FORWARDS + tokens / TOKENS_A_FORWARD)
    arrays = 3 * 4 * loaded.n_layers * tokens * loaded.n_neurons
    return _forecast(loaded, tokens, forwards, _graph_bytes(loaded, tokens) + arrays)


def forecast_effects(loaded: LoadedModel, tokens: int, starts: Sequence[tuple[int, int]]) -> Forecast:
    """What measuring the effects of neurons takes, given the (layer, token) at which each begins to matter."""
    runs = sum((1 - layer / loaded.n_layers) * (FIXED_COST + tokens - token) / tokens for layer, token in starts)
    width = loaded.n_neurons + 3 * _hidden(loaded)
    needed = 4 * width * (loaded.n_layers * tokens + 4 * MAX_TOKENS)
    return _forecast(loaded, tokens, 1 + runs, needed)


def forecast_walk(loaded: LoadedModel, tokens: int, nodes: int) -> Forecast:
    """What a walk upstream from a token or neuron takes that asks about `nodes` neurons: a pass back for each."""
    return _forecast(loaded, tokens, 1 + BACKWARD * nodes, _graph_bytes(loaded, tokens) + 4 * loaded.n_layers * tokens * loaded.n_neurons)


def forecast_lens(loaded: LoadedModel, tokens: int, asked: int = 1) -> Forecast:
    """What the logit lens takes at `asked` tokens: a pass, and the unembedding of every layer's residual."""
    rows = (loaded.n_layers + 1) * asked
    reading = 2.0 * rows * loaded.ref.n_vocab * _hidden(loaded) / _arithmetic(loaded, tokens)
    return _forecast(loaded, tokens, 1 + reading, 4 * (loaded.n_layers * tokens * _hidden(loaded) + 4 * rows * loaded.ref.n_vocab))


def _forecast(loaded: LoadedModel, tokens: int, forwards: float, needed: int) -> Forecast:
    seconds = forwards * _arithmetic(loaded, tokens) / (EFFICIENCY * pace(str(loaded.device), str(loaded.dtype)))
    return Forecast(seconds * float(loaded.cached.get(_PACE, 1.0)), needed, available_bytes(str(loaded.device)))


def _hidden(loaded: LoadedModel) -> int:
    config: Any = loaded.model.config.get_text_config()
    return int(config.hidden_size)


def _arithmetic(loaded: LoadedModel, tokens: int) -> float:
    """Multiplications and additions of a forward pass that keeps the last token's logits."""
    weights = sum(int(parameter.numel()) for parameter in decoder_layers(loaded).parameters())
    attention = loaded.n_layers * tokens * tokens * _hidden(loaded) * 2
    return 2.0 * (weights * tokens + loaded.ref.n_vocab * _hidden(loaded)) + 2.0 * attention


def _graph_bytes(loaded: LoadedModel, tokens: int) -> int:
    """Memory of a run that keeps its graph, and of its attention scores."""
    config: Any = loaded.model.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", 1) or 1)
    return run_bytes(loaded, tokens, 1) + 3 * heads * tokens * tokens * 4


def note_pace(loaded: LoadedModel, tokens: int, seconds: float) -> None:
    """Remember with the model how long an attribution really took: later forecasts are scaled by it."""
    if tokens >= 64:
        expected = forecast(loaded, tokens).seconds / float(loaded.cached.get(_PACE, 1.0))
        loaded.cached[_PACE] = min(100.0, max(0.01, seconds / expected)) if expected > 0 else 1.0


@cache
def pace(device: str, dtype: str) -> float:
    """Multiplications and additions a second of a plain matrix product."""
    kind = getattr(torch, dtype.removeprefix("torch."))
    left = torch.ones(512, 512, dtype=kind, device=device)
    best = float("inf")
    for _ in range(4):
        begun = time.perf_counter()
        float((left @ left)[0, 0])
        best = min(best, time.perf_counter() - begun)
    return 2.0 * 512**3 / max(best, 1e-7)
