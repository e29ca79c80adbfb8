"""A scaled-down day of one server, in a process of its own: `python -m tests.support.day_of_use HOME MODEL GENERATIONS ATTRIBUTIONS`.

Prints {"first": bytes, "last": bytes}: the process's memory after the first fifth of the day and at its end.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any

import psutil

LOOKS = 10
"""Times in a long day at which all pages are opened."""


def main(home: str, model: str, generations: int, attributions: int) -> None:
    os.environ.update(NEURONSCOPE_HOME=home, NEURONSCOPE_MODEL=model, NEURONSCOPE_CACHE_MB="40")
    from neurons.core.types import Message, Sampling
    from pages.shared import live_answer, server_wide, trace_context
    from pages.trace import attribution_job
    from traces.store import TraceStore

    TraceStore.__init__.__kwdefaults__["examples"] = None  # type: ignore[index]
    deadline = time.monotonic() + 120
    while server_wide.model() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server_wide.store().set_budget(30_000_000)
    sizes: list[int] = []
    every = max(1, generations // max(1, attributions))
    rounds = max(25, generations // LOOKS)
    for number in range(generations):
        messages = [Message("user", f"Question {number} of this long day: what is the capital of country {number}? " * 2)]
        task = live_answer.start(messages, place="day", what="answering", sampling=Sampling(max_new_tokens=8))
        assert task.wait(120)
        (trace_id,) = task.result()
        trace_context.activations_of(trace_id)
        if number % every == 0:
            _attribute(trace_id, attribution_job, trace_context, stopped=number % (3 * every) == 0)
        if number % rounds == 0:
            _look_around(trace_id)
        gc.collect()
        sizes.append(psutil.Process().memory_info().rss)
    fifth = max(1, len(sizes) // 5)
    print(json.dumps({"first": max(sizes[:fifth]), "last": min(sizes[-3:]), "every_tenth": sizes[:: max(1, len(sizes) // 10)]}))


def _look_around(trace_id: str) -> None:
    """Every page once, as a browser that comes and goes."""
    from tests.support.app_pages import open_page
    from tests.support.page_list import page_list

    for name in page_list():
        app = open_page(name, **({"trace": trace_id} if name == "trace" else {}))
        assert not app.exception, (name, app.exception)


def _attribute(trace_id: str, attribution_job: Any, trace_context: Any, *, stopped: bool) -> None:
    from neurons.attribution.attribute import DEFAULT
    from neurons.core.types import TargetSpec
    from pages.shared import server_wide

    record = server_wide.store().load(trace_id)
    context = trace_context.TraceContext(record, server_wide.model(), "attribution", ())
    task = attribution_job._start(context, (trace_id, TargetSpec(len(record.token_ids) - 2), DEFAULT))
    if stopped:
        task.stop()
    assert task.wait(120)
    if not stopped:
        task.result()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
