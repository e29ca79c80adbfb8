"""Anything for a parser: whatever bytes or values come, it reads them or refuses with an error of ours, soon and in little memory."""

from __future__ import annotations

import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neurons.concepts.sets import Concept
from neurons.core.outside_json import parse_json
from neurons.core.patterns import OutsidePattern
from neurons.core.steers import TokenScope, parse_ranges
from neurons.core.types import NeuronSide
from neurons.models.gguf import read_gguf_header
from neurons.models.weights import parameter_count
from neurons.prompts.files import load_file
from neurons.repair.spec import parse_spec
from neurons.runs.steering import parse_steers
from neurons.storage.tables import read_table
from tests.support import taken as taking
from tests.support.tally import out_of_time, size, tally, within
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore
from traces.exchange import export_zip, import_zip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
EXAMPLES = size(60, 6000)
FUZZ = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
FEW = settings(FUZZ, max_examples=size(25, 1500))
TEXTS = st.text() | st.sampled_from(["0:1", "1:2-", "all", "3:9", "set", "\ud800"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(2**70)
VALUES: st.SearchStrategy[Any] = st.recursive(SCALARS, lambda one: st.lists(one, max_size=5) | st.dictionaries(TEXTS, one, max_size=5))
NAMES = st.sampled_from(["p.txt", "p.csv", "p.tsv", "p.json", "p.jsonl", "p.yaml", "p", "p.xyz"])


def taken(work: Callable[[], object]) -> None:
    """As `taking.taken`, while there is time: a test that is skipped is what hypothesis ends with at once."""
    if out_of_time():
        pytest.skip("its share of the time is used")
    taking.taken(work)


@pytest.fixture(autouse=True, scope="module")
def _counted() -> Iterator[None]:
    before = taking.tried
    yield
    tally("fuzz: all parsers together", taking.tried - before)


def object_of(*names: str) -> st.SearchStrategy[Any]:
    """Objects that have some of these entries, with any values."""
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=len(names)) | VALUES


@FUZZ
@given(st.binary(max_size=400) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")), NAMES)
@example(b'{"prompt": ' + b"9" * 5000 + b"}", "p.json")
@example(b"[" * 20_000, "p.json")
def test_prompt_files(data: bytes, name: str) -> None:
    taken(lambda: load_file(data, name=name))
    taken(lambda: read_table(data, name=name))


@FUZZ
@given(VALUES, NAMES)
@example([{}, [{}]], "p.json")
def test_prompt_files_of_values(value: Any, name: str) -> None:
    data = json.dumps(value).encode()
    taken(lambda: load_file(data, name=name))


@FUZZ
@given(st.text(max_size=200) | VALUES.map(lambda value: json.dumps(value)))
def test_json(text: str) -> None:
    taken(lambda: parse_json(text, what="it"))


@FUZZ
@given(object_of("neurons", "mode", "strength", "tokens", "values", "name", "enabled", "steers", "format", "version", "model"))
def test_steers(value: Any) -> None:
    taken(lambda: parse_steers(value))


@FUZZ
@given(object_of("neurons", "model", "similarity", "origin", "note", "format", "version"))
def test_concepts(value: Any) -> None:
    taken(lambda: Concept.from_json(value))


@FUZZ
@given(object_of("prompt", "wanted", "unwanted", "paraphrases", "controls", "heldout", "max_neurons", "seed", "tokens", "budget", "name"))
def test_repairs(value: Any) -> None:
    taken(lambda: parse_spec(value))


@FUZZ
@given(st.text(max_size=80) | st.from_regex(r"[lL]?\d{0,12}[:/.]?[nNes]?\d{0,12}[+-]?"))
def test_typed_neurons_ranges_and_scopes(text: str) -> None:
    taken(lambda: NeuronSide.parse(text))
    taken(lambda: NeuronSide.parse(text, experts=True))
    taken(lambda: parse_ranges(text))
    taken(lambda: TokenScope.parse(text))


@settings(FEW, max_examples=size(20, 600))
@given(st.text(alphabet="ab()[]{}*+?|\\.^$-,123", max_size=25))
def test_expressions(text: str) -> None:
    taken(lambda: OutsidePattern(text).check().search("ab" * 200))


def mutated(data: bytes, seed: int) -> bytes:
    """`data` with a few bytes changed, cut out or put in."""
    rng, spoiled = random.Random(seed), bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(spoiled)) if spoiled else 0
        kind = rng.randrange(4)
        if kind == 0 and spoiled:
            spoiled[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 1:
            del spoiled[at : at + rng.randint(1, 9)]
        elif kind == 2:
            spoiled[at:at] = rng.randbytes(rng.randint(1, 9))
        else:
            spoiled[at : at + 8] = rng.choice((2**63, 2**64 - 1, 2**31, 0, 10**12)).to_bytes(8, "little")
    return bytes(spoiled)


def gguf_bytes(folder: Path) -> bytes:
    import numpy as np
    from gguf import GGUFWriter

    path = folder / "m.gguf"
    writer = GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_tensor("t", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_gguf_headers(tmp_path: Path) -> None:
    good, path = gguf_bytes(tmp_path), tmp_path / "bad.gguf"
    for seed in within(EXAMPLES):
        path.write_bytes(mutated(good, seed))
        taken(lambda: read_gguf_header(path))


def test_safetensors_headers(tmp_path: Path, tiny_folder: Path) -> None:
    good, path = (tiny_folder / "model.safetensors").read_bytes()[:6000], tmp_path / "m.safetensors"
    for seed in within(EXAMPLES):
        path.write_bytes(mutated(good, seed))
        taken(lambda: parameter_count([path]))


def test_trace_archives(tmp_path: Path) -> None:
    """Changed archives, and archives whose members were changed and packed well again."""
    store = TraceStore(tmp_path / "from", examples=None)
    record = make_record()
    saved = store.save(record, make_arrays(record)).id
    export_zip(store, [saved], tmp_path / "good.zip")
    good = (tmp_path / "good.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for seed in within(size(40, 1200)):
        rng = random.Random(seed)
        stream = io.BytesIO()
        chosen = rng.choice(sorted(members))
        with zipfile.ZipFile(stream, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, mutated(data, seed) if name == chosen and data else data)
        data = mutated(good, seed) if seed % 2 else stream.getvalue()
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            target = TraceStore(Path(folder, "to"), examples=None)
            Path(folder, "bad.zip").write_bytes(data)
            taken(lambda target=target, folder=folder: import_zip(target, Path(folder, "bad.zip")))
            for row in target.list():
                target.load(row.id)
                assert target.verify(row.id).ok
