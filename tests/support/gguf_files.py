"""A tiny Llama as a GGUF file: weights, tokenizer, position code, as llama.cpp writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.support.tiny_models import tiny_torch_model

_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


Packing = Callable[[NDArray[np.float32]], tuple[NDArray[np.uint8], gguf.GGMLQuantizationType]]


def write_gguf(
    path: Path,
    *,
    scaling: dict[str, object] | None = None,
    freqs: list[float] | None = None,
    ends: int | None = None,
    width: int = 32,
    pack: Packing | None = None,
) -> Path:
    """The tiny Llama (4 heads) as a GGUF file, its rows in llama.cpp's order. `pack` gives an MLP weight's blocks, and their kind."""
    inner = 48 if width == 32 else width
    sizes = {"hidden_size": width, "intermediate_size": inner}
    model = tiny_torch_model("llama", tie_word_embeddings=False, num_key_value_heads=4, **sizes)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(3)
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(width // 4)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    for key, value in (scaling or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_float32)(f"llama.rope.scaling.{key}", value)  # type: ignore[arg-type, operator]
    tokens = [chr(33 + number) if number < 90 else f"t{number}" for number in range(257)] + ["<s>", "</s>"]
    tokens[100] = "ab"
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    if ends is not None:
        writer.add_eot_token_id(ends)
    if freqs is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(freqs, np.float32))
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm"}  # fmt: skip
    for name, value in model.state_dict().items():
        array = value.numpy()
        if name.startswith("model.layers."):
            _, _, number, rest = name.split(".", 3)
            if "q_proj" in rest or "k_proj" in rest:
                array = array.reshape(4, 2, width // 8, width).swapaxes(1, 2).reshape(width, width)
            target = f"blk.{number}.{names[rest.removesuffix('.weight')]}.weight"
        else:
            target = _OUTSIDE[name]
        if pack is not None and ".ffn_" in target and "norm" not in target:
            blocks, kind = pack(np.ascontiguousarray(array))
            writer.add_tensor(target, blocks, raw_dtype=kind)
        else:
            writer.add_tensor(target, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
