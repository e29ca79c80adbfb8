"""The headlines of a model's neurons, for a page: none where they cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from neurons.core.errors import StoreError
from neurons.core.types import ModelRef
from neurons.descriptions.known import known_headlines


def headlines_for(ref: ModelRef) -> Mapping[str, str]:
    """Headline of each described neuron side by its name such as "17:803+": the user's own text, else the atlas's."""
    try:
        return known_headlines(ref)
    except StoreError:  # the Atlas page says what is wrong with it
        return {}


def headlines_of(ref: ModelRef, names: Iterable[str]) -> list[str]:
    """The headline of each neuron named "17:803+", "" where there is none."""
    known = headlines_for(ref)
    return [known.get(name, "") for name in names]
