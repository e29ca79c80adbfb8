"""Models of strangers: whatever is wrong with their files is one sentence that names the file, no page breaks, another model loads."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurons.checking.load import load_model
from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.tasks import Tasks
from neurons.core.types import Message
from neurons.models.catalogue import describe
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.models.shared import SharedModel
from neurons.models.weights import weights_hash
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def file_of(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")


def lying_header(**entry: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry}}).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)

    return change


NESTED = b"[" * 100_000 + b"]" * 100_000
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle that runs code": (pickled, "pytorch_model.bin"),
    "a billion layers": (configured(num_hidden_layers=10**9), "num_hidden_layers"),
    "no layers": (configured(num_hidden_layers=0), "num_hidden_layers"),
    "layers as text": (configured(num_hidden_layers="three"), "num_hidden_layers"),
    "layers as a list": (configured(num_hidden_layers=[1, "x"]), "num_hidden_layers"),
    "a negative width": (configured(hidden_size=-32), "hidden_size"),
    "a width of 5,000 digits": (configured(hidden_size=10**4000), "hidden_size"),
    "a width of a million": (configured(hidden_size=1_000_000, intermediate_size=10_000_000), "million weights"),
    "a vocabulary of ten million": (configured(vocab_size=10_000_000), "million weights"),
    "no heads": (configured(num_attention_heads=0), "config.json"),
    "heads that do not divide the width": (configured(num_attention_heads=5, num_key_value_heads=5), "config.json.*attention heads"),
    "an unknown activation": (configured(hidden_act="wobble"), "wobble"),
    "a rope of lists": (configured(rope_parameters=[1, 2], rope_scaling=[3]), "config.json"),
    "a model type that is a list": (configured(model_type=["llama"]), "causal language model"),
    "architectures that are a number": (configured(architectures=7), "causal language model"),
    "a text config that is text": (configured(text_config="x"), "config.json|text_config"),
    "an unknown data type": (configured(dtype="float999"), "float999|config.json"),
    "a config nested too deeply": (file_of("config.json", NESTED), "config.json"),
    "a config that is no JSON": (file_of("config.json", b"\xff\xfe\x00"), "config.json"),
    "a tokenizer that is no JSON": (file_of("tokenizer.json", b"{"), "tokenizer"),
    "a tokenizer nested too deeply": (file_of("tokenizer.json", NESTED), "tokenizer"),
    "a tokenizer of numbers": (file_of("tokenizer.json", b'{"model": 3, "added_tokens": 4}'), "tokenizer"),
    "a tokenizer config that is a list": (file_of("tokenizer_config.json", b"[1]"), "tokenizer"),
    "a longest text that is a word": (file_of("tokenizer_config.json", b'{"model_max_length": "long"}'), "model_max_length is long"),
    "a longest text that is a list": (file_of("tokenizer_config.json", b'{"model_max_length": []}'), "model_max_length"),
    "a width of two lines": (configured(intermediate_size="a\nb"), "intermediate_size is a b;"),
    "an empty weight file": (file_of("model.safetensors", b""), "model.safetensors"),
    "a header nested too deeply": (
        file_of("model.safetensors", struct.pack("<Q", len(NESTED)) + NESTED),
        "model.safetensors",
    ),
    "a header that is a list": (file_of("model.safetensors", struct.pack("<Q", 3) + b"[1]"), "model.safetensors"),
    "a negative shape": (lying_header(shape=[-2]), "model.safetensors"),
    "a shape of texts": (lying_header(shape=["2"]), "model.safetensors"),
    "a place of one number": (lying_header(data_offsets=[0]), "model.safetensors"),
    "a shape past 64 bits": (lying_header(shape=[2**70]), "model.safetensors"),
    "an index of numbers": (file_of("model.safetensors.index.json", b'{"weight_map": {"a": 3}}'), "weight_map"),
    "an index that leaves the folder": (file_of("model.safetensors.index.json", b'{"weight_map": {"a": "../x"}}'), "weight_map"),
    "an index that is a list": (file_of("model.safetensors.index.json", b'{"weight_map": [3]}'), "weight_map"),
    "a generation config of lists": (file_of("generation_config.json", b'{"temperature": [], "eos_token_id": "x"}'), ""),
}
"""What is wrong -> how to make a folder so, and what its sentence names. "" where it may load all the same."""


@pytest.fixture
def folder(tmp_path: Path, home: Path, tiny_folder: Path) -> Path:
    shutil.copytree(tiny_folder, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_one_sentence_that_names_the_file(what: str, folder: Path) -> None:
    change, named = BROKEN[what]
    change(folder)
    describe(str(folder), device="cpu")
    if not named:
        load_or_refuse(folder)
        return
    with pytest.raises(NeuronscopeError, match=named) as told:
        load_model(str(folder), device="cpu")
    assert len(str(told.value)) < 1500
    assert "\n" not in str(told.value)
    assert not Path("/tmp/owned").exists()


def load_or_refuse(folder: Path) -> None:
    try:
        load_model(str(folder), device="cpu")
    except NeuronscopeError:
        return


def test_another_model_is_loaded_after_one_that_failed(folder: Path, tiny_folder: Path) -> None:
    pickled(folder)
    tasks = Tasks()
    shared = SharedModel(tasks, load_model, spec=str(folder))
    assert shared.loaded is None
    assert shared.loading is not None
    assert shared.loading.wait(60)
    for _ in range(3):  # each draw of a page looks again
        assert shared.loaded is None
        assert "pytorch_model.bin" in str(shared.loading.error())
    assert shared.load(str(tiny_folder)).wait(60)
    assert shared.loaded is not None


TEMPLATES = {
    "divides by zero": "{{ 1 / 0 }}",
    "never ends": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "a power": "{{ 10 ** 10 ** 10 }}",
    "a large product": "{{ 'a' * 99999999999 }}",
    "what is not there": "{{ messages[99].content.nothing.at.all }}",
    "reaches for the machine": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "no template at all": "{% if %}",
    "raises": "{{ raise_exception('no') }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


@pytest.mark.parametrize("what", [pytest.param(what, marks=[pytest.mark.slow] if what == "never ends" else []) for what in TEMPLATES])
def test_a_chat_template_that_cannot_be_used_is_refused_in_time(what: str, tiny: LoadedModel) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATES[what] + "{{ messages[0].content }}"
    began = time.process_time()
    with pytest.raises(InvalidInput, match="chat template"):
        encode_prompt(replace(tiny, tokenizer=tokenizer), [Message("user", "hello")])
    assert time.process_time() - began < 60


def test_a_folder_does_not_say_its_own_hash(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "m"
    tiny_torch_model("llama").save_pretrained(folder)
    file = folder / "model.safetensors"
    stat = file.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, "0" * 64]
    (folder / "neuronscope.json").write_text(json.dumps({"sha256": {file.name: stamp}}))
    assert weights_hash([file]) != "0" * 64
