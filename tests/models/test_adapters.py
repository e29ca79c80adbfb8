"""LoRA adapters as peft writes them: merged they give peft's own logits; what cannot be merged exactly is refused by name.

`adapters/` holds two adapters that peft 0.21.2 wrote for the tiny models (rslora with rank and alpha patterns; GPT-2's crosswise
projections), each with the logits that peft's own model, unmerged, gives for tokens 40 to 79.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from neurons.checking.load import load_model as load_checked
from neurons.cli.main import app
from neurons.core.errors import ModelError
from neurons.models import adapters
from neurons.models.catalogue import cached_models, describe
from neurons.models.load import find_source, load_model
from neurons.models.reference import model_ref
from neurons.runs.hooks import run_forward
from tests.support.gguf_files import write_gguf
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model

WRITTEN = Path(__file__).parent / "adapters"
IDS = torch.arange(40, 80)[None]


def base_folder(path: Path, arch: str = "llama", **options: Any) -> Path:
    tiny_torch_model(arch, **options).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def adapter(tmp_path: Path, home: Path) -> Path:
    """peft's adapter of the tiny Llama, beside its base."""
    base_folder(tmp_path / "base")
    folder = tmp_path / "adapter"
    shutil.copytree(WRITTEN / "llama", folder)
    adapters.remember_base(folder, str(tmp_path / "base"))
    return folder


