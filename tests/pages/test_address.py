"""What pages read of their address: links of the app and of older versions open as they did, what is not usable is told by its name."""

from __future__ import annotations

import pytest

from neurons.tours.tours import TOURS
from pages.atlas_page import AtlasState
from pages.browse.filters import FilterState
from pages.browse.one_neuron import NeuronState
from pages.compare_page import CompareState
from pages.repair.repair_form import AskedState
from pages.shared.address_state import JobState, PageState, usable
from pages.shared.trace_context import TraceState
from pages.tours_page import TourState
from tests.support.app_pages import open_page


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"token": "3:5,9", "view": "surprisal"}, TraceState(token=((3, 5), (9, 10)), view="surprisal")),
        ({"token": "3-5"}, TraceState(token=((3, 5),))),
        ({"step": "2", "tour": "x"}, TourState(tour="x", step=2)),
        ({"a": "1f", "b": "", "kept": "0"}, CompareState(a="1f")),
        ({"job": "20260101-0a1b"}, JobState(job="20260101-0a1b")),
        ({"neuron": "17:803+", "view": "try"}, NeuronState(neuron="17:803+", view="try")),
        ({"prompt": "What?", "unwanted": "no"}, AskedState(prompt="What?", unwanted="no")),
        ({"tab": "describe"}, AtlasState(tab="describe")),
        ({}, AtlasState()),
        (
            {"q": "a river", "side": " ", "score": "0.3", "kind": "token,of another version", "clear": "1", "layers": "2:5"},
            FilterState(q="a river", side="+", score=0.3, kind=("token",), clear=True, layers=(2, 5)),
        ),
    ],
)
def test_links_open(given: dict[str, str], state: PageState) -> None:
    assert usable(type(state), given) == (state, {})


@pytest.mark.parametrize(
    ("kind", "given", "wrong"),
    [
        (TraceState, {"token": "5:3", "view": "smell"}, {"token", "view"}),
        (TraceState, {"token": "²", "view": "entropy"}, {"token"}),
        (TourState, {"step": "0"}, {"step"}),
        (TourState, {"step": "²"}, {"step"}),
        (AtlasState, {"tab": "<b>"}, {"tab"}),
        (NeuronState, {"neuron": "1:2+", "view": "smell"}, {"view"}),
        (CompareState, {"a": "x" * 300, "b": "1f"}, {"a"}),
        (
            FilterState,
            {"score": "nan", "layers": "5:2", "side": "x", "order": "of chance", "q": "kept"},
            {"score", "layers", "side", "order"},
        ),
    ],
)
def test_what_is_not_usable_takes_its_default_and_is_named(kind: type[PageState], given: dict[str, str], wrong: set[str]) -> None:
    state, told = usable(kind, given)
    assert set(told) == wrong
    assert all(told.values())
    for name in kind.model_fields:
        expected = given[name] if name in given and name not in wrong else kind().model_dump()[name]
        assert getattr(state, name) == expected


def test_a_page_says_what_of_its_address_it_left_out(app_home: object) -> None:
    app = open_page("tours", tour=TOURS[0].id, step="last")
    assert not app.exception
    assert [toast.value.replace("\\", "") for toast in app.toast] == ["Left out of the address: step=last (is no whole number)"]
    assert not app.run().toast
