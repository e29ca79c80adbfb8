"""One line of docs/models.md: a tiny model of a class, by the product and by plain transformers, hooks and autograd of our own."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedModel

from neurons.attribution.attribute import attribute, top_rows
from neurons.attribution.effect import measure_effects
from neurons.attribution.paths import walk
from neurons.checking.loop import FAILS, FLOOR, check_loop
from neurons.core.errors import ModelError, NeuronscopeError
from neurons.core.progress import no_progress
from neurons.core.types import Sampling, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.models.loading_report import check_encoder
from neurons.runs.generation import Generation, generate
from neurons.runs.lens import logit_lens
from tests.support.every_class import small_model
from tests.support.tiny_models import tiny_tokenizer

PROMPT, ANSWER = 24, 5
TOLERANCE = 2e-4
"""Largest error of a line that is right, as a part of the largest number of its kind (log-probabilities: the check's own bound, nats)."""


BUILDING = (AttributeError, ImportError, TypeError, ValueError, AssertionError)
"""What transformers raises for a configuration that its class cannot be built from; loading turns them into a sentence too."""


@dataclass(frozen=True)
class Line:
    """What came out for one class."""

    kind: str
    """The model type of its configuration."""
    name: str
    neurons: int = 0
    errors: tuple[tuple[str, float], ...] = ()
    """The largest error of each figure that was compared."""
    refused: str = ""
    """The sentence, where it is refused."""
    stands_in: str = ""
    """What stands in for the default attribution, if something does."""

    @property
    def wrong(self) -> list[str]:
        """Figures that are off by more than rounding."""
        bounds = {"log-probability": FLOOR}
        return [f"{name} {error:.2g}" for name, error in self.errors if not error <= bounds.get(name, TOLERANCE)]

    @property
    def right(self) -> bool:
        """Whether everything was compared and nothing is off."""
        return not self.refused and not self.wrong


def check_class(kind: str, name: str) -> Line:
    """Build a class and hold it against plain transformers. Only errors that Neuronscope raises on purpose become refusals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            plain = small_model(kind)
        except BUILDING as error:
            return Line(kind, name, refused=f"transformers cannot build it from its configuration: {type(error).__name__}: {error}")
        try:
            check_encoder(kind, CONFIG_MAPPING[kind]())
            loaded = LoadedModel.wrap(copy.deepcopy(plain), tiny_tokenizer(), id=kind, name=kind, weights_hash="0" * 64)
            return _compared(kind, name, loaded, plain)
        except NeuronscopeError as error:
            return Line(kind, name, refused=str(error))


def _compared(kind: str, name: str, loaded: LoadedModel, plain: PreTrainedModel) -> Line:
    prompt = torch.randint(5, 250, (PROMPT,), generator=torch.Generator().manual_seed(1)).tolist()
    ids = [*prompt, *prompt[:ANSWER]]
    last = len(ids) - 1
    try:
        with torch.no_grad():
            logits_TV = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    except FAILS as error:
        return Line(kind, name, refused=f"plain transformers does not run it on a text alone: {type(error).__name__}: {error}")
    taken_T = logits_TV.log_softmax(-1)[torch.arange(last), torch.tensor(ids[1:])].numpy()
    run, off = _answer(loaded, prompt, taken_T)
    said = ""
    if run is None or off > FLOOR:
        loaded, said = _as_checked(loaded)
        run, off = _answer(loaded, prompt, taken_T)
    assert run is not None
    assert run.acts_LTI is not None
    errors = {"log-probability": off}
    target = TargetSpec(last, "logprob")
    ours = attribute(loaded, ids, target, method="grad")
    acts_LTI, wanted_LTI = _by_autograd(plain, loaded, ids[:last], ids[last])
    errors["activation"] = _error(ours.acts_LTI, acts_LTI)
    recorded_LTI = run.acts_LTI[:, :last].astype(np.float32)
    errors["recorded"] = max(0.0, _error(recorded_LTI, acts_LTI) - 1e-3)  # half precision
    errors["gradient"] = _error(ours.attr_LTI, wanted_LTI)
    found = attribute(loaded, ids, target)
    rows = top_rows(ours, 4).rows
    effects = measure_effects(loaded, ids, target, rows).rows
    by_hand = [_ablated(plain, loaded, ids[:last], ids[last], row.layer, row.index, row.token) for row in rows]
    base = float(taken_T[-1])
    spread = max(1e-2, max(abs(base - value) for value in by_hand))
    errors["effect"] = max(abs(effect.effect - (base - value)) / spread for effect, value in zip(effects, by_hand, strict=True))
    top = max(rows, key=lambda row: row.layer)
    walk(loaded, ids, top if top.layer else target, steps=1, width=2)
    said = f"{said} {found.stands_in}".strip()
    try:
        seen = logit_lens(loaded, ids, [last])
        errors["lens"] = float(abs(seen.top_probs_RNK[-1, 0, 0] - logits_TV[last - 1].softmax(-1).max()))
    except NeuronscopeError as error:
        said = f"{said} {error}".strip()
    return Line(kind, name, sum(site.width for site in loaded.sites), tuple(errors.items()), stands_in=said)


def _answer(loaded: LoadedModel, prompt: list[int], taken_T: Any) -> tuple[Generation | None, float]:
    """The forced answer by our loop, and how far its log-probabilities are off, nats."""
    try:
        run = generate(loaded, prompt, sampling=Sampling(max_new_tokens=ANSWER), forced_ids=prompt[:ANSWER])
    except FAILS:
        return None, float("inf")
    return run, float(np.abs(run.logprob_T[1:] - taken_T).max())


def _as_checked(loaded: LoadedModel) -> tuple[LoadedModel, str]:
    """The model run as the check at first load says, and what it says. Raises `ModelError` with the check's refusal."""
    running, findings = check_loop(loaded, no_progress)
    said = " ".join(finding.said for finding in findings)
    if any(finding.status == "refused" for finding in findings):
        raise ModelError(f"{loaded.ref.architecture}: {said}")
    return replace(loaded, running=running), said


def _error(ours: Any, wanted: Any) -> float:
    return float(np.abs(ours - wanted).max() / max(1e-9, np.abs(wanted).max()))


def _by_autograd(plain: PreTrainedModel, loaded: LoadedModel, ids: list[int], token: int) -> tuple[Any, Any]:
    """(activations, activation x gradient of the token's log-probability), (L, T, I): hooks of our own where plain modules have them.

    Routed experts have no module of their own, so theirs are computed from their formula, expert by expert (`_plain_experts`).
    """
    kept: dict[tuple[int, int], Tensor] = {}

    def keep(key: tuple[int, int], acts: Tensor) -> Tensor:
        kept[key] = acts if acts.requires_grad else acts.detach().requires_grad_()
        return kept[key]

    with ExitStack() as stack:
        _hook_parts(stack, plain, loaded, keep)
        with torch.enable_grad():
            metric = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float().log_softmax(-1)[token]
            keys = list(kept)
            grads = dict(zip(keys, torch.autograd.grad(metric, [kept[key] for key in keys], materialize_grads=True), strict=True))
    shape = (loaded.n_layers, len(ids), loaded.n_neurons)
    acts_LTI, attr_LTI = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for site in loaded.sites:
        for part in site.parts:
            act, grad = (x[part.layer, part.number].detach().reshape(-1, part.width).float().numpy() for x in (kept, grads))
            acts_LTI[part.layer, :, part.start : part.stop] = act
            attr_LTI[part.layer, :, part.start : part.stop] = act * grad
    return acts_LTI, attr_LTI


@torch.no_grad()
def _ablated(plain: PreTrainedModel, loaded: LoadedModel, ids: list[int], token: int, layer: int, index: int, at: int) -> float:
    """The token's log-probability with one neuron at 0 at one token, by a whole pass of plain transformers."""
    part = loaded.sites[layer].part_of(index)

    def zero(key: tuple[int, int], acts: Tensor) -> Tensor:
        if key != (part.layer, part.number):
            return acts
        flat = acts.clone().reshape(-1, acts.shape[-1])
        flat[at, index - part.start] = 0.0
        return flat.reshape(acts.shape)

    with ExitStack() as stack:
        _hook_parts(stack, plain, loaded, zero)
        return float(plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float().log_softmax(-1)[token])


def _hook_parts(stack: ExitStack, plain: PreTrainedModel, loaded: LoadedModel, change: Any) -> None:
    for site in loaded.sites:
        for part in site.parts:
            key = (part.layer, part.number)
            if part.experts is None:
                module = plain.get_submodule(part.name)
                hook = lambda _module, args, key=key: (change(key, args[0]), *args[1:])  # noqa: E731
                stack.callback(module.register_forward_pre_hook(hook).remove)
            else:
                stack.enter_context(_plain_experts(plain.get_submodule(part.name.rpartition(".")[0]), key, change))


@contextmanager
def _plain_experts(module: Any, key: tuple[int, int], change: Any) -> Iterator[None]:
    """Experts as transformers' own loop writes them down, their channels side by side given to `change` in between."""

    def forward(hidden: Tensor, index: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        if index is None:  # Llama 4: every expert on its own copy of the tokens
            copies = hidden.view(module.num_experts, -1, module.hidden_size)
            gate, up = (copies @ module.gate_up_proj).chunk(2, dim=-1)
            acts = change(key, torch.cat(list(up * module.act_fn(gate)), dim=-1)).view(copies.shape[1], module.num_experts, -1)
            return torch.cat([acts[:, e] @ module.down_proj[e] for e in range(module.num_experts)])
        assert weights is not None
        flip = bool(module.is_transposed)
        name = "gate_up_proj" if module.has_gate else "up_proj"
        columns, masks = [], []
        for e in range(module.num_experts):
            weight = getattr(module, name)[e]
            read = hidden @ (weight if flip else weight.T)
            read = read + getattr(module, f"{name}_bias")[e] if module.has_bias else read
            mask = ((index == e) * weights).sum(-1, keepdim=True)
            chosen = (index == e).any(-1, keepdim=True)
            acts = module._apply_gate(read) if module.has_gate else module.act_fn(read)
            columns.append(torch.where(chosen, acts, torch.zeros_like(acts)))
            masks.append(mask * chosen)
        acts = change(key, torch.cat(columns, dim=-1)).view(len(hidden), module.num_experts, -1)
        out = torch.zeros_like(hidden)
        for e in range(module.num_experts):
            weight = module.down_proj[e]
            written = acts[:, e] @ (weight if flip else weight.T)
            written = written + module.down_proj_bias[e] if module.has_bias else written
            written = module.post_expert_norm(written) if module.has_post_expert_norm else written
            out = out + written * masks[e]
        return out

    module.forward = forward
    try:
        yield
    finally:
        if "forward" in vars(module):
            del module.forward
