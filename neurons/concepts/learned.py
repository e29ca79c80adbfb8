"""A concept's push, learned: which shift of which neurons, at the question, makes the model go on as if it had been asked about it.

Distillation of an instruction into neurons: at every token of the model's own asked answers (`asked`), the steered model without the asking
comes closer to the unsteered model with it, in Kullback-Leibler divergence over the whole vocabulary. The push acts from the question's
start to where the answer begins and leaves the answer's own tokens alone, so that they read as the model writes. It takes the neurons with
the steepest gradients; shifts are in units of each neuron's own spread.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from neurons.concepts.asked import FORMS, REQUESTS, AskedAnswer, asked_answers
from neurons.concepts.concept_steers import FADE, SCOPE, used_layers
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.detectors.lexicon import LexiconConcept
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import Record, hooked
from neurons.storage.files import atomic_file, disk_errors

STEPS = 36
"""Each looks at one batch of answers."""
BATCH = 4
RATE = 0.3
"""Adam's at its highest, in spreads of a neuron: it grows over the first steps and falls to a fifth."""
GROWING = 5
NEURONS = 2500
GUIDE = 0.5
"""How much further than the asking itself the answers are led, in shares of what the asking does to each log-probability (guidance)."""
MOST_GUIDED = 4.0
"""Nats of a log-probability that guidance looks at."""
_RECIPE = 2
"""Counted up when pushes are learned otherwise: kept ones of before are learned anew."""


def learned_push(loaded: LoadedModel, concept: LexiconConcept, *, progress: Progress = no_progress) -> NDArray[np.float32]:
    """The push of a concept at strength 1, (L, I) in activation units, 0 for neurons that are left alone. Learned once per model and kept.

    Raises `InvalidInput` where the model says nothing about it.
    """
    said = "\n".join([str(_RECIPE), concept.name, *REQUESTS, *FORMS])
    mark = hashlib.sha256(said.encode()).hexdigest()[:16]
    path = subfolder("steering") / f"push-{loaded.ref.weights_hash[:32]}-{loaded.ref.dtype}-{mark}.npz"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            push_LI = learn(loaded, asked_answers(loaded, concept.name, progress=progress), progress=progress)
            with disk_errors(path), atomic_file(path) as stream:
                np.savez_compressed(stream, push=push_LI)
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["push"], dtype=np.float32)


def learn(
    loaded: LoadedModel, asked: Sequence[AskedAnswer], *, steps: int = STEPS, neurons: int = NEURONS, progress: Progress = no_progress
) -> NDArray[np.float32]:
    """The push that `steps` steps lead to, (L, I), at most `neurons` of it not 0."""
    lessons = [Lesson(loaded, batch) for batch in _batches(asked)]
    nothing_LI = torch.zeros(loaded.n_layers, loaded.n_neurons, device=loaded.device)
    read = [lesson.spread_and_gradient(nothing_LI) for lesson in lessons]
    spread_LI, gradient_LI = (torch.stack([one[n] for one in read]).mean(0) for n in range(2))
    unit_LI = spread_LI * _largest(gradient_LI.abs() * spread_LI, neurons)
    shift_LI = torch.zeros_like(nothing_LI, requires_grad=True)
    descent = torch.optim.Adam([shift_LI], betas=(0.8, 0.95))
    for step in range(steps):
        progress(step, steps, "learning what asking for it changes")
        descent.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / GROWING) * (1 - 0.8 * step / steps)
        (shift_LI.grad,) = torch.autograd.grad(lessons[step % len(lessons)].divergence(shift_LI * unit_LI), [shift_LI])
        descent.step()
    progress(steps, steps, "learning what asking for it changes")
    return (shift_LI.detach() * unit_LI).float().cpu().numpy()


