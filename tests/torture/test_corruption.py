"""Thousands of accidents to every kind of file: each is told on opening, or what is read is what was written."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from neurons.atlas.build import finish
from neurons.atlas.finalise import FinaliseSettings
from neurons.atlas.store import open_folder
from neurons.atlas.validate import check_atlas
from neurons.atlas.writer import FIGURES
from neurons.core.errors import NeuronscopeError
from neurons.storage.documents import NamedDocuments
from neurons.storage.jobs import JobRunner
from tests.support.atlases import collected, tiny_corpus
from tests.support.changes import attribution
from tests.support.damage import everything, spoil
from tests.support.long_work import digest
from tests.support.tally import size, tally
from tests.support.tiny_models import tiny_model
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def accidents(part: str, files: list[Path], tries: int, good: Callable[[Path], bool], *, raises: bool = True) -> None:
    """Spoil one file at a time; `good` reads all and says whether that is as written. What it raises on purpose is a telling.

    Without `raises` nothing is expected to be raised: `good` looks itself for what was told.
    """
    rng, silent, told = random.Random(part), [], 0
    for _ in range(tries):
        path = rng.choice(files)
        data = path.read_bytes()
        kind, spoiled = spoil(data, rng)
        if spoiled == data:
            continue
        if spoiled is None:
            path.unlink()
        else:
            path.write_bytes(spoiled)
        try:
            if not good(path):
                silent.append(f"{kind} in {path.name}")
        except NeuronscopeError:
            told += 1
        finally:
            path.write_bytes(data)
    tally(f"corruption: {part}", tries, len(silent))
    assert not silent, silent[:5]
    assert told or not raises, "nothing was ever noticed"


def test_traces(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "traces", examples=None)
    record = make_record(name="name")
    saved = store.save(record, make_arrays(record)).id
    store.update(saved, note="note", tags=("tag",))
    store.save_attribution(saved, attribution(0.25))
    folder, expected = store.root / saved, everything(store, saved)

    def good(path: Path) -> bool:
        found = everything(store, saved)
        if found == expected:
            return True
        if path.name == "meta.json" and not path.exists():  # name, note and tags are gone with the file that held them
            return [found[1], found[2], found[3]] == [expected[1], expected[2], expected[3]]
        # A damaged attribution is left out of the list; `verify` names it. The rest must be as it was.
        return found[2] == [] and [found[0], found[1], found[3]] == [expected[0], expected[1], expected[3]] and not store.verify(saved).ok

    accidents("files of a trace", sorted(path for path in folder.rglob("*") if path.is_file()), size(150, 3500), good)
    assert everything(store, saved) == expected


def test_documents(tmp_path: Path) -> None:
    documents = NamedDocuments("concepts", folder=tmp_path / "concepts")
    expected = {f"name {n}": {"neurons": [f"{n}:1+"], "note": "x" * 50} for n in range(4)}
    for name, content in expected.items():
        documents.save(name, content)
    files = sorted(path for path in (tmp_path / "concepts").glob("*.json"))
    assert len(files) == 4

    def good(path: Path) -> bool:
        again = NamedDocuments("concepts", folder=tmp_path / "concepts")
        found = {entry.name: entry.content for entry in again.list()}
        wrong = {name for name, content in found.items() if expected.get(name) != content}
        missing = len(expected) - len(found)
        return not wrong and (missing == 0 or (missing == 1 and (not path.exists() or bool(again.damaged()))))

    accidents("saved concepts, steers, prompt sets", files, size(60, 800), good, raises=False)


def test_jobs(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path / "jobs")
    runner.register("count", lambda context: [context.add_row({"row": n, "value": n / 7}) for n in range(5)] and {"counted": 5})
    job_id = runner.wait(runner.start("count", {"n": 5}, title="x", payload={"texts": ["y"] * 9}).id, timeout=20).id
    job, rows, payload = runner.get(job_id), runner.rows(job_id), runner.payload(job_id)
    names = ("job.json", "state.json", "payload.json", "rows.jsonl")

    def good(path: Path) -> bool:
        found = [{key: row[key] for key in row.keys() & {"row", "value"}} for row in runner.rows(job_id)]
        now = runner.get(job_id)
        assert runner.payload(job_id) == payload
        whole = found == list(rows)
        return all(row in rows for row in found) and (now == job if whole else now.errors > 0 and "changed on disk" in now.message)

    accidents("jobs", [tmp_path / "jobs" / job_id / name for name in names], size(80, 1000), good)
    runner.close()


def test_atlases(tmp_path: Path) -> None:
    loaded = tiny_model()
    collected(loaded, tiny_corpus(8), tmp_path / "collection")
    folder = finish(loaded, tmp_path / "collection", target=tmp_path / "atlas", settings=FinaliseSettings(exemplars=3)).folder

    def everything_in() -> str:
        atlas = open_folder(folder)
        check_atlas(atlas)
        return digest([atlas.manifest, *(atlas._read(name) for name in FIGURES if atlas._has(name)), atlas.corpus.tokens])

    expected = everything_in()
    accidents(
        "files of an atlas",
        sorted(path for path in folder.iterdir() if path.is_file()),
        size(40, 500),
        lambda _: everything_in() == expected,
    )


def test_the_catalogue(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "traces", examples=None)
    for number in range(4):
        store.save(make_record(name=f"trace {number}"))
    expected = (store.list(), store.list("trace"), store.catalogue.tags())
    store.catalogue.healthy()
    connection = sqlite3.connect(store.catalogue.path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = store.catalogue.path.read_bytes()
    rng, tries, wrong = random.Random(7), size(40, 700), 0
    for _ in range(tries):
        for suffix in ("-wal", "-shm"):
            Path(f"{store.catalogue.path}{suffix}").unlink(missing_ok=True)
        _, spoiled = spoil(data, rng)
        if spoiled is None:
            store.catalogue.path.unlink(missing_ok=True)
        else:
            store.catalogue.path.write_bytes(spoiled)
        again = TraceStore(store.root, examples=None)
        wrong += (again.list(), again.list("trace"), again.catalogue.tags()) != expected
    tally("corruption: catalogue", tries, wrong)
    assert not wrong
