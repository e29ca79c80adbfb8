"""The cards that edit steers: switch, name, mode, strength, polarity, tokens and neurons of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import streamlit as st

from neurons.core.errors import InvalidInput
from neurons.core.steers import MAX_STRENGTH, Mode, TokenKind, TokenScope
from neurons.core.types import NeuronSide, Polarity
from neurons.models.loaded import LoadedModel
from pages.shared import examples, server_wide, steer_state, untrusted
from pages.shared.descriptions import headlines_for
from pages.shared.neuron_link import MEANING, link_column, links, meanings
from pages.shared.steer_state import Card
from pages.shared.tables import choose_rows

MODES: Mapping[Mode, str] = {"set": "Set", "scale": "Scale", "add": "Add", "cap": "Cap"}
_MODE_HELP = (
    "Set: the activation becomes strength x the neuron's strongest activation on the chosen side (0 suppresses it). "
    "Scale: the activation is multiplied by the strength (1 changes nothing). Add: strength x the strongest activation is added. "
    "Cap: the activation goes no further than strength x the strongest. Steers that came with values use these instead of the strongest."
)
_RANGE: Mapping[Mode, tuple[float, float]] = {"set": (-2.0, 2.0), "scale": (-2.0, 4.0), "add": (-2.0, 2.0), "cap": (-2.0, 2.0)}
_SCOPES: Mapping[TokenKind, str] = {
    "all": "All tokens",
    "answer": "The answer",
    "question": "The question",
    "from question": "From the question on",
    "prompt": "The prompt, template included",
    "ranges": "Ranges of this trace",
}
_CHIPS = 40  # above this many neurons a table is easier to read than chips
_HEADLINE = 120  # characters of what a chip says of its neuron
_SIDES: Mapping[str, Polarity] = {"+": "+", "-": "-"}
POLARITIES = ("as picked", *_SIDES)


def draw_cards(loaded: LoadedModel | None, *, strip_ranges: tuple[tuple[int, int], ...] = (), disabled: bool = False) -> None:
    """Draw every card of the session. `strip_ranges` is what is selected in the strip, offered as a steer's tokens."""
    for card in steer_state.cards():
        with st.expander(_line(card), key=_key(card, "open"), icon=":material/tune:"):
            _header(card, disabled)
            _strength(card, disabled)
            _where(card, strip_ranges, disabled)
            _neurons(card, loaded, disabled)
            st.caption(steer_state.sentence(card.steer))
        if said := steer_state.warning(card.steer, loaded):
            st.warning(said, icon=":material/warning:")
    gone = steer_state.deleted()
    if gone:
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.text(f"Removed the steer {gone[-1][1].steer.name or 'without a name'!r}.")
        right.button("Undo", on_click=steer_state.undo, icon=":material/undo:", key="steer.undo", width="stretch", disabled=disabled)


def _line(card: Card) -> str:
    """The card while it is closed: its name and what it does."""
    on = bool(st.session_state.get(_key(card, "on"), card.steer.enabled))
    name = str(st.session_state.get(_key(card, "name"), card.steer.name)).strip()
    said = steer_state.sentence(replace(card.steer, enabled=on))
    return f"**{untrusted.escape(name)}** {said}" if name else said


def _key(card: Card, name: str) -> str:
    return f"steer.{card.uid}.{name}"


def _start(card: Card, name: str, value: object) -> str:
    """The widget's key; its state starts at the card's value and is the card's again after a page switch.

    Every widget names the card's value as its first one too: a browser that goes from page to page while one is still being drawn misses
    what was set, shows the first value, and sends that back as if a person had chosen it. A card had no neurons then and was off.
    """
    key = _key(card, name)
    if key not in st.session_state:
        st.session_state[key] = value
    return key