def _batches(asked: Sequence[AskedAnswer]) -> Iterator[Sequence[AskedAnswer]]:
    """About `BATCH` answers each, of all kinds of requests."""
    count = max(1, len(asked) // BATCH)
    for first in range(count):
        yield asked[first::count]


def _largest(value_LI: Tensor, most: int) -> Tensor:
    """Where the `most` largest values of the layers in use stand, bool."""
    used_LI = torch.zeros_like(value_LI)
    layers = used_layers(len(value_LI))
    used_LI[layers.start : layers.stop] = value_LI[layers.start : layers.stop]
    return (used_LI >= used_LI.flatten().topk(min(most, used_LI.numel())).values[-1]) & (used_LI > 0)


class Lesson:
    """Some asked answers after the requests alone, and how the model goes on in them with the asking. T answer tokens in all."""

    def __init__(self, loaded: LoadedModel, asked: Sequence[AskedAnswer]) -> None:
        self._loaded = loaded
        shared = _shared_tokens(asked)
        texts = [(*one.prompt.ids[shared:], *one.ids) for one in asked]
        width = max(map(len, texts))
        loaded.check_batches("learning from answers", shared + width)
        self._ids_BT = torch.zeros((len(texts), width), dtype=torch.long, device=loaded.device)
        self._share_BT1 = torch.zeros((len(texts), width, 1), device=loaded.device)
        for b, (one, text) in enumerate(zip(asked, texts, strict=True)):
            prompt, scope = len(one.prompt.ids), SCOPE.at_question(one.prompt.question)
            places = range(shared, shared + len(text))
            self._ids_BT[b, : len(text)] = torch.tensor(text)
            self._share_BT1[b, : len(text), 0] = torch.tensor([FADE.at(at, prompt) * scope.covers(at, prompt) for at in places])
        self._places = [(b, len(one.prompt.ids) - shared, len(one.ids)) for b, one in enumerate(asked)]
        self._begun = _run(loaded, asked[0].prompt.ids[:shared])
        self._aim_TV = self._aim(asked)

    def _aim(self, asked: Sequence[AskedAnswer]) -> Tensor:
        """The log-probabilities to come to, (T, V) in half precision: those with the asking, led on by `GUIDE`."""
        texts = [(*one.asking.ids, *one.ids) for one in asked]
        ids_BT = torch.zeros((len(texts), max(map(len, texts))), dtype=torch.long, device=self._loaded.device)
        for b, text in enumerate(texts):
            ids_BT[b, : len(text)] = torch.tensor(text)
        with hooked(self._loaded), torch.no_grad():
            logits_BTV = self._loaded.model(input_ids=ids_BT, use_cache=False).logits
            with_it_TV = _after(logits_BTV, [(b, len(one.asking.ids), len(one.ids)) for b, one in enumerate(asked)])
            without_TV = self.log_probabilities(torch.zeros(self._loaded.n_layers, self._loaded.n_neurons, device=self._loaded.device))
        led_TV = with_it_TV + GUIDE * (with_it_TV - without_TV).clamp(-MOST_GUIDED, MOST_GUIDED)
        return led_TV.log_softmax(-1).half()

    def log_probabilities(self, push_LI: Tensor, *, record: Record | None = None) -> Tensor:
        """Of the whole vocabulary before each token of the answers under a push, (T, V) float32, with its graph."""
        cache: Any = copy.deepcopy(self._begun)
        if cache is not None:
            cache.batch_repeat_interleave(len(self._ids_BT))

        def pushed(part: Part, acts_BTI: Tensor) -> Tensor:
            return acts_BTI + (self._share_BT1 * push_LI[part.layer, part.start : part.stop]).to(acts_BTI.dtype)

        with hooked(self._loaded, replace=pushed, record=record), torch.set_grad_enabled(push_LI.requires_grad):
            logits_BTV = self._loaded.model(input_ids=self._ids_BT, past_key_values=cache, use_cache=cache is not None).logits
            return _after(logits_BTV, self._places)

    def divergence(self, push_LI: Tensor, *, record: Record | None = None) -> Tensor:
        """The mean Kullback-Leibler divergence of what the model says under a push from the aim, nats per token, with its graph."""
        aim_TV = self._aim_TV.float()
        told: Tensor = (aim_TV.exp() * (aim_TV - self.log_probabilities(push_LI, record=record))).sum(-1).mean()
        return told

    def spread_and_gradient(self, push_LI: Tensor) -> tuple[Tensor, Tensor]:
        """Each neuron's standard deviation over the tokens that are pushed, and the divergence's derivative by a shift. (L, I) both."""
        inside_BT = self._share_BT1[..., 0] > 0
        spread_LI = torch.zeros_like(push_LI)

        def keep(layer: int, acts_BTI: Tensor) -> None:
            width = acts_BTI.shape[-1]
            spread_LI[layer, :width] = acts_BTI.detach().float()[inside_BT].std(0)

        here_LI = push_LI.clone().requires_grad_()
        (gradient_LI,) = torch.autograd.grad(self.divergence(here_LI, record=keep), [here_LI])
        return spread_LI, gradient_LI


def _after(logits_BTV: Tensor, places: Sequence[tuple[int, int, int]]) -> Tensor:
    """Log-probabilities before each token of the answers, (T, V) float32; `places` are (row, start of its answer, tokens of it)."""
    return torch.cat([logits_BTV[b, start - 1 : start - 1 + count] for b, start, count in places]).float().log_softmax(-1)


def _shared_tokens(asked: Sequence[AskedAnswer]) -> int:
    """How many tokens all prompts begin with before their questions."""
    first = min(one.prompt.question[0] if one.prompt.question else 0 for one in asked)
    columns = zip(*(one.prompt.ids[:first] for one in asked), strict=True)
    return next((n for n, column in enumerate(columns) if len(set(column)) > 1), first)


def _run(loaded: LoadedModel, ids: Sequence[int]) -> DynamicCache | None:
    """The cache after these tokens; None for none."""
    if not ids:
        return None
    cache = DynamicCache(config=loaded.model.config)
    with loaded.lock, torch.no_grad():
        loaded.model.base_model(input_ids=torch.tensor([ids], device=loaded.device), past_key_values=cache, use_cache=True)
    return cache
