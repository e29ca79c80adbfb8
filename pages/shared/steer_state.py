"""The steers of this browser session: cards that are edited here, run from the Steer tab, and saved by name.

A card is a `Steer` with an id of its own, so that its widgets keep their values while other cards come and go.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from neurons.concepts.answer_scores import VISIBLE
from neurons.concepts.strength import AS_LEARNED, known_best
from neurons.core.errors import InvalidSteer
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel
from neurons.runs.steering import resolve

_CARDS = "steer.cards"
_DELETED = "steer.deleted"
_SEPARATORS = re.compile(r"[,;\n]+|\s+(?=[lL]?\d+\s*[:/.])")


@dataclass(frozen=True)
class Card:
    """One steer on the page."""

    uid: str
    steer: Steer
    picked: tuple[NeuronSide, ...]
    """The neurons with the polarity they were picked with, whatever polarity the card sets for all of them."""


def cards() -> tuple[Card, ...]:
    """The cards of this session, in order."""
    return tuple(st.session_state.get(_CARDS, ()))


def steers() -> tuple[Steer, ...]:
    """What the cards say, switched-off ones included."""
    return tuple(card.steer for card in cards())


def add(steer: Steer) -> Card:
    """Put a steer on a new card at the end, as it is for any prompt."""
    steer = replace(steer, tokens=steer.tokens.at_question(None))
    card = Card(secrets.token_hex(4), steer, steer.neurons)
    st.session_state[_CARDS] = (*cards(), card)
    return card


def add_all(new: Iterable[Steer]) -> None:
    """Put several steers on new cards."""
    for steer in new:
        add(steer)


def replace_all(new: Iterable[Steer]) -> None:
    """Put several steers on cards in the place of those that are there; `undo` brings these back one by one."""
    clear()
    add_all(new)


def change(uid: str, **fields: Any) -> None:
    """Replace fields of one card's steer. Values belong to neurons: they stay with those that stay, and new neurons drop them all."""
    st.session_state[_CARDS] = tuple(replace(c, steer=_changed(c.steer, fields)) if c.uid == uid else c for c in cards())


def _changed(steer: Steer, fields: dict[str, Any]) -> Steer:
    if "neurons" in fields and "values" not in fields:
        known = dict(zip(steer.neurons, steer.values or (), strict=False))
        stay = bool(known) and all(side in known for side in fields["neurons"])
        fields = {**fields, "values": tuple(known[side] for side in fields["neurons"]) if stay else None}
    if fields.get("mode", steer.mode) != "add":
        fields = {**fields, "fade": None}  # only what is added can fade
    return replace(steer, **fields)


def set_neurons(uid: str, picked: Sequence[NeuronSide]) -> None:
    """Give a card other neurons, each with its own polarity."""
    change(uid, neurons=tuple(picked))
    st.session_state[_CARDS] = tuple(replace(c, picked=tuple(picked)) if c.uid == uid else c for c in cards())


def remove(uid: str) -> None:
    """Take a card away; `undo` brings it back to its place."""
    gone = [(place, card) for place, card in enumerate(cards()) if card.uid == uid]
    st.session_state[_CARDS] = tuple(card for card in cards() if card.uid != uid)
    st.session_state[_DELETED] = (*deleted(), *gone)


def clear() -> None:
    """Take every card away; `undo` brings them back one by one, the first one last."""
    for card in reversed(cards()):
        remove(card.uid)


def deleted() -> tuple[tuple[int, Card], ...]:
    """(place, card) of the cards taken away, the latest last."""
    return tuple(st.session_state.get(_DELETED, ()))


def undo() -> None:
    """Bring the card that was removed last back."""
    if not deleted():
        return
    *rest, (place, card) = deleted()
    kept = list(cards())
    kept.insert(min(place, len(kept)), replace(card, uid=secrets.token_hex(4)))
    st.session_state[_CARDS] = tuple(kept)
    st.session_state[_DELETED] = tuple(rest)


def read_neurons(text: str, loaded: LoadedModel | None) -> tuple[NeuronSide, ...]:
    """Neurons typed as "17:803, 4:12-", each once, in order. Raises `InvalidSteer` for what the model does not have."""
    parts = [part for part in _SEPARATORS.split(text.strip()) if part and part.strip()]
    if not parts:
        raise InvalidSteer("no neurons; write layer:index, such as 17:803 or 17:803-", field="neurons")
    sides = tuple(dict.fromkeys(NeuronSide.parse(part) for part in parts))
    check(sides, loaded)
    return sides


def check(sides: Sequence[NeuronSide], loaded: LoadedModel | None) -> None:
    """Raise `InvalidSteer` for a neuron that the model does not have."""
    if loaded is not None:
        resolve(loaded, [Steer(tuple(sides), mode="scale", strength=1.0)])


def sentence(steer: Steer) -> str:
    """What a steer does, in words made of our own text and numbers only."""
    twice = len(steer.neurons) - steer.size
    rule = f" {twice} of them {'is' if twice == 1 else 'are'} listed with both sides: the side with the stronger extreme is steered."
    return _doing(steer) + (rule if twice else "")


def _doing(steer: Steer) -> str:
    count, where = f"{steer.size} neuron{'' if steer.size == 1 else 's'}", steer.tokens.words
    if not steer.enabled:
        return f"Off: does nothing to its {count}."
    if not steer.neurons:
        return "Has no neurons: does nothing."
    if steer.mode == "scale":
        return f"Multiplies {count} by {steer.strength:g} {where}." if steer.strength != 1 else f"Multiplies {count} by 1: changes nothing."
    if steer.mode == "set" and steer.strength == 0:
        return f"Suppresses {count}: activation 0 {where}."
    value = "their strongest activation" if steer.values is None else "the steer's own values"
    level = value if steer.strength == 1 else f"{steer.strength:g} x {value}"
    if steer.mode == "set":
        return f"Holds {count} at {level} {where}."
    if steer.mode == "cap":
        return f"Keeps {count} at or below {level} {where}."
    fades = f", {steer.fade.words}" if steer.fade is not None else ""
    return f"Adds {level} to {count} {where}{fades}." if steer.strength else f"Adds nothing to {count}."


def warning(steer: Steer, loaded: LoadedModel | None) -> str:
    """What to know about a push that is stronger than was found to read well, or that was tried and did not show, or ""."""
    if steer.mode != "add" or steer.fade is None or loaded is None or not steer.enabled:
        return ""
    best = known_best(loaded.ref, steer)
    limit, found = (best.strength, "the strength found for it") if best is not None else (AS_LEARNED, "the strength it was learned at")
    if steer.strength > limit:
        return f"Above {limit:g}, {found}, the text is likely to loop or to leave the question."
    if best is None or best.shown >= VISIBLE:
        return ""
    return (
        f"Tried on three open questions at {limit:g}, this concept hardly showed in the answers ({best.shown:.1f} of 2; it shows from 1)."
    )
