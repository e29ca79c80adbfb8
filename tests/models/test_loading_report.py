# ruff: noqa: E501
"""Files that do not make the model they name are refused, naming the tensors; a GGUF file's positions are those of its header."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForConditionalGeneration

from neurons.core.errors import ModelError, UnsupportedModel
from neurons.models.load import load_model
from neurons.runs.hooks import run_forward
from tests.support.gguf_files import write_gguf
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    path = tmp_path / "tiny"
    tiny_torch_model("llama", tie_word_embeddings=False).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def change(folder: Path, tensors: Callable[[Tensors], Tensors] | None = None, **config: object) -> None:
    if tensors is not None:
        save_file(tensors(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **config}))


def test_a_whole_model_is_right(folder: Path) -> None:
    (finding,) = load_model(str(folder), device="cpu").findings
    assert (finding.what, finding.status) == ("weights", "right")


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change(folder, lambda tensors: {name: value for name, value in tensors.items() if name != "lm_head.weight"})
    with pytest.raises(ModelError, match=r"lack 1 of the model's tensors \(lm_head.weight\), which would be random numbers"):
        load_model(str(folder), device="cpu")


def test_tied_weights_are_not_missing(folder: Path) -> None:
    change(folder, lambda tensors: {n: v for n, v in tensors.items() if n != "lm_head.weight"}, tie_word_embeddings=True)
    assert load_model(str(folder), device="cpu").findings[0].status == "right"


def test_more_or_fewer_layers_than_the_files_hold(folder: Path) -> None:
    change(folder, num_hidden_layers=4)
    with pytest.raises(ModelError, match=r"lack 9 .*model\.layers\.3\."):
        load_model(str(folder), device="cpu")
    change(folder, num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"9 tensors of the files are read by nothing .*model\.layers\.2\."):
        load_model(str(folder), device="cpu")


def test_another_shape_is_named(folder: Path) -> None:
    change(folder, lambda tensors: {**tensors, "model.norm.weight": torch.zeros(31)})
    with pytest.raises(ModelError, match=r"model\.norm\.weight has another shape \(\[31\] in the files, \[32\] in the model\)"):
        load_model(str(folder), device="cpu")


def test_an_unread_bias_is_named(folder: Path) -> None:
    change(folder, lambda tensors: {**tensors, "model.layers.0.self_attn.q_proj.bias": torch.ones(32)})
    with pytest.raises(ModelError, match=r"q_proj\.bias"):
        load_model(str(folder), device="cpu")


def test_what_lies_outside_the_decoder_is_said(folder: Path) -> None:
    change(folder, lambda tensors: {**tensors, "vision_tower.patch.weight": torch.ones(3), "v_head.summary.weight": torch.ones(2)})
    (finding,) = load_model(str(folder), device="cpu").findings
    assert finding.status == "note"
    assert "v_head.summary, vision_tower.patch" in finding.said


def test_constants_that_old_files_hold_do_not_matter(folder: Path) -> None:
    change(folder, lambda tensors: {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    assert load_model(str(folder), device="cpu").findings[0].status == "right"


def test_a_shard_that_the_index_does_not_name(tmp_path: Path, home: Path) -> None:
    sharded = tmp_path / "sharded"
    tiny_torch_model("llama").save_pretrained(sharded, max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(sharded)
    assert load_model(str(sharded), device="cpu").findings[0].status == "right"
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    last = max(index["weight_map"].values())
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != last}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=f"{last} .* would not be read"):
        load_model(str(sharded), device="cpu")


def test_an_encoder_decoder_is_refused(tmp_path: Path, home: Path) -> None:
    config = BartConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, vocab_size=259,
                        encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=64)  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path / "bart")
    tiny_tokenizer().save_pretrained(tmp_path / "bart")
    with pytest.raises(ModelError, match="is an encoder-decoder"):
        load_model(str(tmp_path / "bart"), device="cpu")


IDS = torch.arange(40, 80)[None]


def logits(loaded: object) -> torch.Tensor:
    found = run_forward(loaded, IDS).logits  # type: ignore[arg-type]
    assert found is not None
    return found


def plain(**rope: object) -> torch.Tensor:
    parameters = {"rope_theta": 10000.0, "rope_type": "default", **rope}
    model = tiny_torch_model("llama", tie_word_embeddings=False, num_key_value_heads=4, rope_parameters=parameters)
    with torch.no_grad():
        return model(IDS, use_cache=False).logits


def test_a_plain_gguf_file(tmp_path: Path, home: Path) -> None:
    loaded = load_model(str(write_gguf(tmp_path / "plain.gguf")), device="cpu")
    torch.testing.assert_close(logits(loaded), plain(), rtol=1e-4, atol=1e-4)
    assert [finding.status for finding in loaded.findings] == ["right", "right"]


def test_linear_scaling_in_the_header(tmp_path: Path, home: Path) -> None:
    loaded = load_model(str(write_gguf(tmp_path / "linear.gguf", scaling={"type": "linear", "factor": 4.0})), device="cpu")
    torch.testing.assert_close(logits(loaded), plain(rope_type="linear", factor=4.0), rtol=1e-4, atol=1e-4)
    assert (logits(loaded) - plain()).abs().max() > 0.01
    assert loaded.findings[1].status == "otherwise"


def test_the_tensor_of_llama_3_1(tmp_path: Path, home: Path) -> None:
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    model = tiny_torch_model("llama", num_key_value_heads=4, rope_parameters={"rope_theta": 10000.0, **llama3})
    base = 1 / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    freqs = (base / model.model.rotary_emb.inv_freq).tolist()
    assert max(freqs) > 2
    loaded = load_model(str(write_gguf(tmp_path / "llama31.gguf", freqs=freqs)), device="cpu")
    torch.testing.assert_close(logits(loaded), plain(**llama3), rtol=1e-4, atol=1e-4)
    assert "rope_freqs" in loaded.findings[1].said


def test_positions_that_cannot_be_applied_are_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(UnsupportedModel, match="cannot be applied"):
        load_model(str(write_gguf(tmp_path / "wrong.gguf", freqs=[1.0, 2.0])), device="cpu")
    with pytest.raises(UnsupportedModel, match="scales its positions by 'strange'"):
        load_model(str(write_gguf(tmp_path / "strange.gguf", scaling={"type": "strange", "factor": 4.0})), device="cpu")


def test_the_end_of_a_turn_ends_an_answer(tmp_path: Path, home: Path) -> None:
    assert load_model(str(write_gguf(tmp_path / "eot.gguf", ends=250)), device="cpu").eos_ids == {258, 250}


def test_weights_kept_twice_are_refused(folder: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    tiny_torch_model("llama").save_pretrained(sharded, max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(sharded)
    shutil.copy(folder / "model.safetensors", sharded / "model.safetensors")
    with pytest.raises(ModelError, match="holds the weights twice"):
        load_model(str(sharded), device="cpu")
