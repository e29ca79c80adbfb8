"""What SQLite, icechunk and plain zarr do under the faults that `make torture` gives Neuronscope's store, measured here.

    python bench/reliability_peers.py [--tries 300] [--processes 30] [--json FILE] [--page]

Each holds one array of 512 x 1,024 float32 (in SQLite: rows of blobs). Faults: a kill during a replacing write, a changed bit, a deleted
file, one cut off, no room for a write, two writers at once, a reader while it is deleted and put back. What counts is what a reader sees:
the old or the new array, an error, or, the worst, other numbers without a word. `--processes` is the number of tries of faults that start
programs. A peer that is not installed is left out and named. `--page` writes the table of docs/reliability.md from FILE.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from neurons.core.json_text import json_text

SHAPE, CHUNK = (512, 1024), (64, 1024)


def values(seed: float) -> np.ndarray:
    """The array of a writer: hard to compress, and no entry is 0, so that zeros are seen."""
    return (np.random.default_rng(0).uniform(1, 2, SHAPE) + seed).astype(np.float32)


class Peer(Protocol):
    name: str

    def write(self, place: Path, array: np.ndarray) -> None: ...

    def read(self, place: Path) -> np.ndarray: ...


class PlainZarr:
    name = "plain zarr"

    def write(self, place: Path, array: np.ndarray) -> None:
        import zarr

        zarr.create_array(store=str(place / "z"), name="a", shape=SHAPE, chunks=CHUNK, dtype="float32", overwrite=True)[:] = array

    def read(self, place: Path) -> np.ndarray:
        import zarr

        array: Any = zarr.open_group(str(place / "z"), mode="r")["a"]
        return np.asarray(array[:])


class Icechunk:
    name = "icechunk"

    def _repository(self, place: Path) -> Any:
        icechunk: Any = importlib.import_module("icechunk")  # in an environment of its own
        return icechunk.Repository.open_or_create(icechunk.local_filesystem_storage(str(place / "i")))

    def write(self, place: Path, array: np.ndarray) -> None:
        import zarr

        session = self._repository(place).writable_session("main")
        zarr.create_array(store=session.store, name="a", shape=SHAPE, chunks=CHUNK, dtype="float32", overwrite=True)[:] = array
        session.commit("write")

    def read(self, place: Path) -> np.ndarray:
        import zarr

        array: Any = zarr.open_group(self._repository(place).readonly_session("main").store, mode="r")["a"]
        return np.asarray(array[:])


class SQLite:
    name, journal = "SQLite", "DELETE"

    def write(self, place: Path, array: np.ndarray) -> None:
        with sqlite3.connect(place / "s.db", timeout=5) as connection:
            connection.execute(f"PRAGMA journal_mode = {self.journal}")
            connection.execute("CREATE TABLE IF NOT EXISTS a (row INTEGER PRIMARY KEY, data BLOB)")
            rows = ((start, array[start : start + CHUNK[0]].tobytes()) for start in range(0, SHAPE[0], CHUNK[0]))
            connection.executemany("INSERT OR REPLACE INTO a VALUES (?, ?)", rows)
        connection.close()

    def read(self, place: Path) -> np.ndarray:
        connection = sqlite3.connect(f"file:{place / 's.db'}?mode=rw", uri=True)
        try:
            parts = [row[0] for row in connection.execute("SELECT data FROM a ORDER BY row")]
        finally:
            connection.close()
        return np.frombuffer(b"".join(parts), np.float32).reshape(SHAPE)


class SQLiteWAL(SQLite):
    """With the write-ahead log that most programs turn on."""

    name, journal = "SQLite, WAL", "WAL"


class Neuronscope:
    name = "Neuronscope"

    def _store(self, place: Path) -> Any:
        from traces import TraceStore

        return TraceStore(place / "traces", examples=None)

    def write(self, place: Path, array: np.ndarray) -> None:
        from dataclasses import replace

        from tests.support.trace_runs import make_record

        record = make_record(n_prompt=250, n_answer=6, id="trace-one")
        record = replace(record, model=replace(record.model, n_layers=2, n_neurons=1024))
        store = self._store(place)
        shaped = array.reshape(2, 256, 1024)
        if any(row.id == "trace-one" for row in store.list()):
            store.evict("trace-one")
            store.put_activations("trace-one", shaped, reason="bench")
        else:
            store.save(record, {"activations": shaped})

    def read(self, place: Path) -> np.ndarray:
        found = self._store(place).read("trace-one", "activations")
        return np.asarray(found, np.float32).reshape(SHAPE)


def outcome(peer: Peer, place: Path, known: dict[str, np.ndarray]) -> str:
    """What a reader sees: one of the known arrays by name, "told" for any error, "silently wrong" for other numbers."""
    try:
        found = peer.read(place)
    except Exception:  # noqa: BLE001  # whatever a peer raises is a telling
        return "told"
    for name, array in known.items():
        if np.array_equal(found, array):
            return name
    return "silently wrong"


def files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file() and path.stat().st_size and path.suffix not in (".lock",))


class Writer:
    """A process that has imported everything and writes when it is told to."""

    def __init__(self, peer: Peer, place: Path, seed: int, *, limit: int = 0) -> None:
        command = [sys.executable, __file__, "--write", peer.name, str(place), str(seed), str(limit)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def status(self) -> int:
        self.process.communicate()
        return int(self.process.returncode)


def work(name: str, place: str, seed: str, limit: str) -> None:
    """The other side of `Writer`."""
    import resource

    peer = next(peer for peer in PEERS if peer.name == name)
    importlib.import_module(MODULES[name])
    if name == "icechunk":
        importlib.import_module("zarr")
    print("ready", flush=True)
    sys.stdin.readline()
    if int(limit):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    peer.write(Path(place), values(float(seed)))


def killed(peer: Peer, before: Path, place: Path, rng: random.Random, seconds: float) -> str:
    writer = Writer(peer, place, 50)
    writer.go()
    time.sleep(rng.uniform(0, seconds))
    writer.process.kill()
    writer.status()
    return outcome(peer, place, {"old": values(0), "new": values(50)})


def changed_bit(peer: Peer, before: Path, place: Path, rng: random.Random, seconds: float) -> str:
    path = rng.choice(files(place))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    return outcome(peer, place, {"unharmed": values(0)})


def cut_off(peer: Peer, before: Path, place: Path, rng: random.Random, seconds: float) -> str:
    path = rng.choice(files(place))
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    return outcome(peer, place, {"unharmed": values(0)})


def deleted(peer: Peer, before: Path, place: Path, rng: random.Random, seconds: float) -> str:
    rng.choice(files(place)).unlink()
    return outcome(peer, place, {"unharmed": values(0)})


def full_disk(peer: Peer, before: Path, place: Path, rng: random.Random, seconds: float) -> str:
    """A write in a process whose files may not grow past a limit: EFBIG where a full disk gives ENOSPC."""
    writer = Writer(peer, place, 50, limit=rng.randrange(1_000, 250_000))
    writer.go()
    said = writer.status() != 0
    seen = outcome(peer, place, {"old": values(0), "new": values(50)})
    return seen if said or seen == "new" else f"{seen}, and the writer was not told"


def two_writers(peer: Peer, before: Path, place: Path, rng: random.Random, seconds: float) -> str:
    writers = [Writer(peer, place, seed) for seed in (50, 60)]
    for writer in writers:
        writer.go()
    for writer in writers:
        writer.status()
    seen = outcome(peer, place, {"one": values(50), "other": values(60), "old": values(0)})
    return "one of the two" if seen in ("one", "other") else seen


def deleted_and_put_back(peer: Peer, before: Path, place: Path, rng: random.Random, seconds: float) -> str:
    """A reader while another thread takes the whole thing away and puts it back, as moving it to the trash and back does."""
    ended, away = threading.Event(), place.with_name(f"{place.name}-away")

    def move() -> None:
        while not ended.is_set():
            for source, target in ((place, away), (away, place)):
                for child in list(source.iterdir()):
                    with suppress(FileNotFoundError):  # a reader may have removed it: SQLite does so with its logs
                        child.rename(target / child.name)

    away.mkdir()
    mover = threading.Thread(target=move)
    mover.start()
    try:
        time.sleep(rng.uniform(0, 0.01))
        return outcome(peer, place, {"unharmed": values(0)})
    finally:
        ended.set()
        mover.join()
        shutil.rmtree(away, ignore_errors=True)


FAULTS: dict[str, Callable[[Peer, Path, Path, random.Random, float], str]] = {
    "kill during a replacing write": killed,
    "a changed bit": changed_bit,
    "a file cut off": cut_off,
    "a deleted file": deleted,
    "no room for the write": full_disk,
    "two writers at once": two_writers,
    "a reader while it is moved away and back": deleted_and_put_back,
}
PROCESSES = (killed, full_disk, two_writers)
"""The faults that start programs."""
PEERS: tuple[Peer, ...] = (Neuronscope(), SQLite(), SQLiteWAL(), Icechunk(), PlainZarr())
MODULES = {
    "Neuronscope": "tests.support.trace_runs",
    "SQLite": "sqlite3",
    "SQLite, WAL": "sqlite3",
    "icechunk": "icechunk",
    "plain zarr": "zarr",
}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"


def measure(peer: Peer, tries: int, processes: int, folder: Path) -> dict[str, Counter[str]]:
    before = folder / "before"
    before.mkdir(parents=True)
    peer.write(before, values(0))
    begun = time.perf_counter()
    shutil.copytree(before, folder / "warm")
    peer.write(folder / "warm", values(50))
    seconds = time.perf_counter() - begun
    found = {}
    for name, fault in FAULTS.items():
        rng = random.Random(name)
        counts: Counter[str] = Counter()
        for number in range(processes if fault in PROCESSES else tries):
            place = folder / f"{number}"
            shutil.copytree(before, place)
            counts[fault(peer, before, place, rng, seconds)] += 1
            shutil.rmtree(place, ignore_errors=True)
        found[name] = counts
        print(f"{peer.name:12} {name:40} {dict(counts)}", flush=True)
    return found


def write_page(results: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """Put the table between the marks of docs/reliability.md."""
    names = [peer.name for peer in PEERS if peer.name in results]
    lines = ["| Fault | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for fault in FAULTS:
        cells = []
        for name in names:
            counts = results[name].get(fault, {})
            cells.append(", ".join(f"{seen} {count}" for seen, count in sorted(counts.items(), key=lambda pair: -pair[1])) or "not tried")
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    begin, end = "<!-- peers: begin -->", "<!-- peers: end -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    PAGE.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=300)
    parser.add_argument("--processes", type=int, default=30, help="tries of the faults that start programs")
    parser.add_argument("--only", help="one peer by its name")
    parser.add_argument("--json", type=Path, help="add the counts to this file")
    parser.add_argument("--page", action="store_true", help="write the table of docs/reliability.md from --json's file")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    if arguments.page:
        write_page(results)
        return
    for peer in PEERS:
        if arguments.only not in (None, peer.name):
            continue
        if importlib.util.find_spec(MODULES[peer.name]) is None:
            print(f"{peer.name:12} is not installed and was left out")
            continue
        with tempfile.TemporaryDirectory() as folder:
            results[peer.name] = measure(peer, arguments.tries, arguments.processes, Path(folder))
        if arguments.json:
            arguments.json.write_text(json_text(results, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if sys.argv[1:2] == ["--write"]:
        work(*sys.argv[2:])
    else:
        main()
