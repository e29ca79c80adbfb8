"""Every change that a store of traces or documents can make, by name, for tests that break it off at each step.

Run as a program it does so by SIGKILL: `python -m tests.support.changes NAME BEFORE AFTER` copies the home BEFORE to AFTER/1, AFTER/2, ...
and in each lets a process die before the next step of the change, until one lives to the end.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurons.core.types import AttributionRow, TargetSpec
from neurons.storage.documents import NamedDocuments
from tests.support.faults import dying_at, watched
from tests.support.trace_runs import make_arrays, make_record
from traces import AttributionInfo, StoredAttribution, TraceStore, from_rows
from traces.exchange import export_zip, import_zip

ONE, TWO, GONE, EVICTED = "trace-one", "trace-two", "trace-gone", "trace-evicted"
KINDS = ("rename", "replace", "mkdir", "unlink", "rmdir")


def store_of(home: Path) -> TraceStore:
    return TraceStore(home / "traces", examples=None)


def documents_of(home: Path) -> NamedDocuments:
    return NamedDocuments("concepts", folder=home / "concepts")


def attribution(value: float) -> StoredAttribution:
    info = AttributionInfo(TargetSpec(5, "prob", 12), "grad", value, 0.4, 1000, 1)
    return from_rows(info, [AttributionRow(1, 2, 3, "+", 1.5, value)])


def build(home: Path) -> None:
    """A home with traces, an attribution, a trace in the trash, one without activations, a document, and a file to import."""
    store = store_of(home)
    for trace_id in (ONE, GONE, EVICTED):
        record = make_record(id=trace_id, name="old")
        store.save(record, make_arrays(record))
    store.save_attribution(ONE, attribution(0.25))
    store.delete(GONE)
    store.evict(EVICTED)
    elsewhere = TraceStore(home / "elsewhere", examples=None)
    for trace_id in (TWO, "trace-three"):
        record = make_record(id=trace_id)
        elsewhere.save(record, make_arrays(record))
    export_zip(elsewhere, [TWO, "trace-three"], home / "two.zip")
    shutil.rmtree(home / "elsewhere")
    documents_of(home).save("old", {"a": 1})


def _acts(home: Path, more: float) -> np.ndarray:
    return make_arrays(make_record())["activations"] + np.float16(more)


def _save(home: Path) -> None:
    record = make_record(id="trace-new")
    store_of(home).save(record, make_arrays(record))


CHANGES: dict[str, Callable[[Path], object]] = {
    "save": _save,
    "replace attribution": lambda home: store_of(home).save_attribution(ONE, attribution(0.75)),
    "import": lambda home: import_zip(store_of(home), home / "two.zip"),
    "tag": lambda home: store_of(home).update(ONE, name="new", tags=("new",)),
    "delete": lambda home: store_of(home).delete(ONE),
    "restore": lambda home: store_of(home).restore(GONE),
    "purge": lambda home: store_of(home).purge(GONE),
    "evict": lambda home: store_of(home).evict(ONE),
    "put back": lambda home: store_of(home).put_activations(EVICTED, _acts(home, 0)),
    "put others back": lambda home: store_of(home).put_activations(EVICTED, _acts(home, 1)),
    "save document": lambda home: documents_of(home).save("old", {"a": 2}),
    "rename document": lambda home: documents_of(home).rename("old", "new"),
    "delete document": lambda home: documents_of(home).delete("old"),
}


def check(home: Path, name: str) -> str:
    """That a home is whole after a change that was broken off: all of it was done, or none. Returns "old" or "new"."""
    store, documents = store_of(home), documents_of(home)
    rows = {row.id: row for row in (*store.list(), *store.list(trashed=True))}
    here = {row.id for row in store.list()}
    for row in rows.values():
        assert store.verify(row.id).ok, store.verify(row.id).problems
        record = store.load(row.id)
        assert (row.name, row.tags, row.activations) == (record.name, record.tags, store.activation_state(row.id)), "a stale row"
        folder = store.folders.find(row.id, trashed=True)
        assert (row.activations == "stored") == (folder / "tensors.zarr" / "activations").exists(), "a leak"
        assert bool(row.tensor_bytes) == (row.activations == "stored")
        if row.activations == "stored":
            assert np.isfinite(store.read(row.id, "activations")).all()
    assert not list(store.folders.work.glob("*/journal.json"))
    keys = [info.key for info in store.attributions(ONE)]
    assert len(keys) == 1
    value = float(store.attribution(ONE, keys[0]).attribution_N[0])
    assert value == store.attributions(ONE)[0].metric_value
    assert {TWO, "trace-three"} <= here or not {TWO, "trace-three"} & here, "half an import"
    assert len(documents.names()) <= 1
    assert not documents.damaged()
    assert documents.names() or name == "delete document", "a document is gone"
    done = {
        "save": "trace-new" in here,
        "replace attribution": value == 0.75,
        "import": TWO in here,
        "tag": rows[ONE].name == "new",
        "delete": ONE not in here,
        "restore": GONE in here,
        "purge": GONE not in rows,
        "evict": rows[ONE].activations == "evicted",
        "put back": rows[EVICTED].activations == "stored",
        "put others back": rows[EVICTED].activations == "stored",
        "save document": documents.names() == ("old",) and documents.load("old") == {"a": 2},
        "rename document": documents.names() == ("new",),
        "delete document": not documents.names(),
    }
    others = {key for key, value in done.items() if value} - {name}
    assert not {key for key in others if not (key.startswith("put") and name.startswith("put"))}, f"{name} also did {others}"
    return "new" if done[name] else "old"


def _die(home: Path, name: str, step: int) -> bool:
    """Whether the change was killed at the step."""
    child = os.fork()
    if child == 0:
        disk = dying_at(step, KINDS)
        try:
            with watched(disk):
                CHANGES[name](home)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def main(name: str, before: Path, after: Path, stride: int) -> None:
    step, number = 1, 0
    while True:
        number += 1
        home = after / str(number)
        shutil.copytree(before, home, symlinks=True)
        if not _die(home, name, step):
            return
        step += stride


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
