"""What a model's generation config asks for whatever the sampling: penalties and suppressed tokens. Offered; said when ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import (
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from neurons.core.types import FOLLOWED, Follow, Sampling
from neurons.models.loaded import LoadedModel

ASKED = (
    *FOLLOWED,
    "encoder_repetition_penalty",
    "bad_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_new_tokens",
    "min_length",
    "exponential_decay_length_penalty",
    "sequence_bias",
    "guidance_scale",
    "num_beams",
)
"""Settings of a generation config that change what `generate` takes as the next token."""
_NEUTRAL: tuple[Any, ...] = (None, 0, 1, 1.0, [], {}, False)


def asked_by(loaded: LoadedModel) -> dict[str, Any]:
    """The settings that the model's files ask for, by name, those that cannot be followed here among them."""
    config: Any = loaded.model.generation_config
    return {name: value for name in ASKED if (value := getattr(config, name, None)) not in _NEUTRAL} if config else {}


def offered_by(loaded: LoadedModel) -> Follow:
    """Those that can be followed here, as `Sampling.follow` holds them."""
    asked = asked_by(loaded)
    return tuple((name, tuple(asked[name]) if isinstance(asked[name], list | tuple) else asked[name]) for name in FOLLOWED if name in asked)


def ignored_by(loaded: LoadedModel, sampling: Sampling) -> str:
    """A sentence on what the model's files ask for and these settings do not follow; "" where there is nothing."""
    followed = dict(sampling.follow)
    left = {name: value for name, value in asked_by(loaded).items() if name not in followed}
    if not left:
        return ""
    shown = ", ".join(f"{name} {str(value)[:40]}" for name, value in left.items())
    return f"the model's files ask for {shown}, which is not followed"


def processors(follow: Follow, *, prompt_tokens: int) -> list[Any]:
    """transformers' own processors of the scores, in the order in which `generate` applies them."""
    given = dict(follow)
    made: list[Any] = []
    if "repetition_penalty" in given:
        made.append(RepetitionPenaltyLogitsProcessor(penalty=float(given["repetition_penalty"])))  # type: ignore[arg-type]
    if "no_repeat_ngram_size" in given:
        made.append(NoRepeatNGramLogitsProcessor(int(given["no_repeat_ngram_size"])))  # type: ignore[arg-type]
    if "suppress_tokens" in given:
        made.append(SuppressTokensLogitsProcessor(_ids(given["suppress_tokens"])))
    if "begin_suppress_tokens" in given:
        made.append(SuppressTokensAtBeginLogitsProcessor(_ids(given["begin_suppress_tokens"]), prompt_tokens))
    return made


def _ids(value: float | Sequence[int]) -> list[int]:
    return [int(value)] if isinstance(value, int | float) else [int(token) for token in value]
