"""The descriptions of a model's neurons, for a page: none where they cannot be read."""

from __future__ import annotations

from collections.abc import Mapping

from neurons.core.errors import StoreError
from neurons.core.types import ModelRef
from neurons.descriptions.known import known_descriptions


def descriptions_for(ref: ModelRef) -> Mapping[str, str]:
    """Description of each described neuron side by its name such as "17:803+": the user's own, else the atlas's."""
    try:
        return known_descriptions(ref)
    except StoreError:  # the Atlas page says what is wrong with it
        return {}
