"""The check at first load: models that our usual loop gets wrong are run another way or refused, and plain transformers is the judge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from typer.testing import CliRunner

import neurons
from neurons.checking.chat import check_vocabulary
from neurons.checking.check import check_model, known_check
from neurons.checking.load import checked, load_model
from neurons.checking.loop import check_loop, length_dependent
from neurons.checking.methods import check_methods
from neurons.checking.writes import check_tokens, check_writes
from neurons.cli.main import app
from neurons.core.errors import InvalidInput, ModelError, UnsupportedModel
from neurons.core.progress import no_progress
from neurons.core.types import Message, Sampling, TargetSpec
from neurons.models.chat import encode_prompt
from neurons.models.findings import USUAL, Running
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import generate
from tests.support.tiny_models import BASE, tiny_model, tiny_tokenizer, tiny_torch_model

LONG = {"max_position_embeddings": 1024}
STATE = {"num_hidden_layers": 4, "pad_token_id": 0, **LONG}
ODD: dict[str, dict[str, Any]] = {
    "jamba": {
        **STATE,
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
    },
    "recurrent_gemma": {**STATE, "lru_width": 32, "attention_window_size": 128, "block_types": ["recurrent", "attention"], "head_dim": 8},
    "bamba": {
        **STATE,
        "attn_layer_indices": [1, 3],
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 16,
        "mamba_expand": 2,
        "mamba_chunk_size": 32,
        "mamba_n_groups": 1,
    },
    "openai-gpt": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 1024, **LONG},
    "phi3": {
        "num_key_value_heads": 4,
        "pad_token_id": 0,
        "max_position_embeddings": 2048,
        "original_max_position_embeddings": 600,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [2.0, 3.0, 4.0, 5.0],
            "original_max_position_embeddings": 600,
        },
    },
}
"""Model types that the usual loop gets wrong, with the entries of their configuration."""
EXPECTED = {
    "jamba": Running(piece=None),
    "recurrent_gemma": Running(piece=None),
    "bamba": Running(positions=True),
    "openai-gpt": Running(piece=None, cached=0),
    "phi3": Running(cached=600),
}


def odd_model(kind: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**BASE, **ODD.get(kind, {})}), dtype=dtype).eval()
    some = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.copy_(torch.randn(weights.shape, generator=some) / weights.shape[-1] ** 0.5)
    return LoadedModel.wrap(model, tiny_tokenizer(), id=f"tiny:{kind}", name=f"tiny {kind}", weights_hash=kind.ljust(64, "0"))


@torch.no_grad()
def plain(model: Any, ids: list[int]) -> Tensor:
    """Log-probabilities of the token after each, one pass without a cache."""
    return model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)


@pytest.mark.parametrize("kind", ODD)
def test_what_the_usual_loop_gets_wrong_is_run_another_way(kind: str, home: Path) -> None:
    loaded = odd_model(kind)
    ids = torch.randint(1, 250, (640,), generator=torch.Generator().manual_seed(3)).tolist()

    def off(model: LoadedModel) -> float:
        run = generate(model, ids, sampling=Sampling(max_new_tokens=6))
        whole = list(run.prompt_ids + run.answer_ids)
        taken = plain(loaded.model, whole)[torch.arange(len(whole) - 1), torch.tensor(whole[1:])]
        assert run.acts_LTI is not None
        assert run.acts_LTI.shape[1] == len(whole)
        return float(np.abs(run.logprob_T[1:] - taken.numpy()).max())

    assert off(loaded) > 0.01, "the usual way is wrong, or this test shows nothing"
    model = checked(loaded)
    assert off(model) < 1e-3
    assert (model.running.piece, model.running.positions, model.running.cached) == (
        EXPECTED[kind].piece,
        EXPECTED[kind].positions,
        EXPECTED[kind].cached,
    )
    (answers,) = (finding for finding in model.findings if finding.what == "answers")
    assert answers.status == "otherwise"


@pytest.mark.parametrize("kind", ["jamba", "phi3"])
def test_coarse_rounding_hides_no_wrong_loop(kind: str, home: Path) -> None:
    running, _ = check_loop(odd_model(kind, torch.bfloat16), no_progress)
    assert (running.piece, running.cached) == (EXPECTED[kind].piece, EXPECTED[kind].cached)


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_coarse_rounding_is_no_wrong_loop(arch: str, home: Path) -> None:
    loaded = tiny_model(arch, **(LONG if arch == "llama" else {}))
    loaded = LoadedModel.wrap(loaded.model.to(torch.bfloat16), loaded.tokenizer, id=arch, name=arch, weights_hash="b" * 64)
    assert loaded.ref.dtype == "bfloat16"
    check = check_model(loaded)
    assert check.refusal == ""
    assert check.running == USUAL


@pytest.mark.parametrize("kind", ["jamba", "phi3"])
def test_the_answer_is_the_greedy_answer_of_plain_transformers(kind: str, home: Path) -> None:
    model = checked(odd_model(kind))
    ids = torch.randint(1, 250, (610,), generator=torch.Generator().manual_seed(5)).tolist()
    run = generate(model, ids, sampling=Sampling(max_new_tokens=5))
    for _ in range(len(run.answer_ids)):
        ids.append(int(plain(model.model, ids)[-1].argmax()))
    assert list(run.prompt_ids + run.answer_ids) == ids


def test_a_usual_model_is_right_and_stays_as_it_is(home: Path) -> None:
    loaded = tiny_model("llama", **LONG)
    check = check_model(loaded)
    assert check.running == USUAL
    assert check.refusal == ""
    assert {finding.status for finding in check.findings} <= {"right", "note"}
    said = {finding.what: finding.status for finding in check.findings}
    for what in ("answers", "tokens", "neurons", "attribution", "effects", "lens", "paths", "conversations"):
        assert said[what] == "right", what


def test_the_check_is_kept_until_something_it_rests_on_changes(home: Path) -> None:
    loaded = tiny_model("llama")
    assert known_check(loaded) is None
    check = check_model(loaded)
    assert known_check(loaded) == check
    loaded.tokenizer.chat_template = "{{ messages[0].content }}"
    assert known_check(loaded) is None
    other = tiny_model("llama", seed=1)
    assert known_check(replace(other, ref=replace(other.ref, weights_hash="f" * 64))) is None


def test_a_model_that_is_always_wrong_is_refused_by_its_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("llama")
    real, calls = loaded.model.forward, []

    def noisy(*args: Any, **kwargs: Any) -> Any:
        output = real(*args, **kwargs)
        calls.append(1)
        output.logits = output.logits + 3 * torch.randn(output.logits.shape, generator=torch.Generator().manual_seed(len(calls)))
        return output

    monkeypatch.setattr(loaded.model, "forward", noisy)
    with pytest.raises(ModelError, match=r"is not used: no way of running it here gives the numbers of one pass"):
        checked(loaded)


def test_what_stands_outside_the_neurons_is_measured(home: Path) -> None:
    loaded = tiny_model("llama")
    assert check_writes(loaded, no_progress).status == "right"
    for layer in loaded.model.model.layers:
        mlp = layer.mlp
        mlp.extra = nn.Linear(32, 32, bias=False)
        inner = mlp.forward
        mlp.forward = lambda x, mlp=mlp, inner=inner: inner(x) + mlp.extra(x)
    found = check_writes(loaded, no_progress)
    assert found.status == "note"
    assert found.figure is not None
    assert 0.05 < found.figure < 0.95
    assert "not written by the neurons shown" in found.said


@pytest.mark.parametrize("arch", ["bloom", "mpt"])
def test_a_residual_that_the_mlp_adds_itself_is_not_its_own_writing(arch: str, home: Path) -> None:
    found = check_writes(odd_model(arch), no_progress)
    assert (found.status, found.said.split(" neurons ")[-1]) == ("right", "write all of the MLPs' output")


def test_a_tokenizer_of_another_model_is_refused_by_its_tokens(home: Path) -> None:
    loaded = tiny_model("llama")
    assert check_vocabulary(loaded).status == "right"
    embedding = loaded.model.get_input_embeddings()
    embedding.weight = nn.Parameter(embedding.weight[:200].clone())
    found = check_vocabulary(loaded)
    assert found.status == "refused"
    assert "256, 258 have no row in its weights (200 rows)" in found.said
    assert check_model(loaded).refusal == found.said
    with pytest.raises(InvalidInput, match=r"token 25\d of the tokenizer; this model knows tokens 0 to 199"):
        encode_prompt(loaded, [Message("user", "hello")])


def test_rows_of_another_matrix_are_refused(home: Path) -> None:
    loaded = tiny_model("llama")
    layer = loaded.model.model.layers[1].mlp
    layer.down_proj.forward = lambda x: nn.functional.linear(x.flip(-1), layer.down_proj.weight)
    assert check_writes(loaded, no_progress).status == "refused"


@pytest.mark.parametrize("arch", ["gpt2", "falcon", "mixtral", "qwen3_moe", "gemma2", "phi3"])
def test_neurons_of_known_models_write_everything(arch: str, home: Path) -> None:
    loaded = tiny_model(arch)
    found = check_writes(loaded, no_progress)
    assert (found.status, found.said.split(" neurons ")[-1]) == ("right", "write all of the MLPs' output")
    assert check_tokens(loaded, no_progress).status == "right"


def test_rows_that_belong_to_no_token_are_refused(home: Path) -> None:
    loaded = tiny_model("llama")
    handle = loaded.sites[1].module.register_forward_pre_hook(lambda _module, args: (args[0][:, -1:].expand_as(args[0]), *args[1:]))
    assert check_tokens(loaded, no_progress).status == "refused"
    handle.remove()
    assert check_tokens(loaded, no_progress).status == "right"


def test_a_method_that_does_not_run_is_stood_in_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neurons.attribution import methods

    loaded = tiny_model("llama")

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise IndexError("list index out of range")

    monkeypatch.setattr(methods, "refined_log_odds", broken)
    running, findings = check_methods(loaded, USUAL, no_progress)
    assert running.stand_ins == (("refined", "grad"),)
    assert (findings[0].what, findings[0].status) == ("attribution", "otherwise")
    ids = [256, 72, 101, 108, 108, 111]
    found = neurons.attribute(replace(loaded, running=running), ids, TargetSpec(token=5))
    assert found.method == "grad"


def test_models_that_cannot_be_batched_refuse_a_repair(home: Path) -> None:
    with pytest.raises(UnsupportedModel, match="a repair runs prompts of different lengths together"):
        replace(tiny_model("llama"), running=Running(piece=None)).check_batches("a repair", 40)
    with pytest.raises(UnsupportedModel):
        replace(tiny_model("llama"), running=Running(cached=30)).check_batches("a repair", 40)
    replace(tiny_model("llama"), running=Running(cached=40)).check_batches("a repair", 40)


def test_length_dependent_positions_are_found() -> None:
    assert length_dependent(odd_model("phi3")) == 600
    assert length_dependent(tiny_model("llama")) is None


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    path = tmp_path / "tiny llama"
    tiny_torch_model("llama", **LONG).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def test_loading_checks_once(folder: Path) -> None:
    said: list[str] = []

    def listen(_done: int, _total: int | None, message: str) -> None:
        said.append(message)

    model = load_model(str(folder), device="cpu", progress=listen)
    assert any("checking the model" in message for message in said)
    assert [finding.what for finding in model.findings][:3] == ["weights", "vocabulary", "answers"]
    said.clear()
    assert load_model(str(folder), device="cpu", progress=listen).findings == model.findings
    assert not any("checking the model" in message for message in said)


def test_the_command_lists_the_check(folder: Path) -> None:
    result = CliRunner().invoke(app, ["models", "check", str(folder), "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {"weights", "answers", "neurons", "conversations"} <= {finding["what"] for finding in found["findings"]}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    result = CliRunner().invoke(app, ["models", "check", str(folder), "--json", "--device", "cpu"])
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["status"] == "refused"
    assert "model.layers.3" in finding["said"]


def test_a_generation_config_that_is_not_followed_is_said(home: Path) -> None:
    loaded = tiny_model("llama")
    loaded.model.generation_config.repetition_penalty = 1.3
    (finding,) = (finding for finding in check_model(loaded).findings if finding.what == "generation config")
    assert "repetition_penalty 1.3" in finding.said


def test_a_template_with_the_date_says_so(home: Path) -> None:
    loaded = tiny_model("llama")
    loaded.tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    assert any(finding.what == "date" for finding in check_model(loaded).findings)
    assert neurons.encode_prompt(loaded, [Message("user", "hi")]).ids


def test_plain_transformers_is_what_the_experts_are_held_against(home: Path) -> None:
    from neurons.checking.plain import plain_logprobs

    loaded = tiny_model("mixtral")
    fresh: Any = AutoModelForCausalLM.from_config(loaded.model.config, dtype=torch.float32).eval()
    fresh.config._experts_implementation = "eager"
    fresh.load_state_dict({name: value for name, value in loaded.model.state_dict().items() if "neuron_point" not in name})
    ids = list(range(20, 40))
    torch.testing.assert_close(plain_logprobs(loaded, ids), plain(fresh, ids), rtol=1e-4, atol=1e-5)
