"""One forward pass with edits and recording on the neurons: hooks go on, the pass runs, hooks come off on every exit.

The model's lock is held around all of it, so a steer never leaks into another session's pass. Whatever shape a module is given its
tokens in, here every row of an activation belongs to one token, (B, T, I), or the pass is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from neurons.core.errors import InvalidInput, UnsupportedModel
from neurons.core.progress import Progress
from neurons.core.steers import Fade, Mode, TokenScope
from neurons.core.turns import told_while_waiting
from neurons.models.loaded import LoadedModel
from neurons.models.sites import NeuronSite, Part

Record = Callable[[int, Tensor], None]
"""Called with (layer, acts_BTI) after the edits, for each layer in order. The tensor is the model's own: copy it to keep it."""
Replace = Callable[[Part, Tensor], Tensor | None]
"""Called with (part, acts_BTI of that part) before anything else; what it returns (if anything) takes the activations' place."""


class GraphActs:
    """Activations of one pass with the graph that leads from them to the logits, kept part by part as the model computes them."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._sites, self._name = loaded.sites, loaded.ref.architecture
        self._device, self._dtype = loaded.device, loaded.dtype
        self._kept: dict[tuple[int, int], Tensor] = {}

    def keep(self, part: Part, acts_BTI: Tensor) -> None:
        # The parameters are frozen, so the first layer's activations are where the graph begins.
        self._kept[part.layer, part.number] = acts_BTI if acts_BTI.requires_grad else acts_BTI.requires_grad_()

    def tensors(self, *, below: int | None = None) -> list[Tensor]:
        """What gradients are taken of, in order; of the layers below `below` alone, if given."""
        sites = self._sites if below is None else self._sites[:below]
        parts = [part for site in sites for part in site.parts]
        if (left := next((part for part in parts if (part.layer, part.number) not in self._kept), None)) is not None:
            raise UnsupportedModel(f"{self._name} does not run {left.name} on a text: what its neurons cause cannot be told")
        return [self._kept[part.layer, part.number] for part in parts]

    def layers(self, tensors: Sequence[Tensor] | None = None, *, below: int | None = None) -> list[Tensor]:
        """Each layer's (B, T, I), put together of `tensors` that belong to `self.tensors(below=below)` (None: the activations)."""
        given = iter(self.tensors(below=below) if tensors is None else tensors)
        like = next(iter(self._kept.values()))
        found = []
        for site in self._sites if below is None else self._sites[:below]:
            pieces = [next(given) for _part in site.parts]
            empty = torch.zeros(*like.shape[:2], 0, dtype=self._dtype, device=self._device)
            found.append(pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1) if pieces else empty)
        return found

    def entry(self, layer: int, index: int, token: int) -> Tensor:
        """One neuron's activation at one token of the first row, with its graph."""
        part = self._sites[layer].part_of(index)
        return self._kept[layer, part.number][0, token, index - part.start]


def changed(mode: Mode, old: Tensor, value: Tensor, *, strength: float | Tensor, positive: Tensor) -> Tensor:
    """What becomes of activations `old`; the others have shapes that spread to it. The one place that says what a mode does.

    `value` is strength * the neuron's value, `positive` whether its positive side is meant (for cap).
    """
    if mode == "set":
        return value.expand_as(old)
    if mode == "scale":
        return old * strength
    if mode == "add":
        return old + value
    return torch.where(positive, torch.minimum(old, value), torch.maximum(old, value))


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
    positive_K: Tensor
    """Whether the positive side is meant; used by cap alone."""
    scope: TokenScope
    prompt_tokens: int
    fade: Fade | None = None

    def within(self, part: Part) -> Edit | None:
        """The same for the neurons of one part of the layer, numbered from its first; None where it has none of them."""
        if part.whole:
            return self
        inside_K = (self.index_K >= part.start) & (self.index_K < part.stop)
        if not bool(inside_K.any()):
            return None
        return replace(
            self,
            index_K=self.index_K[inside_K] - part.start,
            value_K=self.value_K[inside_K],
            positive_K=self.positive_K[inside_K],
        )

    def apply(self, acts_BTI: Tensor, start: int) -> Tensor:
        """The edited copy of `acts_BTI`, whose tokens stand at positions start, start + 1... Untouched entries keep their bits."""
        positions = [i for i in range(acts_BTI.shape[1]) if self.scope.covers(start + i, self.prompt_tokens)]
        if not positions:
            return acts_BTI
        edited = acts_BTI.clone()
        at_T1 = torch.tensor(positions, device=acts_BTI.device)[:, None]
        old = acts_BTI[:, at_T1, self.index_K]
        value = self.value_K
        if self.fade is not None:
            factors = [self.fade.at(start + i, self.prompt_tokens) for i in positions]
            value = value * torch.tensor(factors, dtype=value.dtype, device=value.device)[:, None]
        value = value.to(acts_BTI.dtype)
        edited[:, at_T1, self.index_K] = changed(self.mode, old, value, strength=self.strength, positive=self.positive_K)
        return edited


