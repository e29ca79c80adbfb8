"""Well-formed files with values that nobody wrote: their checksums fit, so that only the reader stands against them.

The quick tests come first: what they leave of their time goes to the slow ones.
"""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from neurons.atlas import exchange
from neurons.atlas.build import finish
from neurons.atlas.finalise import FinaliseSettings
from neurons.atlas.store import Atlas
from neurons.concepts.sets import SavedConcepts
from neurons.core.home import HOME_VARIABLE
from neurons.models.catalogue import describe
from neurons.models.weights import parameter_count
from neurons.prompts.sets import saved_sets
from neurons.storage.jobs import JobRunner
from neurons.storage.manifest import MANIFEST, entry_of, manifest_bytes, read_manifest
from tests.formats.test_golden_homes import GOLDEN
from tests.support.atlases import collected, tiny_corpus
from tests.support.changes import attribution
from tests.support.odd_values import sealed, with_odd
from tests.support.taken import taken
from tests.support.tally import size, tally, within
from tests.support.tiny_models import tiny_model
from tests.support.trace_runs import make_arrays, make_record
from tests.torture.test_fuzz import mutated
from traces import TraceStore
from traces.exchange import export_zip, import_zip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("default:Object at fill_value"),  # zarr's word for an array without one; it is told as a missing array
]


def tries(part: str, count: int) -> Iterator[random.Random]:
    """One generator a try; the part is counted when all went well."""
    done = 0
    for number in within(count):
        yield random.Random(f"{part} {number}")
        done += 1
    tally(f"odd values: {part}", done)


