"""Homes that earlier versions wrote, with their own commands (scripts/golden_home.py): each opens here as it did there, or is migrated."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from neurons.concepts.sets import SavedConcepts
from neurons.core.errors import StoreError
from neurons.core.home import HOME_VARIABLE
from neurons.prompts.sets import saved_sets
from neurons.storage.jobs import JobRunner
from neurons.storage.manifest import MANIFEST, entry_of, manifest_bytes, read_manifest
from traces import TraceStore

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.tar.xz"))
MOST_BYTES = 300_000


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name.partition(".")[0])
def golden(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    return folder


def test_they_are_there_and_small() -> None:
    assert len(GOLDEN) >= 4
    assert sum(path.stat().st_size for path in GOLDEN) < MOST_BYTES


def test_everything_opens(golden: Path) -> None:
    facts = json.loads((golden / "golden.json").read_text())
    store = TraceStore(golden / "traces", examples=None)
    rows = {row.title if not row.name else row.name: row for row in store.list()}
    assert {"greeting", "evicted"} <= set(rows)
    assert len(store.list(set_name="pair")) == (0 if "prompts run" in facts["left_out"] else 2)
    assert [row.name for row in store.list(trashed=True)] == ["gone"]
    for row in store.list():
        record = store.load(row.id)
        assert record.answer_ids
        assert store.verify(row.id).ok, store.verify(row.id).problems
        if row.activations == "stored":
            acts_LTI = store.read(row.id, "activations")
            assert acts_LTI.shape == (record.model.n_layers, len(record.token_ids), record.model.n_neurons)
            assert np.isfinite(acts_LTI).all()
            assert np.abs(acts_LTI).max() > 0
    kept = store.load(facts["kept"])
    assert (kept.name, kept.tags, kept.note, kept.pinned) == ("greeting", ("kept",), "a note", True)
    steered = [record for row in store.list() if (record := store.load(row.id)).steers]
    assert [str(side) for side in steered[0].steers[0].neurons] == ["1:2+", "0:7-"]
    if "attribute" not in " ".join(facts["left_out"]):
        (info,) = store.attributions(facts["kept"])
        assert np.isfinite(store.attribution(facts["kept"], info.key).attribution_N).all()


def test_it_can_be_worked_on(golden: Path) -> None:
    facts = json.loads((golden / "golden.json").read_text())
    store = TraceStore(golden / "traces", examples=None)
    store.update(facts["kept"], name="renamed")
    gone = store.list(trashed=True)[0].id
    store.restore(gone)
    store.evict(facts["kept"]) if not store.load(facts["kept"]).pinned else None
    again = TraceStore(golden / "traces", examples=None)
    assert again.load(facts["kept"]).name == "renamed"
    assert again.load(gone).name == "gone"
    assert all(again.verify(row.id).ok for row in again.list())


def test_concepts_sets_and_jobs_are_there(golden: Path) -> None:
    facts = json.loads((golden / "golden.json").read_text())
    if "concept save" not in facts["left_out"]:
        assert [str(side) for side in SavedConcepts().load("mine").sides] == ["1:2+", "0:7-"]
    if "prompts save" not in facts["left_out"]:
        assert "two" in saved_sets()
    if "prompts run" not in facts["left_out"]:
        runner = JobRunner(golden / "jobs")
        (job,) = runner.list()
        assert (job.state, job.total) == ("done", 2)


def test_a_future_trace_is_refused_untouched(golden: Path) -> None:
    """A format of a later version: named, never changed, and the others open."""
    facts = json.loads((golden / "golden.json").read_text())
    folder = golden / "traces" / facts["kept"]
    path = folder / "trace.json"
    value = json.loads(path.read_text())
    value.pop("sha256", None)
    path.write_text(json.dumps({**value, "version": 99}))
    manifest = read_manifest(folder)
    (folder / MANIFEST).write_bytes(manifest_bytes({**manifest, path.name: entry_of(path)}))
    before = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    shutil.rmtree(golden / "traces" / ".catalogue", ignore_errors=True)
    for file in (golden / "traces").glob("catalogue*"):
        file.unlink()
    store = TraceStore(golden / "traces", examples=None)
    with pytest.raises(StoreError, match="schema version 99; this program reads version 1: update Neuronscope"):
        store.load(facts["kept"])
    assert len(store.list()) > 1
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()} == before
