"""Which model a name is, without its weights in memory: the same identity that loading gives, and the same refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neurons.core.errors import NeuronscopeError
from neurons.models.load import load_model
from neurons.models.reference import model_ref
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model


@pytest.fixture(params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Path:
    made = tmp_path / "tiny"
    tiny_torch_model(request.param).save_pretrained(made)
    tiny_tokenizer().save_pretrained(made)
    return made


def test_a_folder_is_what_loading_it_says(folder: Path) -> None:
    assert model_ref(str(folder)) == load_model(str(folder), device="cpu", dtype="float32").ref


def test_a_copy_elsewhere_is_the_same_weights_under_another_name(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "elsewhere")
    one, two = model_ref(str(folder)), model_ref(str(other))
    assert two == replace(one, id=str(other), name=two.name)
    tiny_torch_model("llama", seed=5).save_pretrained(other)
    assert model_ref(str(other)).weights_hash != one.weights_hash


@pytest.mark.parametrize("spec", ["no/such/folder/at/all", "nowhere.gguf"])
def test_what_is_no_model_is_refused_as_loading_refuses_it(spec: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NeuronscopeError) as by_name:
        model_ref(spec)
    with pytest.raises(NeuronscopeError) as by_loading:
        load_model(spec)
    assert str(by_name.value) == str(by_loading.value)
