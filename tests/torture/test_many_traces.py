"""A home with thousands of traces: what a start looks through before anything is shown."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from neurons.storage.manifest import MANIFEST, entry_of, manifest_bytes, read_manifest
from tests.support.tally import size, tally
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore
from traces.folders import RECORD
from traces.schema import to_json

TRACES = size(400, 10_000)
SECONDS = 2.0 * TRACES / 10_000 + 0.1
"""Of a processor, which other work on the machine does not change; a tenth of a second for what every start does."""


def copies(root: Path, source: Path, count: int) -> None:
    """More traces with the arrays of one, which stay one file on the disk each."""
    record, manifest = make_record(), read_manifest(source)
    for number in range(count):
        folder = root / f"trace-{number:06}"
        shutil.copytree(source, folder, copy_function=os.link)
        for name in (RECORD, MANIFEST):
            (folder / name).unlink()
        (folder / RECORD).write_text(to_json(replace(record, id=folder.name, answer=f"answer {number}")))
        (folder / MANIFEST).write_bytes(manifest_bytes({**manifest, RECORD: entry_of(folder / RECORD)}))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_start_looks_through_all_traces_in_time(tmp_path: Path) -> None:
    record = make_record(id="trace-first")
    store = TraceStore(tmp_path / "traces", examples=None)
    store.save(record, make_arrays(record))
    copies(store.root, store.root / record.id, TRACES)
    assert TraceStore(store.root, examples=None).usage().traces == TRACES + 1  # the first start lists them
    leftover, stale = store.root / "trace-000007", store.root / "trace-000011"
    (leftover / ".meta.json.abc.part").write_bytes(b"x")
    os.utime(leftover / ".meta.json.abc.part", (0, 0))
    shutil.rmtree(stale)
    begun, clock = time.process_time(), time.monotonic()
    again = TraceStore(store.root, examples=None)
    rows = again.list(limit=50)
    used, clock = time.process_time() - begun, time.monotonic() - clock
    tally(f"sweep: a start with {TRACES:,} traces, {used:.2f} s of a processor, {clock:.2f} s", 1, int(used > SECONDS))
    assert len(rows) == 50
    assert again.usage().traces == TRACES
    assert not (leftover / ".meta.json.abc.part").exists()
    assert used < SECONDS