def _header(card: Card, disabled: bool) -> None:
    switch, name, mode, delete = st.columns([1, 4, 3, 0.9], vertical_alignment="center")
    on = switch.toggle("On", card.steer.enabled, key=_start(card, "on", card.steer.enabled), disabled=disabled)
    text = name.text_input(
        "Name",
        card.steer.name,
        key=_start(card, "name", card.steer.name),
        placeholder="name this steer",
        label_visibility="collapsed",
        max_chars=120,
        disabled=disabled,
    )
    chosen = mode.segmented_control(
        "Mode",
        list(MODES),
        default=card.steer.mode,
        format_func=MODES.__getitem__,
        key=_start(card, "mode", card.steer.mode),
        help=_MODE_HELP,
        label_visibility="collapsed",
        required=True,
        disabled=disabled,
        on_change=_mode_changed,
        args=(card,),
    )
    delete.button(
        ":material/delete:",
        key=_key(card, "delete"),
        help="Remove this steer; can be undone",
        on_click=steer_state.remove,
        args=(card.uid,),
        disabled=disabled,
    )
    steer_state.change(card.uid, enabled=on, name=text, mode=chosen)


def _mode_changed(card: Card) -> None:
    """Each mode's slider has its own range: draw it again from the card."""
    steer_state.change(card.uid, mode=st.session_state.get(_key(card, "mode")) or card.steer.mode)
    for name in ("slider", "number"):
        st.session_state.pop(_key(card, name), None)


def _strength(card: Card, disabled: bool) -> None:
    low, high = _RANGE[card.steer.mode]
    wide, narrow = st.columns([4, 1.4], vertical_alignment="bottom")
    valued = "x the values it came with" if card.steer.values is not None else "x its strongest activation"
    unit = "x its own activation" if card.steer.mode == "scale" else valued
    inside = min(max(card.steer.strength, low), high)
    wide.slider(
        f"Strength ({unit})",
        low,
        high,
        inside,
        step=0.05,
        key=_start(card, "slider", inside),
        on_change=_strength_changed,
        args=(card, "slider"),
        disabled=disabled,
    )
    narrow.number_input(
        "Strength, exactly",
        -MAX_STRENGTH,
        MAX_STRENGTH,
        float(card.steer.strength),
        step=0.05,
        key=_start(card, "number", float(card.steer.strength)),
        on_change=_strength_changed,
        args=(card, "number"),
        label_visibility="collapsed",
        disabled=disabled,
    )


def _strength_changed(card: Card, source: str) -> None:
    """Slider and number show one value; the slider stops at its ends when the number is beyond them."""
    value = st.session_state.get(_key(card, source))  # none after a reload in the middle of a change
    if value is None:
        return
    low, high = _RANGE[card.steer.mode]
    st.session_state[_key(card, "number")] = float(value)
    st.session_state[_key(card, "slider")] = min(max(float(value), low), high)
    steer_state.change(card.uid, strength=float(value))


def _where(card: Card, strip_ranges: tuple[tuple[int, int], ...], disabled: bool) -> None:
    """Which tokens are steered, and the side of the neurons."""
    tokens, side = st.columns([3, 2])
    kind = tokens.selectbox(
        "Tokens",
        scopes := list(_SCOPES),
        scopes.index(card.steer.tokens.kind),
        format_func=_SCOPES.__getitem__,
        key=_start(card, "scope", card.steer.tokens.kind),
        disabled=disabled,
    )
    polarity = side.segmented_control(
        "Polarity",
        POLARITIES,
        default=POLARITIES[0],
        key=_start(card, "polarity", POLARITIES[0]),
        required=True,
        disabled=disabled,
        help="Which side of the neurons 'strongest activation' means; as picked keeps each neuron's own side",
    )
    one = _SIDES.get(polarity or "")
    wanted = card.picked if one is None else tuple(replace(n, polarity=one) for n in card.picked)
    if wanted != card.steer.neurons:
        steer_state.change(card.uid, neurons=wanted)
    if kind != "ranges":
        with_answer = kind == "question" and card.steer.tokens == TokenScope("question", with_answer=True)
        steer_state.change(card.uid, tokens=TokenScope(kind, with_answer=with_answer))
        return
    _ranges(card, strip_ranges, disabled)


