"""A tiny random model of any causal-LM class of the installed transformers, from its own configuration made small.

The shrinker knows what sizes are called; `OVERRIDES` has what single classes need besides, by model type.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

LAYERS = 4
VOCABULARY = 259
SIZES: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "word_embed_proj_dim", "embedding_size"), 32),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim", "encoder_ffn_dim", "d_ff", "dff", "d_inner"), 48
    ),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 512),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(
        (
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "shared_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "expert_ffn_hidden_size",
        ),
        24,
    ),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "n_shared_experts", "num_shared_experts"), 1),
    **dict.fromkeys(("head_dim", "global_head_dim", "swa_head_dim", "attention_head_dim", "v_head_dim", "qk_nope_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "hidden_size_per_layer_input"), 16),
    "qk_rope_head_dim": 4,
    "sliding_window": 16,
    "encoder_hash_byte_group_vocab": 64,
}
"""What a size is called, and how small it is made where a configuration has it."""
FILLED = ("head_dim", "num_key_value_heads", "n_routed_experts", "num_experts_per_tok", "n_shared_experts")
"""Sizes that are also given where the configuration leaves them open."""
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 16}
_LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_INDEXED = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
    "hc_lowrank": 8,
    "ngram_vocab_size_base": 64,
    "split_ngram_parts": 1,
    "make_ngram_vocab_size_divisible_by": 8,
}
_FULL_LINEAR = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
_ROUTED = {"num_local_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
_ASSISTANT = {
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "num_kv_shared_layers": LAYERS,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_DOTS3 = {"num_key_value_heads": 4, "shared_experts_intermediate_size": 24, "index_head_dim": 8, "index_n_heads": 2, "index_topk": 64}
_TWO_ROPES = {kinds: {"rope_type": "default", "rope_theta": 1e4} for kinds in ("sliding_attention", "full_attention")}
_BOTH_WAYS = (
    "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta roberta-prelayernorm roc_bert "
    "roformer xlm-roberta xlm-roberta-xl"
)
"""They predict the next token only with `is_decoder`."""
OVERRIDES: dict[str, dict[str, Any]] = {
    **{kind: {"is_decoder": True} for kind in _BOTH_WAYS.split()},
    "bamba": {**_MAMBA, "attn_layer_indices": [1, 3]},
    "bailing_hybrid": {**_ROUTED, "head_dim": 8, "num_key_value_heads": 4, "layer_types": _FULL_LINEAR},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1, "expert_layer_period": 2, "mamba_d_state": 8},
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {"rope_parameters": _TWO_ROPES},
    "dots3_note": {"text_config": _DOTS3},
    "dots3_note_text": _DOTS3,
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "activation_sparsity_pattern": [0.0] * 4,
        "intermediate_size": [48] * 4,
    },
    "gemma4_assistant": {"text_config": ("gemma4_text", _ASSISTANT)},
    "gemma4_unified_assistant": {"text_config": ("gemma4_unified_text", _ASSISTANT)},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 4},
    "granitemoeshared": {"shared_intermediate_size": 24},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention", "mamba", "attention"]},
    "kimi_linear": {**_ROUTED, "linear_head_dim": 8, "linear_num_heads": 4, "layer_types": _FULL_LINEAR},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 8},
    "nemotron_h": {"mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "chunk_size": 16, "n_groups": 1},
    "qwen4_exp": {"text_config": {**_LINEAR, **_INDEXED, "layer_types": _FULL_LINEAR}},
    "qwen4_exp_text": {**_LINEAR, **_INDEXED, "layer_types": _FULL_LINEAR},
    "reformer": {"is_decoder": True},
    "zamba": {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 8, "mamba_dt_rank": 8},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "zamba2": {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "n_mamba_heads": 4, "mamba_d_state": 8, "chunk_size": 16},
}
"""What a model type needs besides, such as the kinds of its four layers."""


def small_config(kind: str, **overrides: Any) -> PreTrainedConfig:
    """The configuration of a model type, made small. Raises what the configuration raises for sizes that do not fit together."""
    return _small(CONFIG_MAPPING[kind], {**OVERRIDES.get(kind, {}), **overrides})


def _small(made: type[PreTrainedConfig], overrides: dict[str, Any]) -> PreTrainedConfig:
    built = {name: _small(CONFIG_MAPPING[given[0]], given[1]) for name, given in overrides.items() if isinstance(given, tuple)}
    default = made(**built)
    given: dict[str, Any] = dict(built)
    for name, value in vars(default).items():
        if isinstance(value, PreTrainedConfig) and name not in built:
            given[name] = _small(type(value), overrides.get(name, {}))
        elif name in SIZES and isinstance(value, int) and not isinstance(value, bool):
            given[name] = min(value, SIZES[name])
        elif name in FILLED and value is None:
            given[name] = SIZES[name]
    own = {name: value for name, value in overrides.items() if not isinstance(given.get(name), PreTrainedConfig)}
    if "qk_rope_head_dim" in given:  # latent attention: its one head width is the rotary part's, and every head has its own keys
        given |= {"head_dim": given["qk_rope_head_dim"], "num_key_value_heads": given["num_attention_heads"]}
    return made(**{**given, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, **own})


def small_model(kind: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """The bare model of a model type, fp32 on the CPU, its weights random and large enough for a wrong formula to show."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(small_config(kind, **overrides), dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() >= 2:
                weights.copy_(torch.randn_like(weights) / weights.shape[-1] ** 0.5)
    return model.eval().requires_grad_(False)
