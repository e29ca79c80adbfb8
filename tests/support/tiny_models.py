"""Tiny random models of every supported architecture: 3 layers, 32 wide, 259 byte tokens. No network, a few milliseconds each."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from neurons.models.loaded import LoadedModel

BASE: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 258,
}
"""Names as most configurations have them; `ARCHITECTURES` gives what differs."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 16},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8},
    "phi3": {},
    "olmo2": {},
    "granite": {},
    "stablelm": {},
    "falcon": {"new_decoder_architecture": False, "multi_query": True, "parallel_attn": True, "alibi": False, "ffn_hidden_size": 48},
    "gpt2": {"n_embd": 32, "n_inner": 48, "n_layer": 3, "n_head": 4, "n_positions": 512},
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 24},
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "head_dim": 8,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
}
"""Model type -> the configuration's entries that differ from `BASE`."""

WITHOUT_GATE = ("falcon", "gpt2", "gpt_neox")
EXPERTS = ("mixtral", "qwen3_moe", "qwen2_moe")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@cache
def _tokenizer_json() -> str:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(tokenizer_models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer.to_str()


def tiny_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte (ids 0-255), then <|endoftext|> 256 (BOS), <|im_start|> 257, <|im_end|> 258 (EOS). ChatML with `chat`."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json()),
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


def tiny_torch_model(arch: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """The bare transformers model of `arch` (a key of `ARCHITECTURES`), fp32 on the CPU, with the weights of `seed`."""
    config = CONFIG_MAPPING[arch](**{**BASE, **ARCHITECTURES[arch], **overrides})
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            # The usual 0.02 makes neurons so small that a wrong formula would pass; norms and biases get values of their own, too.
            is_norm = weights.dim() == 1 and name.endswith("weight")
            weights.copy_(torch.randn_like(weights) * (0.25 if weights.dim() > 1 else 0.1) + float(is_norm))
    torch.random.set_rng_state(state)
    return model.eval()


def tiny_model(arch: str = "llama", *, seed: int = 0, chat: bool = True, **overrides: Any) -> LoadedModel:
    """A tiny random model of `arch`, wrapped as the engine uses it. Build it per test: it is cheap, and nothing leaks."""
    weights_hash = hashlib.sha256(f"{arch} {seed} {sorted(overrides.items())}".encode()).hexdigest()
    model = tiny_torch_model(arch, seed=seed, **overrides)
    return LoadedModel.wrap(model, tiny_tokenizer(chat=chat), id=f"tiny:{arch}", name=f"tiny {arch}", weights_hash=weights_hash)