def _ranges(card: Card, strip_ranges: tuple[tuple[int, int], ...], disabled: bool) -> None:
    now = str(card.steer.tokens) if card.steer.tokens.kind == "ranges" else ""
    typed, use = st.columns([3, 2], vertical_alignment="bottom")
    text = typed.text_input(
        "Token ranges, counted from 0; the end is not included",
        now,
        key=_start(card, "ranges", now),
        placeholder="3:9, 12:14, answer",
        disabled=disabled,
    )
    words = ",".join(f"{start}:{stop}" for start, stop in strip_ranges)
    use.button(
        "Use the selected tokens",
        key=_key(card, "use"),
        icon=":material/select:",
        disabled=disabled or not strip_ranges,
        help=f"Tokens selected in the conversation: {words}" if words else "Drag over tokens of the conversation first",
        on_click=_use_selection,
        args=(card, words),
        width="stretch",
    )
    try:
        steer_state.change(card.uid, tokens=TokenScope.parse(text) if text.strip() else TokenScope("ranges"))
    except InvalidInput as error:
        steer_state.change(card.uid, tokens=TokenScope("ranges"))
        server_wide.show_error(error)
    else:
        if not text.strip():
            typed.caption("No ranges yet: this steer does nothing.")


def _use_selection(card: Card, words: str) -> None:
    st.session_state[_key(card, "ranges")] = words
    steer_state.change(card.uid, tokens=TokenScope.parse(words))


def _neurons(card: Card, loaded: LoadedModel | None, disabled: bool) -> None:
    names = [str(side) for side in card.picked]
    if len(names) > _CHIPS:
        _neuron_table(card, loaded, disabled)
        return
    said = headlines_for(loaded.ref) if loaded is not None else {}
    st.multiselect(
        f"Neurons ({len(names)})",
        names,
        default=names,
        format_func=lambda name: f"{name} {said[name][:_HEADLINE]}" if said.get(name) else name,
        key=_start(card, "neurons", names),
        accept_new_options=True,
        placeholder="type layer:index, such as 17:803 or 4:12-",
        on_change=_neurons_changed,
        args=(card, loaded),
        disabled=disabled,
    )
    wrong = st.session_state.get(_key(card, "wrong"))
    if wrong:
        server_wide.show_error(wrong)


def _neurons_changed(card: Card, loaded: LoadedModel | None) -> None:
    """Take neurons away, or add typed ones; what cannot be read is refused and said."""
    kept: list[NeuronSide] = []
    wrong: InvalidInput | None = None
    for text in st.session_state.get(_key(card, "neurons"), [str(side) for side in card.picked]):
        try:
            kept.extend(steer_state.read_neurons(text, loaded))
        except InvalidInput as error:
            wrong = error
    kept = list(dict.fromkeys(kept))
    st.session_state[_key(card, "wrong")] = wrong
    st.session_state[_key(card, "neurons")] = [str(side) for side in kept]
    st.session_state[_key(card, "polarity")] = POLARITIES[0]
    steer_state.set_neurons(card.uid, kept)


def _neuron_table(card: Card, loaded: LoadedModel | None, disabled: bool) -> None:
    with st.expander(f"Neurons ({len(card.picked)})"):
        known = headlines_for(loaded.ref) if loaded is not None else {}
        names = [str(side) for side in card.picked]
        frame = pd.DataFrame(
            {"link": links(names), "meaning": meanings(names, [known.get(f"{n.layer}:{n.index}{n.polarity}", "") for n in card.picked])}
        )
        columns = {"link": link_column(), "meaning": MEANING}
        chosen = choose_rows(frame, key=_key(card, "table"), identity=card.picked, columns=columns, many=True, height=220)
        if loaded is not None:
            examples.on_rows(names, loaded.ref, key=_key(card, "examples"))
        left = tuple(side for place, side in enumerate(card.picked) if place not in set(chosen))
        st.button(
            f"Remove {len(chosen)} selected",
            key=_key(card, "remove"),
            on_click=steer_state.set_neurons,
            args=(card.uid, left),
            disabled=disabled or not chosen,
        )
