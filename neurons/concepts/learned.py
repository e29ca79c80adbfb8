"""A concept's push, learned: which shift of which neurons makes what the model says when asked about it likely without asking.

It begins at half the difference that texts about the concept make (`concept_steers`), takes in the neurons with the steepest gradients too,
and goes a few steps up the weighted log-probability of the asked answers (`asked`), steered as the steer will be: from the question on,
fading. Shifts are in units of each neuron's own spread.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from neurons.concepts.asked import FORMS, REQUESTS, AskedAnswer, asked_answers
from neurons.concepts.concept_steers import FADE, SCOPE, Direction, used_layers
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.detectors.lexicon import LexiconConcept
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import Record, hooked
from neurons.storage.files import atomic_file, disk_errors

STEPS = 6
RATE = 0.1
"""Adam's, in spreads of a neuron."""
ADDED = 300
"""Neurons beside those of the difference."""
BEGIN = 0.5
"""How much of the difference's unit push stands at the start."""
REST = 0.8
"""Weight of a token beside its gain: keeps the steered answer an answer to its question."""
_RECIPE = 1
"""Counted up when pushes are learned otherwise: kept ones of before are learned anew."""


def learned_push(
    loaded: LoadedModel, concept: LexiconConcept, found: Direction, *, progress: Progress = no_progress
) -> NDArray[np.float32]:
    """The push of a concept at strength 1, (L, I) in activation units, 0 for neurons that are left alone. Learned once per model and kept.

    Raises `InvalidInput` where the model says nothing about it, or no neuron makes the texts likelier.
    """
    said = "\n".join([str(_RECIPE), concept.name, *concept.entry.train, *REQUESTS, *FORMS])
    mark = hashlib.sha256(said.encode()).hexdigest()[:16]
    path = subfolder("steering") / f"push-{loaded.ref.weights_hash[:32]}-{loaded.ref.dtype}-{mark}.npz"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            push_LI = learn(loaded, found, asked_answers(loaded, concept.name, progress=progress), progress=progress)
            with disk_errors(path), atomic_file(path) as stream:
                np.savez_compressed(stream, push=push_LI)
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["push"], dtype=np.float32)


def learn(
    loaded: LoadedModel, found: Direction, asked: Sequence[AskedAnswer], *, steps: int = STEPS, progress: Progress = no_progress
) -> NDArray[np.float32]:
    """The push that `steps` steps lead to, (L, I). Raises `InvalidInput` where no neuron makes the concept's texts likelier."""
    lesson = Lesson(loaded, asked)
    begin_LI = torch.from_numpy(BEGIN * found.unit_push(loaded)).to(loaded.device)
    spread_LI, gradient_LI = lesson.spread_and_gradient(begin_LI)
    taught_LI = (begin_LI != 0) | _largest(gradient_LI.abs() * spread_LI, ADDED)
    shift_LI = torch.zeros_like(begin_LI, requires_grad=True)
    climb = torch.optim.Adam([shift_LI], lr=RATE, betas=(0.8, 0.95))
    for step in range(steps):
        progress(step, steps, "learning what asking for it changes")
        gain = lesson.log_probability(begin_LI + shift_LI * spread_LI * taught_LI)
        (shift_LI.grad,) = torch.autograd.grad(-gain, [shift_LI])
        climb.step()
    progress(steps, steps, "learning what asking for it changes")
    return (begin_LI + shift_LI.detach() * spread_LI * taught_LI).float().cpu().numpy()


def _largest(value_LI: Tensor, most: int) -> Tensor:
    """Where the `most` largest values of the layers in use stand, bool."""
    used_LI = torch.zeros_like(value_LI)
    layers = used_layers(len(value_LI))
    used_LI[layers.start : layers.stop] = value_LI[layers.start : layers.stop]
    return (used_LI >= used_LI.flatten().topk(min(most, used_LI.numel())).values[-1]) & (used_LI > 0)


class Lesson:
    """Asked answers after the requests alone, ready to be scored under a push."""

    def __init__(self, loaded: LoadedModel, asked: Sequence[AskedAnswer]) -> None:
        self._loaded = loaded
        shared = _shared_tokens(asked)
        texts = [(*one.prompt.ids[shared:], *one.ids) for one in asked]
        shape, width = (len(texts), max(map(len, texts))), max(map(len, texts))
        loaded.check_batches("learning from answers", shared + width)
        self._ids_BT = torch.zeros(shape, dtype=torch.long, device=loaded.device)
        self._share_BT1, self._weight_BT = (torch.zeros(shape, device=loaded.device) for _ in range(2))
        for b, (one, text) in enumerate(zip(asked, texts, strict=True)):
            prompt, scope = len(one.prompt.ids), SCOPE.at_question(one.prompt.question)
            places = range(shared, shared + len(text))
            self._ids_BT[b, : len(text)] = torch.tensor(text)
            self._share_BT1[b, : len(text)] = torch.tensor([FADE.at(at, prompt) * scope.covers(at, prompt) for at in places])
            self._weight_BT[b, prompt - shared : len(text)] = torch.tensor(one.gain) + REST
        self._weight_BT /= self._weight_BT.sum()
        self._share_BT1 = self._share_BT1[:, :, None]
        self._begun = _run(loaded, asked[0].prompt.ids[:shared])

    def log_probability(self, push_LI: Tensor, *, record: Record | None = None) -> Tensor:
        """The weighted mean log-probability of the answers' tokens under a push, with its graph."""
        cache: Any = copy.deepcopy(self._begun)
        if cache is not None:
            cache.batch_repeat_interleave(len(self._ids_BT))

        def pushed(part: Part, acts_BTI: Tensor) -> Tensor:
            return acts_BTI + (self._share_BT1 * push_LI[part.layer, part.start : part.stop]).to(acts_BTI.dtype)

        with hooked(self._loaded, replace=pushed, record=record), torch.enable_grad():
            logits_BTV = self._loaded.model(input_ids=self._ids_BT, past_key_values=cache, use_cache=cache is not None).logits
            logp_BT = logits_BTV[:, :-1].float().log_softmax(-1).gather(2, self._ids_BT[:, 1:, None])[..., 0]
            told: Tensor = (logp_BT * self._weight_BT[:, 1:]).sum()
            return told

    def spread_and_gradient(self, push_LI: Tensor) -> tuple[Tensor, Tensor]:
        """Each neuron's standard deviation over the answers' tokens, and the derivative by a shift of it, under a push. (L, I) both."""
        inside_BT = self._weight_BT > 0
        spread_LI = torch.zeros_like(push_LI)

        def keep(layer: int, acts_BTI: Tensor) -> None:
            width = acts_BTI.shape[-1]
            spread_LI[layer, :width] = acts_BTI.detach().float()[inside_BT].std(0)

        here_LI = push_LI.clone().requires_grad_()
        (gradient_LI,) = torch.autograd.grad(self.log_probability(here_LI, record=keep), [here_LI])
        return spread_LI, gradient_LI


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