def change(folder: Path, tensors: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None, **entries: object) -> None:
    config = json.loads((folder / adapters.CONFIG).read_text())
    (folder / adapters.CONFIG).write_text(json.dumps({**config, **entries}))
    if tensors is not None:
        save_file(tensors(load_file(folder / adapters.WEIGHTS)), folder / adapters.WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_merged_it_gives_what_peft_gives(arch: str, tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(WRITTEN / arch, folder)
    base = base_folder(tmp_path / "base", arch)
    adapters.remember_base(folder, str(base))
    loaded = load_checked(str(folder), device="cpu")
    wanted = load_file(WRITTEN / f"{arch}-logits.safetensors")["logits"]
    found = run_forward(loaded, IDS).logits
    assert found is not None
    torch.testing.assert_close(found[0], wanted, rtol=1e-4, atol=1e-4)
    plain = run_forward(load_model(str(base), device="cpu"), IDS).logits
    assert plain is not None
    assert (plain[0] - wanted).abs().max() > 1
    assert loaded.ref.name == "adapter on base"
    assert loaded.ref.id == str(folder)
    said = {finding.what: finding.said for finding in loaded.findings}
    assert said["adapter"].startswith(f"adapter is merged into {9 if arch == 'llama' else 12} projections of its base")
    assert "answers" in said  # the check ran on it
    assert model_ref(str(folder)) == loaded.ref


def test_the_hash_says_base_and_adapter(adapter: Path, tmp_path: Path) -> None:
    first = load_model(str(adapter), device="cpu").ref.weights_hash
    base = load_model(str(tmp_path / "base"), device="cpu").ref.weights_hash
    assert first != base
    assert find_source(str(adapter)).weights_hash() == first
    moved = tmp_path / "moved"
    shutil.copytree(adapter, moved)
    adapters.remember_base(moved, str(tmp_path / "base"))
    assert find_source(str(moved)).weights_hash() == first
    change(moved, lora_alpha=17)
    assert find_source(str(moved)).weights_hash() not in (first, base)
    other = base_folder(tmp_path / "other", seed=1)
    adapters.remember_base(adapter, str(other))
    assert find_source(str(adapter)).weights_hash() not in (first, base)


def test_a_gguf_file_can_be_the_base(adapter: Path, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in load_file(adapter / adapters.WEIGHTS).items() if "down_proj" in name}
    change(adapter, lambda _: tensors)
    path = write_gguf(tmp_path / "base.gguf")
    adapters.remember_base(adapter, str(path))
    loaded = load_model(str(adapter), device="cpu")
    weight = loaded.model.get_submodule("model.layers.0.mlp.down_proj").weight
    a, b = (tensors[f"base_model.model.model.layers.0.mlp.down_proj.lora_{letter}.weight"] for letter in "AB")
    plain = load_model(str(path), device="cpu").model.get_submodule("model.layers.0.mlp.down_proj").weight
    torch.testing.assert_close(weight - plain, 16 / 4**0.5 * b @ a, rtol=1e-4, atol=1e-5)


def test_the_base_is_found_or_asked_for(adapter: Path, tmp_path: Path, home: Path) -> None:
    (home / "settings" / "adapters.json").unlink()
    with pytest.raises(ModelError, match=r"is an adapter of someone/tiny-llama, which is not on this machine; .*--base BASE"):
        load_model(str(adapter), device="cpu")
    runner = CliRunner()
    assert runner.invoke(app, ["models", "info", str(adapter)]).exit_code == 1
    said = runner.invoke(app, ["models", "check", str(adapter), "--base", str(tmp_path / "base")])
    assert said.exit_code == 0, said.output
    assert "adapter is merged into 9 projections" in said.output.replace("\n", " ")
    assert describe(str(adapter), device="cpu").architecture == "LlamaForCausalLM"
    refused = runner.invoke(app, ["models", "info", str(tmp_path / "base"), "--base", "default"])
    assert refused.exit_code == 2
    assert "is no adapter's folder" in refused.output + refused.stderr
    # a folder of the base's name that was loaded before, a path that the adapter names
    (home / "settings" / "adapters.json").unlink()
    named = base_folder(tmp_path / "tiny-llama")
    load_model(str(named), device="cpu")
    assert find_source(str(adapter)).base == find_source(str(named))
    change(adapter, base_model_name_or_path="../base")
    assert find_source(str(adapter)).whole.path.resolve() == tmp_path / "base"


def test_an_adapter_whose_base_has_gone_stays_on_the_list(adapter: Path, tmp_path: Path) -> None:
    load_model(str(adapter), device="cpu")
    (card,) = [card for card in cached_models(device="cpu") if card.spec == str(adapter)]
    assert (card.kind, card.problem, card.neurons) == ("adapter", "", 144)
    shutil.rmtree(tmp_path / "base")
    (card,) = [card for card in cached_models(device="cpu") if card.spec == str(adapter)]
    assert not card.cached
    assert "is an adapter of someone/tiny-llama" in card.problem


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"peft_type": "IA3"}, "its kind is IA3"),
        ({"task_type": "SEQ_CLS"}, "its task is SEQ_CLS"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "all"}, "biases of its own"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"a_thing_of_tomorrow": {"x": 1}}, "a_thing_of_tomorrow"),
        ({"r": 0}, "r: should be greater than 0"),
        ({"lora_alpha": "much"}, "lora_alpha"),
        ({"rank_pattern": {"q_proj": 7}}, "has rank 4, but adapter_config.json says 7"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(entries: dict[str, object], said: str, adapter: Path) -> None:
    change(adapter, **entries)
    with pytest.raises(ModelError, match=said):
        load_model(str(adapter), device="cpu")


def test_tensors_without_a_place_are_refused_by_name(adapter: Path, tmp_path: Path) -> None:
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    cases: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
        "holds .*lora_magnitude_vector": lambda t: {**t, key.replace("lora_{}.weight", "lora_magnitude_vector"): torch.ones(3)},
        "only one of the two tensors": lambda t: {name: value for name, value in t.items() if name != key.format("B")},
        "which its base does not have": lambda t: {name.replace("layers.0", "layers.7"): value for name, value in t.items()},
        "of another shape at": lambda t: {**t, key.format("A"): torch.ones(4, 31)},
        "not finite": lambda t: {**t, key.format("A"): torch.full((4, 32), torch.inf)},
        "holds no tensors": lambda t: {},
    }
    kept = load_file(adapter / adapters.WEIGHTS)
    for said, tensors in cases.items():
        change(adapter, lambda _, tensors=tensors: tensors(dict(kept)))  # type: ignore[misc]
        with pytest.raises(ModelError, match=said):
            load_model(str(adapter), device="cpu")
    head = {f"base_model.model.lm_head.lora_{letter}.weight": torch.ones(*shape) for letter, shape in (("A", (4, 32)), ("B", (259, 4)))}
    change(adapter, lambda _: head)
    assert load_model(str(adapter), device="cpu").findings[-1].what == "adapter"
    adapters.remember_base(adapter, str(base_folder(tmp_path / "tied", tie_word_embeddings=True)))
    with pytest.raises(ModelError, match="lm_head, whose weights the base also uses elsewhere"):
        load_model(str(adapter), device="cpu")


def test_its_own_tokenizer_is_used_and_a_larger_one_refused(adapter: Path) -> None:
    own = tiny_tokenizer()
    own.chat_template = "{% for message in messages %}<|im_start|>{{ message['content'] }}{% endfor %}"
    own.save_pretrained(adapter)
    assert load_model(str(adapter), device="cpu").tokenizer.chat_template == own.chat_template
    own.add_tokens(["<new>"])
    own.save_pretrained(adapter)
    with pytest.raises(ModelError, match="has 260 tokens and its base 259"):
        load_model(str(adapter), device="cpu")
