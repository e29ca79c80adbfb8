"""The atlas on disk: figures, quantiles and how they were found, descriptions, near weights, damage, exchange."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neurons.atlas import exchange
from neurons.atlas.arrays import ArrayFile, write_arrays
from neurons.atlas.build import finish
from neurons.atlas.collection import Collection
from neurons.atlas.finalise import FinaliseSettings, read_ranks
from neurons.atlas.probe import start_id
from neurons.atlas.reading import neuron_acts, range_passages
from neurons.atlas.removal import remove_folder
from neurons.atlas.store import Atlas, atlas_folder, damaged_atlases, list_atlases, open_atlas, open_folder
from neurons.atlas.writer import NEURONS
from neurons.concepts.search import SearchIndex
from neurons.core.errors import InvalidFile, InvalidInput, NotFound, StoreError
from neurons.core.types import NeuronSide
from neurons.describing.imported import import_descriptions
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from neurons.storage.manifest import entry_of
from neurons.storage.sealed import seal
from neurons.storage.table_files import write_rows
from tests.support.atlases import SETTINGS, collected, tiny_corpus
from tests.support.every_class import small_model
from tests.support.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished collection of the tiny model."""
    path = tmp_path_factory.mktemp("collection")
    collected(tiny_model(), tiny_corpus(), path)
    return path


@pytest.fixture(scope="module")
def atlas(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    target = tmp_path_factory.mktemp("atlas") / "made"
    return finish(tiny_model(), folder, target=target, settings=FinaliseSettings(exemplars=6))


def text(ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(chr(token) if token < 128 else "?" for token in ids)


def some_descriptions(count: int = 5) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": [0] * count,
            "index": range(count),
            "polarity": ["+"] * count,
            "description": [f"word {n}" for n in range(count)],
            "score": 0.5,
        }
    )


def test_figures_are_the_collection_s(atlas: Atlas, folder: Path) -> None:
    collection = Collection(folder)
    assert atlas.tokens == collection.tokens == atlas.info.tokens
    assert atlas.info.note == ""
    assert np.allclose(atlas.extremes(1), collection.values_2IK(1), rtol=1e-3)
    assert np.allclose(atlas.mean_LI(), collection.mean_LI())
    value, sequence, position = collection.exemplars_2IK(2)
    arrays = atlas.exemplar_arrays(2)
    assert np.array_equal(arrays.sequence_2IK, sequence)
    assert np.array_equal(arrays.position_2IK[sequence >= 0], position[sequence >= 0])
    assert np.allclose(arrays.value_2IK, value, rtol=1e-3)
    ids_U, counts_U, mean_UI = collection.token_means(0)
    stats = atlas.token_stats(0, 3, "+")
    listed = (counts_U >= 3) & (ids_U < 256)
    assert stats.ids[0] == ids_U[listed][np.argmax(mean_UI[listed, 3])]
    assert list(stats.values) == sorted(stats.values, reverse=True)
    assert all(3 <= count <= SETTINGS.occurrences for count in stats.counts)
    assert atlas.token_stats(0, 3, "-").values[0] == pytest.approx(mean_UI[listed, 3].min(), rel=1e-2)
    assert atlas.histogram(0, 0).counts.sum() == atlas.histogram(0, 0).tokens == SETTINGS.body


def test_quantiles_say_how_they_were_found(atlas: Atlas) -> None:
    tokens = atlas.tokens
    tenth = atlas.quantiles(10 / tokens)
    assert tenth.method == "order statistic"
    assert np.array_equal(tenth.value_2LI[:, 0], atlas.extremes(0)[:, :, 9])
    assert atlas.quantiles(1e-9).method == "corpus extreme"
    assert np.array_equal(atlas.quantile(1e-9)[:, 0], atlas.extremes(0)[:, :, 0])
    fitted = atlas.quantiles(1e-9, tail_fit=True)
    assert fitted.method == "tail fit"
    assert (fitted.value_2LI[0] >= atlas.quantile(1e-9)[0]).all()
    assert (fitted.value_2LI[1] <= atlas.quantile(1e-9)[1]).all()
    body = atlas.quantiles(0.25)
    assert body.method == "body sample"
    assert (body.value_2LI[0] >= body.value_2LI[1]).all()
    for wrong in (0, -1, 0.7, float("nan")):
        with pytest.raises(InvalidInput, match="quantile level"):
            atlas.quantiles(wrong)


