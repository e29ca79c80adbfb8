"""Several writers of one trace store at once, and writers that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from neurons.core.errors import NeuronscopeError
from tests.support.trace_runs import save
from traces import TraceStore

_SAVER = """
import sys
from pathlib import Path
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore
store = TraceStore(Path(sys.argv[1]), examples=None)
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    record = make_record(n_prompt=40)
    store.save(record, make_arrays(record))
    print(number, flush=True)
"""


def _start_saver(root: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _SAVER, str(root), str(count)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


@pytest.mark.slow
def test_kill_during_writes_leaves_whole_traces_or_none(tmp_path: Path) -> None:
    root = tmp_path / "traces"
    for attempt in range(4):
        with _start_saver(root, 10_000) as saver:
            assert saver.stdout is not None
            for _ in range(2 + attempt):
                saver.stdout.readline()
            time.sleep(0.003 * attempt)
            saver.send_signal(signal.SIGKILL)
    store = TraceStore(root, examples=None)
    rows = store.list()
    assert rows
    for row in rows:
        assert store.verify(row.id).ok, store.verify(row.id).problems
        store.read(row.id, "activations")


@pytest.mark.slow
def test_two_processes_save_at_once(tmp_path: Path) -> None:
    root = tmp_path / "traces"
    with _start_saver(root, 12) as one, _start_saver(root, 12) as two:
        assert one.wait(60) == 0
        assert two.wait(60) == 0
    store = TraceStore(root, examples=None)
    assert len(store.list()) == 24
    assert all(store.verify(row.id).ok for row in store.list())


def test_threads_share_a_store(store: TraceStore) -> None:
    saved = save(store)
    errors: list[NeuronscopeError] = []

    def work(number: int) -> None:
        try:
            save(store)
            store.update(saved.id, tags=(*store.load(saved.id).tags, f"t{number}"))
            store.list("capital")
        except NeuronscopeError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(store.list()) == 7
