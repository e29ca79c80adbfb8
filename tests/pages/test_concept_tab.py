"""The Concepts tab of the Trace page: cards of active concepts, cards of measured causes, and what their buttons do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from neurons.concepts.sets import SavedConcepts
from neurons.detectors.build import build_detectors
from neurons.detectors.causes import Asked, measure_causes
from neurons.detectors.records import ActiveConcept
from neurons.detectors.store import Detectors, detectors_folder
from neurons.tracing.words import word_positions
from pages.shared import server_wide, trace_context
from pages.trace import concept_data, concept_tab
from tests.detectors.test_build import SETTINGS
from tests.support.app_pages import given, loaded, open_page, saved, texts, until
from tests.support.atlases import tiny_corpus
from tests.support.lexicons import letter_lexicon
from traces.schema import TraceRecord


@pytest.fixture
def made(app_home: Path) -> Detectors:
    return build_detectors(loaded(), letter_lexicon(), settings=SETTINGS, corpus=tiny_corpus(), folder=detectors_folder(loaded().ref))


@pytest.fixture
def record(app_home: Path) -> TraceRecord:
    [one] = saved("efghefghefgh")
    return one


def cards(app: AppTest) -> dict[str, Any]:
    return given(app, concept_tab.KEY)


def press(app: AppTest, number: int, action: str) -> AppTest:
    data = cards(app)
    event = {"trace_id": data["trace_id"], "key": data["key"], "number": number, "action": action, "nonce": f"{action}{number}"}
    app.session_state[concept_tab.KEY] = {"event": event}
    return app.run()


def test_without_detectors_it_says_how_to_find_them(record: TraceRecord) -> None:
    app = open_page("trace", trace_tab="Concepts", trace=record.id)
    assert "not known yet" in texts(app)
    assert "atlas concepts" in texts(app)


def test_the_cards_are_what_is_active_over_the_words(made: Detectors, record: TraceRecord) -> None:
    app = open_page("trace", trace_tab="Concepts", trace=record.id)
    data = cards(app)
    acts_LTI = np.asarray(trace_context.activations_of(record.id))
    truth = made.active(acts_LTI, word_positions(record), 20)
    assert [card["label"] for card in data["cards"]] == [row.name for row in truth]
    assert data["cards"][0]["label"] == "letters 1"
    assert "once in" in data["cards"][0]["facts"]
    template = set(range(len(record.token_ids))) - set(word_positions(record))
    assert not any(card["tint"][position] for card in data["cards"] for position in template)


def test_at_most_one_of_five_tokens_is_tinted_and_no_word_of_grammar() -> None:
    pieces = [" the", " dog", " barked", ",", " and", " ran", " to", " a", " red", " house", ".", "\n"] * 2
    rows = (ActiveConcept(0, "dogs", "dogs", "Animals", 9.0, 1e5, "text", tuple((n, 1e4) for n in range(len(pieces))), ()),)
    tinted = np.flatnonzero(concept_data.tints(rows, pieces, len(pieces))[0])
    assert tinted.tolist() == [1, 2, 5, 8]  # four of 24: the strongest that say something
    assert not concept_data.tints((replace(rows[0], tokens=((1, 20.0),)),), pieces, len(pieces)).any()
    assert concept_data.tints((replace(rows[0], tokens=((0, 1e4),)),), pieces, 1)[0, 0] == 1  # the only one that was read


def test_a_card_filters_steers_and_keeps(made: Detectors, record: TraceRecord) -> None:
    app = open_page("trace", trace_tab="Concepts", trace=record.id)
    number = cards(app)["cards"][0]["number"]
    app = press(app, number, "choose")
    assert cards(app)["chosen"] == number
    app = press(app, number, "suppress")
    [card] = app.session_state["steer.cards"]
    assert card.steer.values == pytest.approx([float(made.arrays.mean_LI[s.layer, s.index]) for s in card.steer.neurons])
    assert (card.steer.mode, card.steer.strength) == ("set", 1.0)
    app = press(app, number, "keep")
    assert SavedConcepts().load("letters 1").sides == tuple(side for side, _ in made.sides(number))
    app = press(app, number, "choose")
    assert cards(app)["chosen"] is None


def test_causes_are_measured_in_the_attribution_view(made: Detectors, record: TraceRecord) -> None:
    token = len(record.prompt_ids) + 1
    app = open_page("trace", trace_tab="Concepts", trace=record.id, token=str(token), view="attribution")
    until(lambda: not any(task.running for task in server_wide.server().tasks()))
    data = cards(app.run())
    assert data["scale"] == "diverging"
    acts_LTI = np.asarray(trace_context.activations_of(record.id))
    truth = measure_causes(loaded(), made, Asked(record.token_ids, token, acts_LTI, word_positions(record)))
    assert {card["label"] for card in data["cards"]} == {cause.concept.name for cause in truth}
    assert all(("no more than chance" in card["facts"]) == card["faint"] for card in data["cards"])
    sure = [card["faint"] for card in data["cards"]]
    assert sure == sorted(sure)
