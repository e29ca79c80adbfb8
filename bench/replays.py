"""Are replays bit-identical? Four traces of the default model, each replayed 25 times: 13 alone, 12 while another session generates.

    python bench/replays.py [--times 25]

Greedy and sampled, steered and not. The same means: the same token ids, and the same stored activations and probabilities, bit for bit. The
other session is a process of its own that answers other prompts, and a thread of this process that uses the same model.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neurons.core.steers import Steer
from neurons.core.types import NeuronSide, Sampling
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import run_trace
from neurons.tracing.replay import replay
from traces.store import TraceStore

STEER = Steer((NeuronSide(12, 7), NeuronSide(20, 100, "-")), "scale", 3.0, name="two neurons")
KINDS: dict[str, tuple[Sampling, tuple[Steer, ...]]] = {
    "greedy": (Sampling(max_new_tokens=24), ()),
    "greedy, steered": (Sampling(max_new_tokens=24), (STEER,)),
    "sampled": (Sampling(temperature=0.9, top_p=0.95, seed=11, max_new_tokens=24), ()),
    "sampled, steered": (Sampling(temperature=0.9, top_k=40, seed=12, max_new_tokens=24), (STEER,)),
}
OTHER = "import bench.replays as r; r.answer_for_ever()"


def answer_for_ever() -> None:
    """The other session, as a process."""
    loaded = load_model("default")
    while True:
        run_trace(loaded, "Tell a story about a lighthouse.", sampling=Sampling(temperature=1.0, max_new_tokens=30))


@contextmanager
def another_session(loaded: LoadedModel) -> Iterator[None]:
    """A process and a thread that generate."""
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            run_trace(loaded, "Say something else.", sampling=Sampling(temperature=1.0, max_new_tokens=3), steers=(STEER,))

    thread = threading.Thread(target=answer)
    process = subprocess.Popen([sys.executable, "-c", OTHER], cwd=Path(__file__).resolve().parent.parent)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=25, help="replays of each trace")
    options = parser.parse_args()
    loaded = load_model("default")
    alone = (options.times + 1) // 2
    same = {name: [0, 0] for name in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        store = TraceStore(Path(folder), examples=None)
        records = {
            name: run_trace(loaded, "What is the capital of Turkey?", sampling=sampling, steers=steers, store=store)[0]
            for name, (sampling, steers) in KINDS.items()
        }
        for name, record in records.items():
            same[name][0] = sum(replay(loaded, record, store=store).same for _ in range(alone))
        with another_session(loaded):
            for name, record in records.items():
                same[name][1] = sum(replay(loaded, record, store=store).same for _ in range(options.times - alone))
    for name, (quiet, busy) in same.items():
        print(f"{name}: {quiet} of {alone} the same alone, {busy} of {options.times - alone} beside another session")
    total = sum(map(sum, same.values()))
    print(f"{total} of {len(KINDS) * options.times} replays bit-identical")
    if total < len(KINDS) * options.times:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
