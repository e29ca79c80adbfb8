"""One forward pass with edits and recording on the neurons: hooks go on, the pass runs, hooks come off on every exit.

The model's lock is held around all of it, so a steer never leaks into another session's pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress
from neurons.core.types import Mode, TokenScope
from neurons.models.loaded import LoadedModel

Record = Callable[[int, Tensor], None]
"""Called with (layer, acts_BTI) after the edits, for each layer in order. The tensor is the model's own: copy it to keep it."""
Replace = Callable[[int, Tensor], Tensor | None]
"""Called with (layer, acts_BTI) before anything else; what it returns (if anything) takes the activations' place."""


def with_graph(acts: list[Tensor]) -> Record:
    """Keeps each layer's activations in `acts`, (B, T, I), with the graph that leads from them to the logits."""

    def record(_layer: int, acts_BTI: Tensor) -> None:
        # The parameters are frozen, so the first layer's activations are where the graph begins.
        acts.append(acts_BTI if acts_BTI.requires_grad else acts_BTI.requires_grad_())

    return record


@dataclass(frozen=True, eq=False)
class Edit:
    """What is done to some neurons of one layer at some tokens."""

    layer: int
    index_K: Tensor
    """int64, on the model's device."""
    mode: Mode
    strength: float
    value_K: Tensor
    """strength * the neuron's value, in activation units; unused by scale."""
    scope: TokenScope
    prompt_tokens: int

    def apply(self, acts_BTI: Tensor, start: int) -> Tensor:
        """The edited copy of `acts_BTI`, whose tokens stand at positions start, start + 1... Untouched entries keep their bits."""
        positions = [i for i in range(acts_BTI.shape[1]) if self.scope.covers(start + i, self.prompt_tokens)]
        if not positions:
            return acts_BTI
        edited = acts_BTI.clone()
        at_T1 = torch.tensor(positions, device=acts_BTI.device)[:, None]
        old = acts_BTI[:, at_T1, self.index_K]
        value_K = self.value_K.to(acts_BTI.dtype)
        if self.mode == "set":
            edited[:, at_T1, self.index_K] = value_K.expand_as(old)
        else:
            edited[:, at_T1, self.index_K] = old * self.strength if self.mode == "scale" else old + value_K
        return edited


class Counted:
    """The position of each pass's first token, counted over the cache that the pass is given: for passes that others make."""

    def __init__(self, *, padding: bool) -> None:
        """`padding`: whether a padded batch may be run, where a position is another token in every row."""
        self.position = 0
        self._padding = padding

    def note(self, _module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the whole model."""
        mask = kwargs.get("attention_mask")
        if not self._padding and isinstance(mask, Tensor) and mask.dim() == 2 and not bool(mask.all()):
            raise InvalidInput(
                "a padded batch cannot be steered at some tokens only; run prompts of one length, or one by one", field="tokens"
            )
        cache = kwargs.get("past_key_values")
        try:
            self.position = 0 if cache is None else int(cache.get_seq_length())
        except (ValueError, NotImplementedError) as error:
            raise InvalidInput(f"this model's cache does not say how many tokens it holds ({error}); use use_cache=False") from error


@contextmanager
def hooked(
    loaded: LoadedModel,
    *,
    edits: Sequence[Edit] = (),
    record: Record | None = None,
    replace: Replace | None = None,
    start: int | Counted = 0,
) -> Iterator[None]:
    """Hooks on every layer's neurons while the block runs. Holds the model's lock. `start` is the first token's position in every pass."""
    by_layer: dict[int, list[Edit]] = {}
    for edit in edits:
        by_layer.setdefault(edit.layer, []).append(edit)

    def make_hook(layer: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        layer_edits = by_layer.get(layer, [])

        def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            acts_BTI: Tensor = args[0]
            given = acts_BTI
            if replace is not None and (other := replace(layer, acts_BTI)) is not None:
                acts_BTI = other
            for edit in layer_edits:
                acts_BTI = edit.apply(acts_BTI, start.position if isinstance(start, Counted) else start)
            if record is not None:
                record(layer, acts_BTI)
            return None if acts_BTI is given else (acts_BTI, *args[1:])

        return hook

    with loaded.lock, ExitStack() as stack:
        if isinstance(start, Counted):
            stack.callback(loaded.model.register_forward_pre_hook(start.note, with_kwargs=True).remove)
        for site in loaded.sites:
            if record is not None or replace is not None or site.layer in by_layer:
                handle = site.module.register_forward_pre_hook(make_hook(site.layer))
                stack.callback(handle.remove)
        yield


@contextmanager
def watched(loaded: LoadedModel, progress: Progress) -> Iterator[None]:
    """Calls `progress` at every layer of every pass in the block; it may raise `Cancelled` there. Holds the model's lock."""

    def make_hook(layer: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _module, _args: progress(layer, loaded.n_layers, "running the model")

    with loaded.lock, ExitStack() as stack:
        for site in loaded.sites:
            stack.callback(site.module.register_forward_pre_hook(make_hook(site.layer)).remove)
        yield


def run_forward(
    loaded: LoadedModel,
    ids_BT: Tensor,
    *,
    edits: Sequence[Edit] = (),
    record: Record | None = None,
    replace: Replace | None = None,
    cache: Any = None,
    start: int = 0,
    logits_to_keep: int = 0,
    grad: bool = False,
    **model_kwargs: Any,
) -> CausalLMOutputWithPast:
    """One pass of the model over `ids_BT` (int64, any device).

    `cache` is a transformers Cache that holds positions before `start`. `logits_to_keep` 0 keeps the logits of all tokens.
    """
    with hooked(loaded, edits=edits, record=record, replace=replace, start=start), torch.set_grad_enabled(grad):
        output: CausalLMOutputWithPast = loaded.model(
            input_ids=ids_BT.to(loaded.device),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=logits_to_keep,
            **model_kwargs,
        )
    return output
