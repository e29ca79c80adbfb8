"""A concept strengthened or suppressed in the whole model, from texts about it.

For every neuron: D, its mean activation in texts about the concept less that in neutral ones, and g, the derivative of the texts' mean
log-probability by a shift of the neuron, less that of neutral ones. g x D says how much of the concept's likelihood a neuron's difference
brings. Suppress caps the neurons with the largest g x D at their neutral mean. Strengthen adds a push that is learned (`learned`), from the
question's start to where the answer begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.concepts.readings import Readings, neutral_readings, read_answers
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Fade, Steer, TokenScope
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel

SUPPRESSED = 600
FIRST, LAST = 4 / 30, 27 / 30
"""The layers that are used, as shares of the model's depth: token spelling stands below, the next token above."""
FADE = Fade(0, 0.0)
"""Of a strengthened concept: nothing is pushed while the answer is written."""
SCOPE = TokenScope("from question")


@dataclass(frozen=True, eq=False)
class Direction:
    """What a concept is in one model's neurons."""

    difference_LI: NDArray[np.float32]
    """D, in activation units."""
    gain_LI: NDArray[np.float32]
    """g x D, in nats per token; -inf outside the layers that are used."""
    neutral_LI: NDArray[np.float32]
    """Mean activation in neutral texts."""
    residual_L: NDArray[np.float32]

    def best(self, most: int) -> list[tuple[int, int]]:
        """(layer, index) of the neurons with the largest gain, largest first. Raises `InvalidInput` where none gains anything."""
        order = np.argsort(-self.gain_LI, axis=None, kind="stable")[:most]
        places = [divmod(int(place), self.gain_LI.shape[1]) for place in order]
        gaining = [place for place in places if self.gain_LI[place] > 0]
        if not gaining:
            raise InvalidInput("no neuron of this model makes these texts likelier; give other texts", field="texts")
        return gaining


def direction(loaded: LoadedModel, texts: Sequence[str], *, progress: Progress = no_progress) -> Direction:
    """From texts about a concept, as a person or the model might say them. Raises `InvalidInput` for none, or one that is too short."""
    if len(texts) < 2:
        raise InvalidInput("at least 2 texts about the concept are needed (6 or more work better)", field="texts")
    neutral = neutral_readings(loaded, progress=progress)
    return between(read_answers(loaded, texts, progress=progress), neutral)


def between(about: Readings, neutral: Readings) -> Direction:
    """What the texts about a concept have over the neutral ones."""
    difference_LI = about.mean_LI - neutral.mean_LI
    gain_LI = (about.gradient_LI - neutral.gradient_LI) * difference_LI
    layers = used_layers(len(gain_LI))
    gain_LI[: layers.start] = gain_LI[layers.stop :] = -np.inf
    return Direction(difference_LI, gain_LI, neutral.mean_LI, neutral.residual_L)


def used_layers(layers: int) -> range:
    """The layers whose neurons are steered."""
    return range(round(FIRST * layers), max(round(LAST * layers), 1))


def strengthen(loaded: LoadedModel, push_LI: NDArray[np.float32], *, strength: float, name: str, tokens: TokenScope = SCOPE) -> Steer:
    """Mode add: the push, fading; the neurons that write most come first. Raises `InvalidInput` for a push of no neuron."""
    written_LI = np.abs(push_LI)
    for site in loaded.sites:
        written_LI[site.layer, : site.width] *= site.output_norms.cpu().numpy()
    order = np.argsort(-written_LI, axis=None, kind="stable")[: int((push_LI != 0).sum())]
    places: list[tuple[int, int]] = [divmod(int(place), loaded.n_neurons) for place in order]
    if not places:
        raise InvalidInput("the push moves no neuron", field="concept")
    values = tuple(float(push_LI[place]) for place in places)
    sides = tuple(NeuronSide(*place, "+" if value >= 0 else "-") for place, value in zip(places, values, strict=True))
    return Steer(sides, "add", strength, tokens, name, values=values, fade=FADE).check()


def suppress(found: Direction, *, name: str, neurons: int = SUPPRESSED, tokens: TokenScope = SCOPE) -> Steer:
    """Mode cap: the concept's neurons go no further its way than in neutral texts. Raises `InvalidInput` where none would help."""
    places = found.best(neurons)
    sides = tuple(NeuronSide(*place, "+" if found.difference_LI[place] >= 0 else "-") for place in places)
    return Steer(sides, "cap", 1.0, tokens, name, values=tuple(float(found.neutral_LI[place]) for place in places)).check()
