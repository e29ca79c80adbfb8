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
OLD, NEW, OTHER = 0.0, 50.0, 60.0
"""The seeds of the array that was there, of a writer's, and of a second writer's."""
_ANSWER = "answer: "
PATIENCE = 60.0
"""Seconds after which a reader hangs."""


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

    def _repository(self, place: Path, *, make: bool) -> Any:
        icechunk: Any = importlib.import_module("icechunk")  # in an environment of its own
        kind = icechunk.Repository
        return (kind.open_or_create if make else kind.open)(icechunk.local_filesystem_storage(str(place / "i")))

    def write(self, place: Path, array: np.ndarray) -> None:
        import zarr

        session = self._repository(place, make=True).writable_session("main")
        zarr.create_array(store=session.store, name="a", shape=SHAPE, chunks=CHUNK, dtype="float32", overwrite=True)[:] = array
        session.commit("write")

    def read(self, place: Path) -> np.ndarray:
        import zarr

        array: Any = zarr.open_group(self._repository(place, make=False).readonly_session("main").store, mode="r")["a"]
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
    """The array is a part of an attribution: of what a trace holds, that alone is ever replaced."""

    name = "Neuronscope"

    def _store(self, place: Path) -> Any:
        from traces import TraceStore

        return TraceStore(place / "traces", examples=None)

    def write(self, place: Path, array: np.ndarray) -> None:
        from dataclasses import replace

        from tests.support.changes import attribution
        from tests.support.trace_runs import make_record

        store = self._store(place)
        if not any(row.id == "trace-one" for row in store.list()):
            store.save(make_record(id="trace-one"))
        store.save_attribution("trace-one", replace(attribution(0.5), mass_LT=array))

    def read(self, place: Path) -> np.ndarray:
        from tests.support.changes import attribution

        return np.asarray(self._store(place).attribution("trace-one", attribution(0.5).info.key).mass_LT)


class Reader:
    """A process that reads with a library: whatever that does to it, the next one goes on."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.process = self._begin()

    def _begin(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, __file__, "--read", self.peer.name]
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def outcome(self, place: Path, known: Mapping[str, float]) -> str:
        """One of the arrays `known` by their seeds, "told" for any error, "silently wrong" for other numbers, "crashed", "hangs"."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        ended = threading.Timer(PATIENCE, self.process.kill)
        ended.start()
        self.process.stdin.write(json_text([str(place), known]) + "\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "")
        said = next((line.removeprefix(_ANSWER).strip() for line in lines if line.startswith(_ANSWER)), "")  # libraries print, too
        late = not ended.is_alive()
        ended.cancel()
        if not said:
            self.process.kill()
            self.process.wait()
            self.process = self._begin()
        return said or ("hangs" if late else "crashed")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def answer(name: str) -> None:
    """The other side of `Reader`."""
    peer = next(peer for peer in PEERS if peer.name == name)
    for line in sys.stdin:
        place, known = json.loads(line)
        print(f"{_ANSWER}{seen(peer, Path(place), known)}", flush=True)


def seen(peer: Peer, place: Path, known: Mapping[str, float]) -> str:
    """What a reader sees."""
    try:
        found = peer.read(place)
    except Exception:  # noqa: BLE001  # whatever a peer raises is a telling
        return "told"
    for name, seed in known.items():
        if np.array_equal(found, values(seed)):
            return name
    return "silently wrong"


def files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file() and path.stat().st_size and path.suffix not in (".lock",))


class Writer:
    """A process that has imported everything and writes when it is told to."""

    def __init__(self, peer: Peer, place: Path, seed: float, *, limit: int = 0) -> None:
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


def killed(peer: Peer, reader: Reader, place: Path, rng: random.Random, seconds: float) -> str:
    writer = Writer(peer, place, NEW)
    writer.go()
    time.sleep(rng.uniform(0, seconds))
    writer.process.kill()
    writer.status()
    return reader.outcome(place, {"old": OLD, "new": NEW})


def changed_bit(peer: Peer, reader: Reader, place: Path, rng: random.Random, seconds: float) -> str:
    path = rng.choice(files(place))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    return reader.outcome(place, {"unharmed": OLD})


def cut_off(peer: Peer, reader: Reader, place: Path, rng: random.Random, seconds: float) -> str:
    path = rng.choice(files(place))
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    return reader.outcome(place, {"unharmed": OLD})


def deleted(peer: Peer, reader: Reader, place: Path, rng: random.Random, seconds: float) -> str:
    rng.choice(files(place)).unlink()
    return reader.outcome(place, {"unharmed": OLD})


def full_disk(peer: Peer, reader: Reader, place: Path, rng: random.Random, seconds: float) -> str:
    """A write in a process whose files may not grow past a limit: EFBIG where a full disk gives ENOSPC."""
    writer = Writer(peer, place, NEW, limit=rng.randrange(1_000, 250_000))
    writer.go()
    said = writer.status() != 0
    found = reader.outcome(place, {"old": OLD, "new": NEW})
    return found if said or found == "new" else f"{found}, and the writer was not told"


def two_writers(peer: Peer, reader: Reader, place: Path, rng: random.Random, seconds: float) -> str:
    writers = [Writer(peer, place, seed) for seed in (NEW, OTHER)]
    for writer in writers:
        writer.go()
    for writer in writers:
        writer.status()
    found = reader.outcome(place, {"one": NEW, "other": OTHER, "old": OLD})
    return "one of the two" if found in ("one", "other") else found


def deleted_and_put_back(peer: Peer, reader: Reader, place: Path, rng: random.Random, seconds: float) -> str:
    """A reader while another thread takes the whole thing away and puts it back, as moving it to the trash and back does."""
    ended, away = threading.Event(), place.with_name(f"{place.name}-away")
    away.mkdir()
    here, there = (place / "traces", place / "traces" / ".trash") if isinstance(peer, Neuronscope) else (place, away)

    def move() -> None:
        while not ended.is_set():
            for source, target in ((here, there), (there, here)):
                for child in [child for child in source.iterdir() if child.name.startswith("trace-") or source in (place, away)]:
                    with suppress(OSError):  # a reader may have removed it, or made one anew: SQLite does so with its logs
                        child.rename(target / child.name)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        time.sleep(rng.uniform(0, 0.01))
        return reader.outcome(place, {"unharmed": OLD})
    finally:
        ended.set()
        mover.join()
        shutil.rmtree(away, ignore_errors=True)


FAULTS: dict[str, Callable[[Peer, Reader, Path, random.Random, float], str]] = {
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
    peer.write(before, values(OLD))
    begun = time.perf_counter()
    shutil.copytree(before, folder / "warm")
    peer.write(folder / "warm", values(NEW))
    seconds = time.perf_counter() - begun
    found, reader = {}, Reader(peer)
    for name, fault in FAULTS.items():
        rng = random.Random(name)
        counts: Counter[str] = Counter()
        for number in range(processes if fault in PROCESSES else tries):
            place = folder / f"{number}"
            shutil.copytree(before, place)
            counts[fault(peer, reader, place, rng, seconds)] += 1
            shutil.rmtree(place, ignore_errors=True)
        found[name] = counts
        print(f"{peer.name:12} {name:40} {dict(counts)}", flush=True)
    reader.close()
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
    elif sys.argv[1:2] == ["--read"]:
        answer(*sys.argv[2:])
    else:
        main()
