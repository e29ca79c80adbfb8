"""What is known of neurons in words: the descriptions of the model's atlas, where there is one."""

from __future__ import annotations

from collections.abc import Mapping

from neurons.types import ModelRef, NeuronSide


def descriptions_for(ref: ModelRef) -> Mapping[NeuronSide, str]:
    """Description of each described neuron side of a model; empty without an atlas."""
    return {}
