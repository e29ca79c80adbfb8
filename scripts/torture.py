"""`make torture`: every part of the proof with thousands of tries, two parts at a time, and the table in docs/reliability.md.

    python scripts/torture.py [--only kills ...] [--at-once 2] [--no-docs] [--list]

A part that fails is named and the others go on; the exit status is 1 then. What each part tried, it counts itself (tests/support/tally.py).
Beside the time on the clock stands that of the processor, which says more where the machine does other things, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from neurons.core.json_text import json_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"


@dataclass(frozen=True)
class Part:
    name: str
    what: str
    tests: tuple[str, ...]
    minutes: float
    """Its tests try no more after most of it (`SHARE`); after all of it the part is ended, and counts as failed."""


PARTS = (
    Part("random-kills", "Kills at random moments, 200 for each change", ("tests/torture/test_random_kills.py",), 12),
    Part("machine", "The store against a dictionary, 1,000 runs", ("tests/torture/test_store_machine.py",), 12),
    Part("fuzz", "Anything for every parser", ("tests/torture/test_fuzz.py",), 9),
    Part("long-work", "Long work that is killed and goes on", ("tests/torture/test_long_work.py",), 7),
    Part("load", "Many browsers at once", ("tests/torture/test_load.py",), 7),
    Part("odd-values", "Well-formed files with values that nobody wrote", ("tests/torture/test_odd_values.py",), 5),
    Part(
        "faults",
        "A refused disk call at every step; full and read-only disks",
        ("tests/traces/test_broken_off.py", "tests/traces/test_refusing_disk.py", "-k", "not kill"),
        6,
    ),
    Part("kills", "A kill before every step of every change", ("tests/traces/test_broken_off.py", "-k", "kill"), 5),
    Part("corruption", "5,000 accidents to files", ("tests/torture/test_corruption.py", "tests/traces/test_damage.py"), 5),
    Part("memory", "A scaled-down day of one server", ("tests/torture/test_memory.py",), 4),
    Part("bad-input", "The list of bad inputs through engine, command line, app", ("tests/torture/test_bad_inputs.py",), 3),
    Part("sweep", "A start with 10,000 traces", ("tests/torture/test_many_traces.py",), 1),
    Part("models", "Broken models and chat templates", ("tests/models/test_broken_models.py",), 2),
    Part("formats", "Homes of earlier versions", ("tests/formats/test_golden_homes.py",), 2),
)
"""The longest first. Two at a time they are to end within 40 minutes: their minutes sum up to 80 at most."""
SHARE = 0.8
"""Of a part's time that its tests may use for tries; the rest is for starting, ending and the try that is under way."""
MEMORY_DISK, MEMORY_DISK_BYTES = Path("/dev/shm"), 4 << 30


@dataclass(frozen=True)
class Row:
    part: str
    tries: int
    failures: int
    seconds: float
    processor: float
    """Seconds of processor time of all of its processes."""


def run(part: Part) -> tuple[list[Row], bool, str]:
    """Run one part. Its rows, whether all went well, and what it printed."""
    with tempfile.TemporaryDirectory(prefix="neuronscope-torture-", dir=_place()) as folder:
        counts = Path(folder, "tally.jsonl")
        more = {
            "NEURONSCOPE_TORTURE": "1",
            "NEURONSCOPE_TALLY": str(counts),
            "NEURONSCOPE_FAULT_STEPS": "1000",
            "NEURONSCOPE_PART_SECONDS": str(SHARE * 60 * part.minutes),
            "TMPDIR": folder,
        }
        # Native tracebacks: Python 3.11.7 may end with a SystemError where pytest parses sources for its own (CPython issue 106905).
        options = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "tests.support.budget", "--tb=native", "--timeout", "2400"]
        ended = _ended([sys.executable, "-m", "pytest", *options, *part.tests], {**os.environ, **more}, Path(folder), 60 * part.minutes)
        told = [json.loads(line) for line in counts.read_text().splitlines()] if counts.exists() else []
    shown = ended.shown
    if not told:
        told = [{"part": part.what, "tries": _tests_in(shown), "failures": 0}]
    if not ended.passed and not any(one["failures"] for one in told):  # what a part counts itself says nothing of its other tests
        told[-1]["failures"] = 1
    clock, processor = round(ended.seconds / len(told), 1), round(ended.processor / len(told), 1)
    rows = [Row(one["part"], one["tries"], one["failures"], clock, processor) for one in told]
    return rows, ended.passed, shown