def test_a_compact_atlas_keeps_the_ranks_that_are_read(folder: Path, atlas: Atlas, tmp_path: Path) -> None:
    small = finish(tiny_model(), folder, target=tmp_path, settings=FinaliseSettings(all_extremes=False, probe=False))
    assert small.extreme_ranks == tuple(read_ranks(small.tokens, most=32))
    assert small.probe_arrays(0) is None
    assert small.probe_stats(0, 0, "+").ids == ()
    assert read_ranks(1_000_000) == [1, 3, 10, 30, 100]
    assert np.array_equal(small.quantile(1 / small.tokens), atlas.quantile(1 / atlas.tokens))
    assert small.quantiles(20 / small.tokens).method == "body sample"


def test_projection_and_probe_equal_their_definitions(atlas: Atlas) -> None:
    loaded = tiny_model()
    norm = loaded.model.model.norm.weight
    logits = (loaded.sites[1].output_rows()[7] * norm) @ loaded.model.lm_head.weight.T
    z = (logits - logits.mean()) / logits.std()
    best = torch.argsort(z[:256], descending=True)[:8].tolist()
    assert atlas.promoted(1, 7, "+").ids == tuple(best)
    assert atlas.promoted(1, 7, "+").values[0] == pytest.approx(float(z[best[0]]), rel=1e-2)
    assert atlas.suppressed(1, 7, "-") == atlas.promoted(1, 7, "+")
    seen = {}
    for token in range(256):
        run_forward(loaded, torch.tensor([[256, token]]), record=lambda n, a, token=token: seen.update({(n, token): a[0, 1].clone()}))
    acts = torch.stack([seen[1, token] for token in range(256)])
    stats = atlas.probe_stats(1, 7, "-")
    assert stats.ids[0] == int(acts[:, 7].argmin())
    assert stats.values[0] == pytest.approx(float(acts[:, 7].min()), rel=1e-2)


def test_exemplars_are_found_again_in_the_model(atlas: Atlas) -> None:
    loaded = tiny_model()
    for neuron in (NeuronSide(0, 5, "+"), NeuronSide(2, 11, "-")):
        for exemplar in atlas.exemplars(neuron.layer, neuron.index, neuron.polarity)[:3]:
            [acts_T] = neuron_acts(loaded, atlas.corpus, [exemplar.sequence], neuron)
            assert acts_T[exemplar.position] == pytest.approx(exemplar.value, rel=1e-3)
            assert exemplar.ids == tuple(atlas.corpus.sequence(exemplar.sequence)[exemplar.start :][: len(exemplar.ids)])
            assert exemplar.ids[exemplar.peak] == atlas.corpus.sequence(exemplar.sequence)[exemplar.position]
    spread = range_passages(loaded, atlas, NeuronSide(0, 5), count=5, windows=4)
    values = [passage.value for passage in spread]
    assert values == sorted(values, reverse=True)
    assert min(values) < 0 < max(values)
    with pytest.raises(InvalidInput, match="does not exist"):
        atlas.exemplars(3, 0, "+")


def test_descriptions_are_kept_apart_and_replaced_whole(atlas: Atlas, tmp_path: Path, folder: Path) -> None:
    target = tmp_path / "own"
    exchange.import_zip(exchange.export_zip(atlas, tmp_path / "a.zip"), target, ref=atlas.ref)
    own = open_folder(target)
    assert own.descriptions() is None
    own = own.with_descriptions(some_descriptions(), arrays={"embedding": np.ones((5, 4), dtype=np.float16)}, meta={"author": "template"})
    own = own.with_descriptions(some_descriptions(3), arrays={"embedding": np.zeros((3, 4), dtype=np.float16)})
    assert open_folder(target).info.described == 3
    assert own.embeddings()["embedding"].shape == (3, 4)
    assert len(list(target.glob("descriptions-*"))) == 2
    again = finish(tiny_model(), folder, target=target, settings=FinaliseSettings(probe=False))
    assert again.info.described == 3
    assert again.descriptions() is not None


