"""What the repair tests ask for."""

from __future__ import annotations

import torch

from neurons.core.types import Message
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.repair.batch import Action
from neurons.repair.spec import RepairSpec, parse_spec
from neurons.runs.hooks import run_forward

PLAN = {(0, 3): Action(0.0), (1, 7): Action(3.0, 0.5), (2, 40): Action(1.0, -1.0)}
GOOD = {
    "prompt": "What is the capital of Turkey?",
    "wanted": "Ankara",
    "unwanted": "Istanbul",
    "paraphrases": ["a?", "b?", "c?"],
    "controls": ["d?"],
}


def wish(loaded: LoadedModel, **more: object) -> RepairSpec:
    """A wish that a random model can be brought to: its second choice instead of its first."""
    ids = encode_prompt(loaded, [Message("user", "What is it?")]).ids
    order = run_forward(loaded, torch.tensor([ids])).logits[0, -1].argsort(descending=True).tolist()
    wanted = next(chr(i) for i in _printable(loaded) if i in order[1:60])
    return parse_spec(
        {
            "prompt": "What is it?",
            "wanted": {"token": wanted},
            "paraphrases": ["Tell me what it is.", "Is it?", "It is what?", "Say it."],
            "controls": ["Hello", "one two", "abc def", "12345"],
            "max_new_tokens": 2,
            "control_tokens": 2,
            **more,
        }
    )


def _printable(loaded: LoadedModel) -> list[int]:
    """Byte values of letters."""
    return [i for i in range(97, 123) if loaded.tokenizer.convert_tokens_to_ids(chr(i)) is not None]