def _place() -> Path | None:
    """A disk in memory, where there is one with room: a killed process loses nothing that the system has taken, wherever that lies."""
    roomy = MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > MEMORY_DISK_BYTES
    return MEMORY_DISK if roomy else None


@dataclass(frozen=True)
class Ended:
    """A program that ended, or was ended."""

    passed: bool
    shown: str
    seconds: float
    processor: float


def _ended(command: Sequence[str], environment: dict[str, str], folder: Path, most: float) -> Ended:
    """Run a program to its end, for `most` seconds. Its descendants end with it."""
    begun, shown = time.monotonic(), folder / "shown.txt"
    with shown.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)

    def end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(most, end)
    timer.start()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    late = "" if process.returncode != -signal.SIGKILL else f"\nended after {most / 60:g} minutes"
    return Ended(
        process.returncode == 0,
        shown.read_text(errors="replace")[-4000:] + late,
        time.monotonic() - begun,
        used.ru_utime + used.ru_stime,
    )


def _tests_in(shown: str) -> int:
    """How many tests pytest's last line counts."""
    words = (shown.strip().splitlines() or [""])[-1].replace(",", "").split()
    return sum(int(words[n - 1]) for n, word in enumerate(words) if word in ("passed", "failed") and words[n - 1].isdigit())


def _seconds(processor: float) -> str:
    return f"{processor:,.0f} s" if processor else "not noted"


def table(rows: Sequence[Row]) -> str:
    lines = [f"| {row.part} | {row.tries:,} | {row.failures:,} | {row.seconds:,.0f} s | {_seconds(row.processor)} |" for row in rows]
    tries, failures = sum(row.tries for row in rows), sum(row.failures for row in rows)
    clock, processor = (sum(times) / 60 for times in ([row.seconds for row in rows], [row.processor for row in rows]))
    total = f"| **all** | **{tries:,}** | **{failures:,}** | **{clock:,.0f} min** | **{processor:,.0f} min** |"
    return "\n".join(["| Part | Tries | Failures | Time | Of a processor |", "|---|---|---|---|---|", *lines, total])


def write_page(rows: Sequence[Row]) -> None:
    """Put the table between the marks of docs/reliability.md."""
    begin, end = "<!-- torture: begin -->", "<!-- torture: end -->"
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n{table(rows)}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="these parts; their rows replace the older ones")
    parser.add_argument("--no-docs", action="store_true", help="print the table and write nothing")
    parser.add_argument("--at-once", type=int, default=2, help="parts that run side by side; 2 by default")
    parser.add_argument("--list", action="store_true", help="name the parts")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{part.name:14} {part.what}" for part in PARTS))
        return
    chosen = [part for part in PARTS if not arguments.only or part.name in arguments.only]
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    good, begun = True, time.monotonic()
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for part, (rows, passed, shown) in zip(chosen, pool.map(run, chosen), strict=True):
            good = good and passed
            kept[part.name] = [asdict(row) for row in rows]
            print(f"{part.name}: {part.what}\n{'' if passed else shown}\n{table(rows)}", flush=True)
    every = [Row(**row) for part in PARTS for row in kept.get(part.name, ())]
    print(f"{table(every)}\n{len(chosen)} of {len(PARTS)} parts in {(time.monotonic() - begun) / 60:.0f} minutes")
    if not arguments.no_docs:
        RESULTS.write_text(json_text(kept, indent=1) + "\n", encoding="utf-8")
        write_page(every)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
