"""Makes the traces that ship with the project: a wrong capital, the same question repaired by a steer, and a sampled sentence.

Run it again after a change of the trace format: `.venv/bin/python scripts/make_examples.py`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from neurons.attribution.attribute import attribute, top_rows
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide, Sampling, TargetSpec
from neurons.models.chat import encode_text
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import RunOptions, run_pair, run_trace
from traces.schema import TraceRecord
from traces.store import EXAMPLES, TraceStore

QUESTION = "What is the capital of Turkey?"
SENTENCE = "Write one short sentence about the sea."
SUPPRESSED = 3


def worst_neurons(loaded: LoadedModel, record: TraceRecord, wrong: str, right: str) -> tuple[NeuronSide, ...]:
    """The neurons that favour the wrong answer most over the right one, summed over the tokens they fire on."""
    (wrong_id, *_), (right_id, *_) = (encode_text(loaded, text, bos=False) for text in (wrong, right))
    token = len(record.prompt_ids) + record.answer_ids.index(wrong_id)
    target = TargetSpec(token=token, metric="contrast", against_id=right_id)
    found = attribute(loaded, record.prompt_ids + record.answer_ids, target)
    sums: dict[tuple[int, int], float] = {}
    for row in top_rows(found, 2000).rows:
        sums[row.layer, row.index] = sums.get((row.layer, row.index), 0.0) + row.attribution
    worst = sorted(sums, key=lambda neuron: -sums[neuron])[:SUPPRESSED]
    return tuple(NeuronSide(layer, index) for layer, index in worst)


def main() -> None:
    loaded = load_model("default", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        store = TraceStore(Path(folder), examples=None)
        probe, _ = run_trace(loaded, QUESTION, sampling=Sampling(max_new_tokens=24))
        neurons = worst_neurons(loaded, probe, " Istanbul", " Ankara")
        steer = Steer(neurons, "set", 0.0, name=f"Without the {SUPPRESSED} neurons that most favour Istanbul over Ankara")
        pair = run_pair(loaded, QUESTION, [steer], sampling=Sampling(max_new_tokens=24), store=store, options=RunOptions(tags=("example",)))
        sentence, _ = run_trace(
            loaded,
            SENTENCE,
            sampling=Sampling(temperature=0.8, top_p=0.95, max_new_tokens=40, seed=7),
            store=store,
            options=RunOptions("A sampled sentence", ("example",)),
        )
        store.update(pair.baseline.id, name="A wrong capital", note="The default model takes Turkey's largest city for its capital.")
        store.update(
            pair.steered.id,
            name="The wrong capital, steered",
            note="The same question with three neurons set to 0. Whether that holds on other questions is another matter.",
        )
        store.update(sentence.id, note="Temperature 0.8 and a seed: replay it, and the same words come back.")
        shutil.rmtree(EXAMPLES, ignore_errors=True)
        for number, record in enumerate((pair.baseline, pair.steered, sentence)):
            print(number, record.id, repr(record.answer))
            shutil.copytree(Path(folder) / record.id, EXAMPLES / record.id)


if __name__ == "__main__":
    main()
