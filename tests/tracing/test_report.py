"""The report of a trace: whole without the app, every text as text, under two megabytes."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from neurons.attribution.attribute import attribute
from neurons.attribution.metrics import METRICS
from neurons.core.errors import NotFound
from neurons.core.steers import Steer
from neurons.core.types import Metric, NeuronSide, Sampling, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import RunOptions, run_pair, run_trace
from neurons.tracing.report import MOST_BYTES, report_html
from neurons.tracing.saved_attributions import storable
from traces.store import TraceStore

HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(2)> {{ 7 * 7 }}"


class _Tags(HTMLParser):
    """What a page is made of, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_text_stays_text_and_nothing_is_loaded(tiny: LoadedModel, store: TraceStore) -> None:
    record, _ = run_trace(tiny, HOSTILE, sampling=Sampling(max_new_tokens=6), store=store, options=RunOptions(HOSTILE))
    page = report_html(store, record.id, about_neurons={f"0:{n}{side}": HOSTILE for n in range(48) for side in "+-"})
    seen = _Tags(page)
    assert not seen.tags & {"script", "img", "link", "iframe", "a"}
    assert not {name for name in seen.attributes if name.startswith("on")} | seen.attributes & {"src", "href"}
    assert HOSTILE in seen.text
    assert seen.text.count("{{ 7 * 7 }}") == seen.text.count("alert(2)")  # as typed everywhere, worked out nowhere


@pytest.mark.parametrize("metric", METRICS)
def test_causes_by_any_metric_are_named(tiny: LoadedModel, store: TraceStore, metric: Metric) -> None:
    record = run_trace(tiny, "hello there", sampling=Sampling(max_new_tokens=3), store=store)[0]
    target = TargetSpec(len(record.prompt_ids), metric, record.answer_ids[0], against_id=9 if metric == "contrast" else None)
    store.save_attribution(record.id, storable(attribute(tiny, record.token_ids, target, prompt_tokens=len(record.prompt_ids), share=True)))
    assert "What caused" in _Tags(report_html(store, record.id)).text


def test_causes_neurons_and_comparison_are_on_the_page(tiny: LoadedModel, store: TraceStore) -> None:
    steer = Steer((NeuronSide(1, 3, "+"), NeuronSide(2, 5, "-")), "set", 0.0, name="mine")
    pair = run_pair(tiny, "hello there", [steer], sampling=Sampling(max_new_tokens=6), store=store)
    record = pair.steered
    target = TargetSpec(len(record.prompt_ids), "prob", record.answer_ids[0])
    found = attribute(tiny, record.token_ids, target, steers=record.steers, prompt_tokens=len(record.prompt_ids), share=True)
    store.save_attribution(record.id, storable(found))
    text = _Tags(report_html(store, record.id, about_neurons={"0:0+": "zeros"})).text
    best = store.attribution(record.id, store.attributions(record.id)[0].key).rows(1)[0]
    assert "What caused" in text
    assert f"{best.layer}:{best.index}{best.polarity}" in text
    assert "Compared with its unsteered run" in text
    assert pair.baseline.answer in text
    assert "1:3+, 2:5-" in text
    assert "Compared with" not in _Tags(report_html(store, pair.baseline.id)).text


def test_a_trace_without_activations_says_so(tiny: LoadedModel, store: TraceStore) -> None:
    record, _ = run_trace(tiny, "hello", sampling=Sampling(max_new_tokens=4), store=store, options=RunOptions(record=False))
    assert "Activations are not shown" in report_html(store, record.id)


def test_a_long_trace_stays_small_and_says_what_is_left_out(tiny: LoadedModel, store: TraceStore) -> None:
    from tests.support.tiny_models import tiny_model

    wide = tiny_model("llama", max_position_embeddings=4096)
    record, _ = run_trace(wide, "word " * 500, sampling=Sampling(max_new_tokens=4), store=store)
    page = report_html(store, record.id)
    assert len(page.encode("utf-8")) < MOST_BYTES
    assert "tokens are left out here" in page


def test_an_unknown_trace_is_refused(store: TraceStore) -> None:
    with pytest.raises(NotFound):
        report_html(store, "abcdef123456")