def spoiled(data: bytes, rng: random.Random, *, seal: bool) -> bytes:
    value = with_odd(json.loads(data), rng)
    return sealed(value) if seal else json.dumps(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    path = tmp_path_factory.mktemp("odd")
    collected(tiny_model(), tiny_corpus(8), path / "collection")
    return finish(tiny_model(), path / "collection", target=path / "atlas", settings=FinaliseSettings(exemplars=3))


def test_archives_of_atlases(atlas: Atlas, tmp_path: Path) -> None:
    exchange.export_zip(atlas, tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for rng in tries("archives of atlases", size(30, 400)):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            for name, data in members.items():
                archive.writestr(name, spoiled(data, rng, seal=True) if name == MANIFEST else data)
        target = tmp_path / "installed"
        taken(lambda target=target: exchange.import_zip(tmp_path / "bad.zip", target, ref=atlas.ref))
        shutil.rmtree(target, ignore_errors=True)


ROW = {"layer": 1, "index": 2, "polarity": "+", "description": "fires on a", "score": 0.5, "typeName": "x", "modelId": "m"}


def test_tables_of_descriptions(atlas: Atlas, tmp_path: Path) -> None:
    good = pd.DataFrame([ROW] * 3).to_parquet()
    for rng in tries("tables of descriptions", size(60, 3000)):
        rows = [with_odd(ROW, rng) for _ in range(3)]
        jsonl = tmp_path / "d.jsonl"
        jsonl.write_text("\n".join(map(json.dumps, rows)))
        taken(lambda path=jsonl: exchange.read_descriptions(path, atlas.ref))
        whole = tmp_path / "d.json"
        whole.write_text(json.dumps(rows))
        taken(lambda path=whole: exchange.read_descriptions(path, atlas.ref))
        text = io.StringIO()
        csv.writer(text).writerows([list(ROW), *([str(value)[:50] for value in row.values()] for row in rows if isinstance(row, dict))])
        table = tmp_path / "d.csv"
        table.write_bytes(text.getvalue().encode("utf-8", "replace"))
        taken(lambda path=table: exchange.read_descriptions(path, atlas.ref))
        columnar = tmp_path / "d.parquet"
        columnar.write_bytes(mutated(good, rng.randrange(2**32)))
        taken(lambda path=columnar: exchange.read_descriptions(path, atlas.ref))


def test_models(tiny_folder: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in tiny_folder.glob("*.json"))
    for rng in tries("what a model's folder says", size(60, 1500)):
        folder = tmp_path / "model"
        shutil.copytree(tiny_folder, folder)
        path = folder / rng.choice(names)
        path.write_bytes(spoiled(path.read_bytes(), rng, seal=False))
        taken(lambda folder=folder: describe(str(folder), device="cpu"))
        shutil.rmtree(folder)


def test_safetensors_headers(tiny_folder: Path, tmp_path: Path) -> None:
    data = (tiny_folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    for rng in tries("headers of safetensors", size(60, 4000)):
        header = spoiled(data[8 : 8 + length], rng, seal=False)
        path = tmp_path / "m.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
        taken(lambda path=path: parameter_count([path]))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this version's golden kind: concepts, prompt sets, a job."""
    import tarfile

    newest = max(GOLDEN, key=lambda path: path.stat().st_mtime)
    with tarfile.open(newest) as archive:
        archive.extractall(tmp_path / "golden", filter="data")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "golden"


def use_home(folder: Path) -> None:
    """What pages read of a home beside its traces."""
    concepts, sets = SavedConcepts(), saved_sets()
    for entry in (*concepts.list(), *sets.list()):
        taken(lambda entry=entry: concepts.load(entry.name))
        taken(lambda entry=entry: sets.load(entry.name))
    runner = JobRunner(folder / "jobs")
    try:
        for job in runner.list():
            taken(lambda job=job: runner.get(job.id))
            taken(lambda job=job: runner.rows(job.id))
            taken(lambda job=job: runner.payload(job.id))
            taken(lambda job=job: runner.errors(job.id))
            taken(lambda job=job: runner.delete(job.id))
        assert not runner.list()
    finally:
        runner.close()


def test_homes(home: Path, tmp_path: Path) -> None:
    for rng in tries("concepts, prompt sets and jobs", size(40, 500)):
        work = tmp_path / "home"
        shutil.copytree(home, work)
        found = [path for name in ("concepts", "prompts", "prompt-sets", "jobs") for path in (work / name).rglob("*.json*")]
        path = rng.choice(sorted(found))
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            lines = data.split(b"\n")
            at = rng.randrange(len(lines) - 1)
            lines[at] = spoiled(lines[at], rng, seal=False)
            path.write_bytes(b"\n".join(lines))
        else:
            path.write_bytes(spoiled(data, rng, seal=True))
        use_home(work)
        shutil.rmtree(work)


def spoil_trace(folder: Path, rng: random.Random) -> None:
    """One JSON file of a trace changed; the manifest that names it is made to fit, so far as it can be read."""
    path = rng.choice(sorted(folder.rglob("*.json")))
    path.write_bytes(spoiled(path.read_bytes(), rng, seal=path.name in (MANIFEST, "meta.json", "activations.json")))
    holder = next(parent for parent in path.parents if (parent / MANIFEST).exists())
    if path.name not in (MANIFEST, "meta.json", "activations.json"):
        name = path.relative_to(holder).as_posix()
        (holder / MANIFEST).write_bytes(manifest_bytes({**read_manifest(holder), name: entry_of(path)}))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A store's folder with one trace: named, with an attribution, its activations recomputed."""
    store = TraceStore(tmp_path / "from", examples=None)
    record = make_record(id="trace-one")
    store.save(record, make_arrays(record))
    store.save_attribution("trace-one", attribution(0.5))
    store.update("trace-one", name="name", tags=("tag",), set_name="set", set_row=3)
    store.evict("trace-one")
    store.put_activations("trace-one", make_arrays(record)["activations"] + 1)
    return store.root


def test_archives_of_traces(trace: Path, tmp_path: Path) -> None:
    for rng in tries("archives of traces", size(60, 1200)):
        work = tmp_path / "work"
        shutil.copytree(trace / "trace-one", work / "trace-one")
        spoil_trace(work / "trace-one", rng)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("export.json", "{}")
            for path in work.rglob("*"):
                if path.is_file():
                    archive.write(path, path.relative_to(work).as_posix())
        target = TraceStore(work / "to", examples=None)
        taken(lambda target=target, stream=stream: import_zip(target, stream))
        for row in target.list():
            target.load(row.id)
            assert target.verify(row.id).ok
            target.arrays(row.id)
            target.attributions(row.id)
        shutil.rmtree(work)


def read_all(store: TraceStore) -> None:
    """List, and read each trace in every way, as the pages do."""
    for row in (*store.list(), *store.list("trace", sort="seconds"), *store.list(trashed=True)):
        taken(lambda row=row: store.load(row.id))
        taken(lambda row=row: store.arrays(row.id))
        taken(lambda row=row: store.read(row.id, "activations"))
        taken(lambda row=row: store.activation_state(row.id))
        taken(lambda row=row: store.verify(row.id))
        taken(lambda row=row: [store.attribution(row.id, info.key) for info in store.attributions(row.id)])
        taken(lambda row=row: export_zip(store, [row.id], io.BytesIO()))


def test_traces_that_were_put_into_the_folder(trace: Path, tmp_path: Path) -> None:
    for rng in tries("traces in the folder", size(20, 400)):
        work = tmp_path / "work"
        shutil.copytree(trace, work)
        spoil_trace(work / "trace-one", rng)
        store = TraceStore(work, examples=None)
        read_all(store)
        if store.list():
            store.delete("trace-one")
            store.purge("trace-one")
        assert not TraceStore(work, examples=None).list()
        shutil.rmtree(work)