class Counted:
    """The position of each pass's first token, counted over the cache that the pass is given: for passes that others make."""

    def __init__(self, *, padding: bool) -> None:
        """`padding`: whether a padded batch may be run, where a position is another token in every row."""
        self.position = 0
        self._padding = padding

    def note(self, _module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the whole model."""
        cache = kwargs.get("past_key_values")
        try:
            self.position = 0 if cache is None else int(cache.get_seq_length())
        except (ValueError, NotImplementedError) as error:
            raise InvalidInput(f"this model's cache does not say how many tokens it holds ({error}); use use_cache=False") from error
        if not self._padding and self._is_padded(kwargs):
            raise InvalidInput(
                "a padded batch cannot be steered at some tokens only; run prompts of one length, or one by one", field="tokens"
            )

    def _is_padded(self, kwargs: dict[str, Any]) -> bool:
        """Whether some row begins with padding, by the mask, or where a kept cache makes that another thing, by the positions."""
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if isinstance(mask, Tensor) and mask.dim() == 2:
            return not bool(mask.all())
        if not isinstance(positions, Tensor) or positions.dim() != 2:
            return False
        counted_T = torch.arange(self.position, self.position + positions.shape[1], device=positions.device)
        return not bool((positions == counted_T).all())


@contextmanager
def hooked(
    loaded: LoadedModel,
    *,
    edits: Sequence[Edit] = (),
    record: Record | None = None,
    replace: Replace | None = None,
    graph: GraphActs | None = None,
    start: int | Counted = 0,
) -> Iterator[None]:
    """Hooks on every layer's neurons while the block runs. Holds the model's lock. `start` is the first token's position in every pass."""
    rows = _Rows(loaded)

    def make_hook(part: Part, own: Sequence[Edit], whole: _Whole | None) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            given: Tensor = args[0]
            acts_BTI = rows.by_token(part, given)
            if replace is not None and (other := replace(part, acts_BTI)) is not None:
                acts_BTI = other
            for edit in own:
                acts_BTI = edit.apply(acts_BTI, start.position if isinstance(start, Counted) else start)
            if graph is not None:
                graph.keep(part, acts_BTI)
            if whole is not None:
                whole.add(part, acts_BTI)
            return None if acts_BTI is given else (acts_BTI.reshape(given.shape), *args[1:])

        return hook

    with loaded.lock, ExitStack() as stack:
        if isinstance(start, Counted):
            stack.callback(loaded.model.register_forward_pre_hook(start.note, with_kwargs=True).remove)
        for module in {id(module): module for module in (loaded.model, loaded.model.base_model)}.values():
            stack.callback(module.register_forward_pre_hook(rows.begin, with_kwargs=True).remove)
        for site in loaded.sites:
            whole = None if record is None else _Whole(site, record)
            if whole is not None and not site.parts:
                stack.callback(loaded.model.get_submodule(site.path).register_forward_pre_hook(whole.nothing, with_kwargs=True).remove)
            for part in site.parts:
                own = [edit for given in edits if given.layer == site.layer and (edit := given.within(part)) is not None]
                if own or whole is not None or replace is not None or graph is not None:
                    stack.callback(part.module.register_forward_pre_hook(make_hook(part, own, whole)).remove)
        yield


class _Rows:
    """Which row of a module's input belongs to which token of the pass."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._name = loaded.ref.architecture
        self._tokens: int | None = None
        self._ran: set[int] = set()

    def begin(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A pass begins: how many tokens a row of its batch has."""
        given = kwargs.get("input_ids", kwargs.get("inputs_embeds", args[0] if args else None))
        if isinstance(given, Tensor):
            self._tokens = int(given.shape[1])
        self._ran.clear()

    def by_token(self, part: Part, acts: Tensor) -> Tensor:
        """The activations as (B, T, I). Raises `UnsupportedModel` where a row's token cannot be told."""
        if id(part) in self._ran:
            raise UnsupportedModel(f"{self._name} runs {part.name} more than once per pass: its neurons have no one activation at a token")
        self._ran.add(id(part))
        tokens = self._tokens
        if acts.dim() == 3 and tokens in (None, acts.shape[1]):
            return acts
        if tokens is not None and acts.dim() >= 2 and (acts.dim() == 2 or acts.shape[0] == 1) and not acts.shape[-2] % tokens:
            return acts.reshape(-1, tokens, acts.shape[-1])
        raise UnsupportedModel(
            f"{self._name}: {part.name} was given {tuple(acts.shape)} in a pass over {tokens} tokens: which row belongs to which token is "
            "not known; this model's neurons cannot be read in such a pass"
        )


class _Whole:
    """Puts the parts of a layer together for a `Record`, once the last of them has run."""

    def __init__(self, site: NeuronSite, record: Record) -> None:
        self._site, self._record = site, record
        self._seen: dict[int, Tensor] = {}

    def add(self, part: Part, acts_BTI: Tensor) -> None:
        self._seen[part.number] = acts_BTI
        if len(self._seen) == len(self._site.parts):
            pieces = [self._seen[number] for number in range(len(self._seen))]
            self._seen.clear()
            self._record(self._site.layer, pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1))

    def nothing(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A layer without neurons: no columns, one row per token."""
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        self._record(self._site.layer, hidden[..., :0])


_watching = threading.local()


def watching() -> Progress | None:
    """What this thread's passes tell how far they are: the innermost `watched`, or None outside all."""
    return getattr(_watching, "progress", None)


@contextmanager
def watched(loaded: LoadedModel, progress: Progress) -> Iterator[None]:
    """Calls `progress` at every layer of every pass that this thread makes in the block; it may raise `Cancelled` there.

    So do backward passes by `runs.backward`. Does not hold the model's lock: between two passes others have their turn. Their passes do
    not see these hooks.
    """
    me, before = threading.get_ident(), watching()

    def make_hook(layer: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, _args: tuple[Any, ...]) -> None:
            if threading.get_ident() == me:
                progress(layer, loaded.n_layers, "running the model")

        return hook

    stack = ExitStack()
    with loaded.lock:  # no pass may run while the hooks change
        for site in loaded.sites:
            if site.parts:
                stack.callback(site.module.register_forward_pre_hook(make_hook(site.layer)).remove)
    _watching.progress = progress
    try:
        yield
    finally:
        _watching.progress = before
        with told_while_waiting(_ignore), loaded.lock:  # a stop must not keep the hooks from coming off
            stack.close()


def _ignore(_before: int) -> None:
    pass


def run_forward(
    loaded: LoadedModel,
    ids_BT: Tensor,
    *,
    edits: Sequence[Edit] = (),
    record: Record | None = None,
    replace: Replace | None = None,
    graph: GraphActs | None = None,
    cache: Any = None,
    start: int = 0,
    logits_to_keep: int = 0,
    grad: bool = False,
    **model_kwargs: Any,
) -> CausalLMOutputWithPast:
    """One pass of the model over `ids_BT` (int64, any device).

    `cache` is a transformers Cache that holds positions before `start`. `logits_to_keep` 0 keeps the logits of all tokens.
    """
    keep: int | Tensor = logits_to_keep
    if logits_to_keep and _trims(loaded):
        keep = torch.arange(max(0, ids_BT.shape[1] - logits_to_keep), ids_BT.shape[1], device=loaded.device)
    if loaded.running.positions:
        given = torch.arange(start, start + ids_BT.shape[1], device=loaded.device).expand(ids_BT.shape)
        model_kwargs.setdefault("position_ids", given)
    with hooked(loaded, edits=edits, record=record, replace=replace, graph=graph, start=start), torch.set_grad_enabled(grad):
        output: CausalLMOutputWithPast = loaded.model(
            input_ids=ids_BT.to(loaded.device),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=keep,
            **model_kwargs,
        )
    return output


def _trims(loaded: LoadedModel) -> bool:
    """Whether the model's upper layers leave out the tokens whose logits are not asked for by a number (Gemma 4's shared keys)."""
    return any(hasattr(module, "first_kv_shared_layer_idx") for module in loaded.model.modules())
