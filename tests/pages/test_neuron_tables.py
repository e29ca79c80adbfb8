"""Tables of neurons: each row leads to the neuron's page and says what it means; a ticked one shows where it fires most."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from neurons.core.steers import Steer
from neurons.core.types import NeuronSide, Polarity
from neurons.models.chat import token_pieces, token_text
from pages.shared import examples, steer_state
from pages.shared.neuron_link import MEANING, meanings
from tests.support.app_pages import given, loaded, open_page, saved, select
from tests.support.described_pages import installed

pytestmark = pytest.mark.usefixtures("described")


def test_rows_of_the_trace_page_link_and_mean_something() -> None:
    app = open_page("trace", trace=saved("hello there")[0].id)
    table = app.dataframe[0].value
    names = table["link"].str.partition("neuron=")[2].str.replace("%2B", "+")
    assert list(names) == list(table["neuron"])
    assert table["description"].ne("").any()
    shown = table["meaning"].fillna("").str.extract(str(MEANING["type_config"]["display_text"]), expand=False).fillna("")
    assert [unquote(text) for text in shown] == list(table["description"])
    linked = table[table["meaning"].notna()]
    assert all(meaning.startswith(f"{link}#") for meaning, link in zip(linked["meaning"], linked["link"], strict=True))


def test_the_ticked_neuron_shows_where_it_fires_most() -> None:
    record = saved("hello there")[0]
    app = open_page("trace", trace=record.id)
    names = list(app.dataframe[0].value.index)
    side = NeuronSide.parse(app.dataframe[0].value["neuron"].iloc[0])
    select(app, "trace.acts.table", names, 0)
    shown = app.button(key="trace.acts.open").help
    best = installed().exemplars(side.layer, side.index, side.polarity)
    assert shown.startswith(f"{side} fires most at") == bool(best)
    assert ("«" in shown) == bool(best)
    assert "*" not in examples.tip(side, loaded().ref).replace("\\*", "")


def test_the_first_rows_are_told_where_they_fire_most() -> None:
    app = open_page("trace", trace=saved("hello there")[0].id)
    names = list(app.dataframe[0].value["neuron"].iloc[: examples.ROWS])
    places = given(app, "trace.acts.examples")["places"]
    assert places
    assert set(places) <= set(names)
    for name, shown in places.items():
        side = NeuronSide.parse(name)
        best = installed().exemplars(side.layer, side.index, side.polarity, context=(8, 4))[:2]
        assert [place[1] for place in shown] == [
            token_pieces(loaded(), one.ids)[one.peak] or token_text(loaded(), one.ids[one.peak]) for one in best
        ]


def test_a_peak_is_seen_whatever_token_it_is() -> None:
    ref, atlas = loaded().ref, installed()
    signs: tuple[Polarity, ...] = ("+", "-")
    sides = [NeuronSide(layer, index, sign) for layer in range(ref.n_layers) for index in range(ref.n_neurons) for sign in signs]
    places = [place for found in examples.strongest(tuple(map(str, sides)), ref).values() for place in found]
    special = set(loaded().tokenizer.all_special_tokens)
    assert places
    assert all(word for _, word, _ in places)
    peaks = {one.ids[one.peak] for side in sides for one in atlas.exemplars(side.layer, side.index, side.polarity, most=3)}
    assert {word for _, word, _ in places} & special == {token_text(loaded(), peak) for peak in peaks} & special


def test_a_large_card_s_neurons_link_too() -> None:
    app = open_page("trace", trace_tab="Steer", trace=saved("hello there")[0].id)
    sides = tuple(NeuronSide(1, index) for index in range(45))
    app.session_state[steer_state._CARDS] = (steer_state.Card("x", Steer(sides, "set", 0.0), sides),)
    app.run()
    table = next(one.value for one in app.dataframe if "link" in one.value)
    assert list(table["link"][:2]) == ["/neurons?neuron=1:0%2B", "/neurons?neuron=1:1%2B"]
    assert table["meaning"].notna().any()


def test_words_of_any_kind_stand_in_a_link_and_nothing_of_them_is_an_address() -> None:
    said = 'a & b # c + d / "e" <i> 100% ü⏎'
    (link,) = meanings(["1:2-"], [said])
    assert link is not None
    address, _, mark = link.partition("#")
    assert address == "/neurons?neuron=1:2-"
    assert unquote(mark) == said
    assert not set(mark) & set(' &#+/"<>?')
    assert meanings(["1:2-"], [""]) == [None]
