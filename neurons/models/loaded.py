"""A model in memory, with its tokenizer, its neurons and the one lock that guards its forward passes."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neurons.core.errors import InvalidInput, UnsupportedModel
from neurons.core.turns import Turns
from neurons.core.types import Environment, ExpertSide, ModelRef, NeuronSide
from neurons.core.version import __version__
from neurons.models.findings import USUAL, Finding, Running
from neurons.models.sites import NeuronSite, find_sites

_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
"""What configurations call the longest text; MPT's biases end at its `max_seq_len`."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A frozen model ready to run. Shared by every session of a server; `lock` goes around hooks + forward."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: ModelRef
    sites: tuple[NeuronSite, ...]
    """One per layer, in order."""
    lock: Turns = field(default_factory=Turns)
    findings: tuple[Finding, ...] = ()
    """What loading found, and the check after it."""
    running: Running = USUAL
    """How it has to be run, as the check found."""
    cached: dict[str, Any] = field(default_factory=dict)
    """What others leave with the model for their next call, under `lock`; it goes with the model, so it must not refer to it."""

    @classmethod
    def wrap(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        id: str,
        name: str,
        weights_hash: str,
        findings: tuple[Finding, ...] = (),
    ) -> LoadedModel:
        """Freeze `model` and find its neurons. Raises `UnsupportedModel` where they are not found."""
        model.train(False).requires_grad_(False)
        sites = find_sites(model)
        config: Any = model.config.get_text_config()
        ref = ModelRef(
            id=id,
            name=name,
            architecture=type(model).__name__,
            weights_hash=weights_hash,
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            n_layers=len(sites),
            n_neurons=max(site.width for site in sites),
            n_vocab=int(config.vocab_size),
            max_positions=next((int(value) for name in _POSITIONS if (value := getattr(config, name, None))), 1_000_000),
        )
        return cls(model, tokenizer, ref, sites, findings=findings)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def n_layers(self) -> int:
        return self.ref.n_layers

    @property
    def n_neurons(self) -> int:
        """Neurons of the widest layer: the length of the I axis. Narrower layers are padded with zeros."""
        return self.ref.n_neurons

    @property
    def has_chat_template(self) -> bool:
        """False for a base model: its prompt is completed as plain text."""
        return bool(self.tokenizer.chat_template)

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end an answer, from the generation config and the tokenizer."""
        configured: Any = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = list(configured) if isinstance(configured, list | tuple) else [configured]
        return frozenset(int(i) for i in [*ids, self.tokenizer.eos_token_id] if i is not None)

    def side(self, side: NeuronSide) -> NeuronSide:
        """The neuron in the one form, numbered through its layer: `0:e2/35` is `0:83` where experts have 24. Raises `InvalidInput`."""
        if not isinstance(side, ExpertSide):
            return side
        if side.layer < self.n_layers:
            try:
                index = self.sites[side.layer].index_of(f"{side.within}/{side.index}")
            except LookupError:
                pass
            else:
                return NeuronSide(side.layer, index, side.polarity)
        raise InvalidInput(f"{self.ref.name} has no neuron {side}", field="neurons")

    def check_neuron(self, side: NeuronSide) -> None:
        """Raises `InvalidInput` for a neuron that the model does not have."""
        if not 0 <= side.layer < self.n_layers:
            raise InvalidInput(f"{self.ref.name} has no neuron {side}: its layers are 0 to {self.n_layers - 1}", field="neuron")
        if not 0 <= side.index < (width := self.sites[side.layer].width):
            raise InvalidInput(f"{self.ref.name} has no neuron {side}: layer {side.layer} has 0 to {width - 1}", field="neuron")

    def check_batches(self, what: str, tokens: int) -> None:
        """Raises `UnsupportedModel` where prompts of up to `tokens` tokens cannot be run together, which `what` needs."""
        if not self.running.batches(tokens):
            raise UnsupportedModel(
                f"{what} runs prompts of different lengths together, with a cache, and the check of {self.ref.name} found that it cannot "
                "be run so; use another model"
            )

    def require(self, weights_hash: str, what: str, precision: str = "") -> None:
        """Raises `InvalidInput` where `what` was begun with other weights or numbers than these: its parts would not belong together."""
        if weights_hash and weights_hash != self.ref.weights_hash:
            raise InvalidInput(
                f"{what} was begun with other weights ({weights_hash[:12]}) than those of {self.ref.name} that are loaded now "
                f"({self.ref.weights_hash[:12]}); load that model and resume",
                field="model",
            )
        if precision and precision != self.ref.dtype:
            raise InvalidInput(
                f"{what} was begun in {precision}, and {self.ref.name} is {self.ref.dtype} now; load it in {precision} and resume",
                field="dtype",
            )

    def environment(self) -> Environment:
        """What may change the numbers of a run on this machine."""
        return Environment(
            neuronscope=__version__,
            torch=torch.__version__,
            transformers=transformers.__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            threads=torch.get_num_threads(),
            dtype=self.ref.dtype,
            device=torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.ref.device,
        )
