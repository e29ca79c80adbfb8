"""One pass over a text that keeps everything an attribution starts from: the graph, the attention calls, keys and values.

Whoever asks about several tokens of one answer can have them share it: `shared_run` runs prompt and answer once and leaves the run with the
model, and each token looks at the part before it (`GraphRun.upto`), which causal attention makes the same as a run of that part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neurons.core.steers import Steer
from neurons.models.layers import whole_cache
from neurons.models.loaded import LoadedModel
from neurons.runs.attention_tap import AttentionCall, AttentionTap, per_head
from neurons.runs.hooks import Edit, GraphActs, run_forward
from neurons.runs.layer_outputs import hidden_of, kept_outputs

SHARED_BYTES = 512_000_000
"""A shared run stays in memory: texts that would take more (see `run_bytes`) are run anew for every token."""
WIDTHS = 4
"""Numbers that a layer keeps per token for its backward pass (measured 3.4), in widths of the neurons and the residual stream together."""


@dataclass(frozen=True, eq=False)
class GraphRun:
    """What the run of a text left behind. Holds neither the model nor its hooks."""

    ids: tuple[int, ...]
    """The text as far as it is looked at, T tokens; the tensors below may go on after it."""
    edits: tuple[Edit, ...]
    acts: GraphActs
    """Every layer's activations, (1, T, I), edits included."""
    outputs: list[Any]
    """A layer's output as the model returned it."""
    keys: list[tuple[Tensor, Tensor]]
    """A layer's keys and values, (1, G, T, D); empty for a model that has no such cache."""
    calls: list[AttentionCall]
    """One per layer, or none where the model's attention cannot be seen."""
    logits_KV: Tensor
    """Of the last K tokens of the run."""
    end: int
    """Tokens of the run."""
    shared: bool
    """Whether its graph is to serve again."""

    @property
    def logits_V(self) -> Tensor:
        """Of the last token looked at, with its graph."""
        return self.logits_KV[len(self.ids) - self.end - 1]

    @property
    def hidden(self) -> list[Tensor]:
        """A layer's output, (1, T, D)."""
        return [hidden_of(output) for output in self.outputs]

    def upto(self, tokens: int) -> GraphRun:
        """The run as far as the first `tokens` tokens."""
        keys = [(keys[..., :tokens, :], values[..., :tokens, :]) for keys, values in self.keys]
        return replace(self, ids=self.ids[:tokens], keys=keys)


def graph_run(loaded: LoadedModel, ids: Sequence[int], edits: Sequence[Edit], *, logits: int = 1, shared: bool = False) -> GraphRun:
    """Run a text with gradients on, keeping the logits of its last `logits` tokens."""
    acts = GraphActs(loaded)
    cache: Any = whole_cache(loaded)
    with kept_outputs(loaded) as outputs, AttentionTap(keep=True) as tap:
        output = run_forward(loaded, torch.tensor([list(ids)]), edits=edits, graph=acts, cache=cache, logits_to_keep=logits, grad=True)
    assert output.logits is not None
    whole = cache is not None and len(cache.layers) == loaded.n_layers
    keys = [(layer.keys.detach(), layer.values.detach()) for layer in cache.layers] if cache is not None and whole else []
    calls = tap.calls if _answer_to(tap.calls, keys) else []
    return GraphRun(tuple(ids), tuple(edits), acts, outputs, keys, calls, output.logits[0], len(ids), shared)


def _answer_to(calls: Sequence[AttentionCall], keys: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Whether each layer's one attention call reads the keys and values that its cache holds, so that new ones can stand in for them."""
    return len(calls) == len(keys) and all(
        call.query_BHTD.shape[-1] == value.shape[-1] and _are(call.key_BGTD, key) and _are(call.value_BGTD, value)
        for call, (key, value) in zip(calls, keys, strict=True)
    )


def _are(read_BGTD: Tensor, held_BGTD: Tensor) -> bool:
    """Whether attention reads what the cache holds, which it may first repeat for each query head."""
    heads, held = read_BGTD.shape[1], held_BGTD.shape[1]
    return not heads % held and torch.equal(read_BGTD, per_head(held_BGTD, heads))


def shared_run(
    loaded: LoadedModel, ids: Sequence[int], edits: Sequence[Edit], *, token: int, prompt_tokens: int, steers: Sequence[Steer]
) -> GraphRun | None:
    """The run of prompt and answer, seen up to `token`; the newest one stays with the model.

    None where sharing does not pay: the text is too long to keep, or the target stands so early (in the prompt, for one) that a backward
    pass through the whole text costs more than a run of the tokens before it; or where a model's tokens come out otherwise in longer texts.
    """
    if loaded.running.cached is not None:
        return None
    logits = len(ids) - prompt_tokens + 1
    if token < prompt_tokens or len(ids) > 2 * token or run_bytes(loaded, len(ids), logits) > SHARED_BYTES:
        return None
    key = (tuple(ids), prompt_tokens, tuple(steers))
    with loaded.lock:
        if loaded.cached.get("run", (None, None))[0] != key:
            loaded.cached.pop("run", None)  # its memory is free before the next one takes as much
            loaded.cached["run"] = (key, graph_run(loaded, ids, edits, logits=logits, shared=True))
        run: GraphRun = loaded.cached["run"][1]
    return run.upto(token)


def run_bytes(loaded: LoadedModel, tokens: int, logits: int) -> int:
    """Memory that a run with its graph keeps, bytes."""
    config: Any = loaded.model.config.get_text_config()
    numbers = tokens * loaded.n_layers * (loaded.n_neurons + int(config.hidden_size)) * WIDTHS + logits * loaded.ref.n_vocab
    return numbers * loaded.dtype.itemsize
