"""Whether a model's configuration can be that of its files, before anything of its size is built: lying numbers cost hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neurons.core.errors import ModelError

MOST_LAYERS = 2_000
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_encoder_layers", "num_decoder_layers", "block_count")
_WIDTHS = (
    "hidden_size",
    "n_embd",
    "d_model",
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "ffn_hidden_size",
    "moe_intermediate_size",
    "vocab_size",
    "embedding_length",
    "feed_forward_length",
    "num_attention_heads",
    "n_head",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
)
_MOST_WIDE = 20_000_000
_PER_BYTE = 6
"""Weights that a byte of a file may hold: the smallest quantisations have a little over 5."""
_SPARE = 20_000_000
_NEVER_NEGATIVE = (*_LAYERS, *_WIDTHS)
_MAY_BE_NONE = ("n_inner",)
_NEVER_ZERO = (*_LAYERS, "hidden_size", "n_embd", "d_model", "vocab_size", "embedding_length", "num_attention_heads", "n_head")
"""As one number for the whole model; in a list, single layers may have no heads."""


def check_numbers(where: str, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` naming the field of `where` whose number no model has: layers, widths, heads, experts, vocabulary."""
    for name, value in _fields(config):
        short = name.rpartition(".")[2]
        if short not in _NEVER_NEGATIVE or (value is None and short in _MAY_BE_NONE):
            continue
        counts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        most = MOST_LAYERS if short in _LAYERS else _MOST_WIDE
        least = 1 if short in _NEVER_ZERO and counts is not value else 0
        for count in counts[:MOST_LAYERS]:
            if count is None:
                continue
            if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
                shown = str(count) if not isinstance(count, int) or abs(count) < 10**30 else "a number of more than 30 digits"
                raise ModelError(f"{where}: {name} is {' '.join(shown.split())[:60]}; it has to be a whole number from {least} to {most:,}")


def check_longest(tokenizer: Any) -> None:
    """Raise `ModelError` where the longest text that the tokenizer takes is no number: it is compared with each text's length."""
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest > 0:
        shown = " ".join(str(longest).split())[:60]
        raise ModelError(f"tokenizer_config.json: model_max_length is {shown}; it has to be a number above 0")


def check_size(where: str, model: Any, file_bytes: int) -> None:
    """Raise `ModelError` where `model`, built without memory, has far more weights than its files can hold."""
    wanted = sum(int(tensor.numel()) for tensor in model.parameters())
    if wanted > _PER_BYTE * file_bytes + _SPARE:
        raise ModelError(
            f"{where} describes a model of {wanted / 1e6:,.0f} million weights, but its files hold {file_bytes:,} bytes; "
            "mend its sizes (hidden_size, vocab_size, num_hidden_layers...), or fetch the model again"
        )


def _fields(config: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            if depth < 3:
                yield from _fields(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value