def test_the_right_atlas_is_opened(home: Path, atlas: Atlas, tmp_path: Path) -> None:
    loaded = tiny_model()
    exchange.import_zip(exchange.export_zip(atlas, tmp_path / "a.zip"), atlas_folder(loaded.ref), ref=loaded.ref)
    own = open_atlas(loaded.ref)
    assert own is not None
    own.quantile(1e-5)
    assert not own.info.near
    near = open_atlas(tiny_model(seed=5).ref)
    assert near is not None
    assert near.info.near
    assert "other weights" in near.info.note
    assert open_atlas(tiny_model("gpt2").ref) is None
    assert any(info.model == loaded.ref for info in list_atlases())
    with pytest.raises(InvalidInput, match="not of tiny gpt2"):
        open_folder(own.folder, ref=tiny_model("gpt2").ref)
    with pytest.raises(NotFound):
        open_folder(tmp_path / "nothing")
    with pytest.raises(StoreError, match="already"):
        exchange.import_zip(tmp_path / "a.zip", own.folder, ref=loaded.ref)


def read_everything(target: Path) -> None:
    opened = open_folder(target)
    opened.mean_LI()
    assert opened.corpus.n_sequences


@pytest.mark.parametrize("name", ["neurons.zarr.zip", "corpus.zarr.zip", "manifest.json"])
def test_damage_is_noticed(atlas: Atlas, tmp_path: Path, name: str) -> None:
    target = tmp_path / "own"
    exchange.import_zip(exchange.export_zip(atlas, tmp_path / "a.zip"), target, ref=atlas.ref)
    data = bytearray((target / name).read_bytes())
    data[len(data) // 2] ^= 0x10
    if name == "manifest.json":
        data = data[: len(data) // 2]
    (target / name).write_bytes(bytes(data))
    with pytest.raises(StoreError):
        read_everything(target)


def test_an_archive_from_elsewhere_is_checked(atlas: Atlas, tmp_path: Path) -> None:
    good = exchange.export_zip(atlas, tmp_path / "good.zip")
    data = bytearray(good.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    [offset] = struct.unpack_from("<I", data, end + 16)
    struct.pack_into("<I", data, end + 16, offset + 1000)  # then zipfile takes every file to begin 1000 bytes earlier
    (tmp_path / "early.zip").write_bytes(data)
    with pytest.raises(InvalidFile, match="begin before it"):
        exchange.import_zip(tmp_path / "early.zip", tmp_path / "target", ref=atlas.ref)
    with zipfile.ZipFile(good) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}

    def refused(changed: dict[str, bytes]) -> None:
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            for name, data in changed.items():
                archive.writestr(name, data)
        with pytest.raises((InvalidFile, StoreError)):
            exchange.import_zip(tmp_path / "bad.zip", tmp_path / "target", ref=atlas.ref)
        assert not (tmp_path / "target").exists()

    refused({**files, "../evil": b"x"})
    refused({name: data for name, data in files.items() if name != "manifest.json"})
    refused({**files, "corpus.zarr.zip": files["corpus.zarr.zip"][:-5]})
    manifest = json.loads(files["manifest.json"])
    refused({**files, "manifest.json": json.dumps({**manifest, "version": 99}).encode()})
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(InvalidFile):
        exchange.import_zip(tmp_path / "bad.zip", tmp_path / "target", ref=atlas.ref)
    with pytest.raises(InvalidInput, match="not of"):
        exchange.import_zip(good, tmp_path / "target", ref=tiny_model("gpt2").ref)


def test_description_tables_from_elsewhere(home: Path, atlas: Atlas, tmp_path: Path) -> None:
    ref = atlas.ref
    (tmp_path / "t.csv").write_text(
        "layer,neuron,polarity,description,score\n1,2,-1,cats,0.7\n0,3,pos,dogs,\n9,9,+,far,1\n0,1,?,x,1\n0,1,+,,1\n"
    )
    found = exchange.read_descriptions(tmp_path / "t.csv", ref)
    assert found.table[["layer", "index", "polarity", "description"]].values.tolist() == [[0, 3, "+", "dogs"], [1, 2, "-", "cats"]]
    assert len(found.skipped) == 3
    records = [
        {"modelId": "m", "layer": "2-mlp", "index": "7", "description": "numbers", "typeName": "x"},
        {"modelId": "m", "layer": "2-mlp", "index": "7", "description": "newer", "typeName": "x"},
        {"layer": "2-mlp"},
    ]
    (tmp_path / "n.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + "{broken\n")
    neuronpedia = exchange.read_descriptions(tmp_path / "n.jsonl", ref)
    assert neuronpedia.table.description.tolist() == ["newer"]
    assert len(neuronpedia.skipped) == 2
    (tmp_path / "e.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidFile, match="no description"):
        exchange.read_descriptions(tmp_path / "e.csv", ref)
    (tmp_path / "e.parquet").write_text("x")
    with pytest.raises(InvalidFile):
        exchange.read_descriptions(tmp_path / "e.parquet", ref)

    made = import_descriptions(found.table, ref, author="t.csv")
    made = import_descriptions(neuronpedia.table, ref, author="n.jsonl")
    described = made.descriptions()
    assert described is not None
    assert len(described) == 3
    assert not made.has_figures
    with pytest.raises(NotFound, match="descriptions only"):
        made.quantile(1e-5)
    (best, *_) = SearchIndex(made).search("a newer version")
    assert (best.layer, best.index, best.description) == (2, 7, "newer")


def test_everything_can_be_written_out(home: Path, atlas: Atlas, tmp_path: Path) -> None:
    target = tmp_path / "own"
    own = exchange.import_zip(exchange.export_zip(atlas, tmp_path / "a.zip"), target, ref=atlas.ref).with_descriptions(some_descriptions())
    neurons = exchange.neuron_table(own, text)
    assert len(neurons) == 2 * own.n_layers * own.n_neurons
    assert neurons.query("layer == 0 and index == 2 and polarity == '+'").description.item() == "word 2"
    for name in ("n.csv", "n.parquet", "n.jsonl"):
        assert write_rows(tmp_path / name, neurons.to_dict("records")) == len(neurons)
    explained = list(exchange.neuronpedia_explanations(own, model_id="tiny"))
    assert explained[0]["layer"] == "0-mlp"
    write_rows(tmp_path / "e.jsonl", explained)
    assert len(exchange.read_descriptions(tmp_path / "e.jsonl", own.ref).table) == 5
    exemplars = list(exchange.exemplar_table(own, text, count=2))
    assert len(exemplars) == 4 * own.n_layers * own.n_neurons
    activations = next(exchange.neuronpedia_activations(own, text, model_id="tiny"))
    assert activations["values"][activations["maxValueTokenIndex"]] == activations["maxValue"]
    with pytest.raises(InvalidInput, match="write to a"):
        write_rows(tmp_path / "n.xlsx", [])


def rebuilt(files: dict[str, bytes], path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The archive with another manifest, sealed anew: whoever forges one can do that, too."""
    manifest = json.loads(files["manifest.json"])
    manifest.pop("sha256")
    change(manifest)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**files, "manifest.json": seal(manifest)}.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("tokens"),
        lambda manifest: manifest.pop("model"),
        lambda manifest: manifest.pop("sources"),
        lambda manifest: manifest.pop("created"),
        lambda manifest: manifest.update(tokens=0),
        lambda manifest: manifest.update(tokens="many"),
        lambda manifest: manifest.update(tokens=2**70),
        lambda manifest: manifest.update(sources=[{"name": "x"}]),
        lambda manifest: manifest.update(descriptions={"table": "gone.parquet", "described": 1}),
        lambda manifest: manifest.update(descriptions={"table": "corpus.zarr.zip", "described": 1}),
        lambda manifest: manifest["model"].update(n_layers=-3),
        lambda manifest: manifest["model"].update(weights_hash="../../evil"),
        lambda manifest: manifest["files"].pop("corpus.zarr.zip"),
        lambda manifest: manifest["files"].update({"../evil": {"size": 1, "sha256": "0" * 64}}),
        lambda manifest: manifest["files"]["corpus.zarr.zip"].update(size=True),
    ],
)
def test_an_archive_that_could_not_be_used_is_not_installed(home: Path, atlas: Atlas, tmp_path: Path, change: Any) -> None:
    with zipfile.ZipFile(exchange.export_zip(atlas, tmp_path / "good.zip")) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    bad = rebuilt(files, tmp_path / "bad.zip", change)
    with pytest.raises((InvalidFile, InvalidInput, StoreError)):
        exchange.import_zip(bad, atlas_folder(atlas.ref), ref=atlas.ref)
    assert not list((home / "atlases").iterdir())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("extreme", lambda array: array[:, :1]),
        ("extreme", lambda array: array * np.float16("nan")),
        ("token_id", lambda array: np.full_like(array, 60_000)),
        ("exemplar_sequence", lambda array: np.full_like(array, 60_000)),
        ("token_count", lambda array: array[:5]),
        ("mean", lambda array: None),
    ],
)
def test_figures_that_do_not_belong_to_the_model_are_not_installed(home: Path, atlas: Atlas, tmp_path: Path, name: str, make: Any) -> None:
    with ArrayFile(atlas.folder / NEURONS) as file:
        arrays = {key: file.read(key) for key in file.names}
        attributes = file.attributes
    arrays[name] = make(arrays[name])
    kept = {key: value for key, value in arrays.items() if value is not None}
    write_arrays(tmp_path / NEURONS, kept, dimensions={}, attributes=attributes)
    with zipfile.ZipFile(exchange.export_zip(atlas, tmp_path / "good.zip")) as archive:
        files = {key: archive.read(key) for key in archive.namelist()}
    files[NEURONS] = (tmp_path / NEURONS).read_bytes()
    entry = asdict(entry_of(tmp_path / NEURONS))
    bad = rebuilt(files, tmp_path / "bad.zip", lambda manifest: manifest["files"].update({NEURONS: entry}))
    with pytest.raises((InvalidFile, StoreError)):
        exchange.import_zip(bad, atlas_folder(atlas.ref), ref=atlas.ref)
    assert not list((home / "atlases").iterdir())


def test_a_bad_folder_hides_no_other_atlas_and_is_named(home: Path, atlas: Atlas, tmp_path: Path) -> None:
    ref = atlas.ref
    good = exchange.import_zip(exchange.export_zip(atlas, tmp_path / "a.zip"), home / "atlases" / "0123456789abcdef", ref=ref).folder
    own = atlas_folder(ref)
    for number, spoil in enumerate((b"{", json.dumps({"format": "neuronscope-atlas", "version": 1, "files": {}}).encode(), b"\xff\xfe")):
        own.mkdir(exist_ok=True)
        (own / "manifest.json").write_bytes(spoil)
        found = open_atlas(ref)
        assert found is not None, number
        assert found.folder == good
        assert "damaged and was left out" in found.info.note
        assert [folder for folder, _ in damaged_atlases()] == [own]
        assert len([info for info in list_atlases() if not info.shipped]) == 1
    (own / "manifest.json").write_bytes((good / "manifest.json").read_bytes())  # whole, but its files are missing
    found = open_atlas(ref)
    assert found is not None
    assert found.folder == good
    token = remove_folder(own)
    assert token
    assert damaged_atlases() == []


def test_every_changed_bit_of_a_manifest_is_noticed(atlas: Atlas, tmp_path: Path) -> None:
    target = tmp_path / "own"
    exchange.import_zip(exchange.export_zip(atlas, tmp_path / "a.zip"), target, ref=atlas.ref)
    data = (target / "manifest.json").read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(data) * 8, 400, replace=False):
        spoiled = bytearray(data)
        spoiled[place // 8] ^= 1 << int(place % 8)
        (target / "manifest.json").write_bytes(bytes(spoiled))
        with pytest.raises(StoreError):
            open_folder(target)


@pytest.mark.parametrize("kind", ["nemotron_h", "zamba2"])
def test_layers_without_neurons_are_left_empty(kind: str, tmp_path: Path) -> None:
    """Hybrids have layers without an MLP: the atlas of the others is theirs."""
    loaded = LoadedModel.wrap(small_model(kind), tiny_tokenizer(), id=kind, name=kind, weights_hash="0" * 64)
    corpus = tiny_corpus()
    bare = [site.layer for site in loaded.sites if not site.width]
    full = next(site.layer for site in loaded.sites if site.width)
    assert bare
    collected(loaded, corpus, tmp_path / "collection")
    atlas = finish(loaded, tmp_path / "collection", target=tmp_path / "atlas", settings=FinaliseSettings(exemplars=3))
    assert not atlas.mean_LI()[bare].any()
    assert not atlas.extremes(bare[0]).any()
    assert atlas.exemplars(bare[0], 0, "+") == ()
    assert atlas.token_stats(bare[0], 0, "-").ids == ()
    (best, *_) = atlas.exemplars(full, 0, "+")
    ids = torch.from_numpy(atlas.corpus.sequence(best.sequence))[None]
    found: dict[int, Any] = {}
    run_forward(loaded, ids, record=lambda layer, acts: found.update({layer: acts[0].clone()}))
    assert float(found[full][best.position, 0]) == pytest.approx(best.value, rel=2e-3)
    told = atlas.probe_stats(full, 0, "+")
    pair = torch.tensor([[start_id(loaded), told.ids[0]]])
    run_forward(loaded, pair, record=lambda layer, acts: found.update({layer: acts[0].clone()}))
    assert float(found[full][1, 0]) == pytest.approx(told.values[0], rel=2e-3)
