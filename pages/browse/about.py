"""What a neuron side is said to do: the description with its type, score and evidence, and what the user says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.percent import percent
from neurons.core.types import NeuronSide
from neurons.descriptions.edits import HAND, LONGEST, Change, Edits
from neurons.descriptions.kinds import KINDS, UNCLEAR
from pages.shared import address, server_wide, untrusted
from pages.shared.neuron_facts import YOURS, Known

_PROBLEM = "neurons.about.problem"
SCORE_HELP = (
    "Pearson correlation, over text the description was not made from, of what its visible words predict with the neuron's true "
    "activation. 1 is perfect, 0 is nothing"
)
NULL_HELP = "The score of another neuron's description: what chance gives. A score counts for what it has above this"
CEILING_HELP = (
    "How well the neuron can be predicted at all from the token and the one before it (a table of means). A short description can hardly "
    "do better"
)


def draw(found: Known, side: NeuronSide) -> None:
    """The card."""
    row = found.row(side)
    edit = found.edits.get(side)
    with st.container(border=True, key="neurons.about"):
        if row is None and edit.description is None:
            untrusted.draw([("No description. ", "strong"), ("You can write one.", "muted")], key="neurons.about.none")
        else:
            _said(found, side, row)
        _yours(found.edits, side, found.described(side))


def _said(found: Known, side: NeuronSide, row: Any) -> None:
    headline, description = found.headline(side), found.described(side)
    hand = row is None or row["source"] == HAND
    kind = UNCLEAR if row is None else str(row["kind"])
    parts: list[untrusted.Part] = [(headline, "strong")]
    if row is not None and row.get("writes"):
        parts.append((f"\n{row['writes']}", ""))
    if not hand:
        detail = description if description != UNCLEAR else "no short line predicts it"
        parts += [("\nDetail  ", "muted"), (detail, "")]
    if row is not None and row.get("second"):
        parts.append((f"\n{row['second']}", "muted"))
    untrusted.draw(parts, key="neurons.about.said", size="1.02rem")
    if row is None:
        st.caption("Written by you.")
        return
    if hand:
        st.caption("Written by you. Undo brings the atlas's own back.")
    else:
        who = "a template, without a language model" if row["source"] == "template" else untrusted.escape(str(row["source"]))
        st.caption(f"Type **{kind}**: {KINDS.get(kind, '')}. Written by {who}.")
    if not hand and (judged := _judged(row)):
        untrusted.draw([(judged, "muted")], key="neurons.about.judged", size="0.88rem")
    score, null, ceiling = st.columns(3)
    for place, label, name, told in (
        (score, "Score", "score", SCORE_HELP), (null, "Null", "null", NULL_HELP), (ceiling, "Ceiling", "ceiling", CEILING_HELP),
    ):  # fmt: skip
        value = float(row[name]) if name in row and row[name] is not None else np.nan
        place.metric(label, f"{value:.2f}" if np.isfinite(value) else "–", help=told)
    _evidence(row)


def _judged(row: Any) -> str:
    """What is known of how good the headline is, and the line on what the neuron writes; "" for nothing."""

    def number(name: str) -> float:
        return float(row[name]) if name in row and row[name] is not None else np.nan

    said: list[str] = []
    if row.get("headline_by"):
        said.append(
            f"The headline was written and judged by {row['headline_by']}: detection {percent(number('headline_detection'))}, "
            f"fuzzing {percent(number('headline_fuzzing'))} (chance 50%); the one before {percent(number('headline_judged_before'))}."
        )
    elif np.isfinite(number("headline_auroc")):
        null = number("headline_auroc_null")
        beside = f"; another neuron's headline {null:.2f}" if np.isfinite(null) else ""
        said.append(f"The headline alone finds its strongest held-out tokens with an AUROC of {number('headline_auroc'):.2f}{beside}.")
    if row.get("writes") and np.isfinite(number("writes_effect")):
        said.append(
            f"Raised to its 1-in-100,000 level, it moves these words by {number('writes_effect'):+.2f} nats in the direction it says; "
            f"another neuron's words, by {number('writes_null'):+.2f}."
        )
    return " ".join(said)


def _evidence(row: Any) -> None:
    parts: list[untrusted.Part] = []
    if row.get("peaks"):
        parts += [("Peaks at  ", "muted"), (str(row["peaks"]), "token"), ("\n", "")]
    if row.get("theme"):
        parts += [("In texts about  ", "muted"), (str(row["theme"]), ""), ("\n", "")]
    if parts:
        untrusted.draw(parts[:-1], key="neurons.about.evidence", size="0.88rem")


def _yours(edits: Edits, side: NeuronSide, shown: str) -> None:
    """Vote, own text, lock, note, and what was changed before."""
    edit = edits.get(side)
    marks = [word for word in (YOURS[edit.vote] and f"you call it {YOURS[edit.vote]}", "locked" if edit.locked else "") if word]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for vote, icon, word in ((1, "thumb_up", "Right"), (-1, "thumb_down", "Wrong")):
            st.button(
                word, icon=f":material/{icon}:", key=f"neurons.vote.{vote}", type="primary" if edit.vote == vote else "secondary",
                help="Your vote on the description; press again to take it back", disabled=not shown,
                on_click=_change, args=(lambda v=vote: edits.vote(side, 0 if edit.vote == v else v),),
            )  # fmt: skip
        st.button(
            "Unlock" if edit.locked else "Lock", icon=":material/lock_open:" if edit.locked else ":material/lock:", key="neurons.lock",
            help="A locked description stays as it is, even when the atlas is described again", disabled=not shown,
            on_click=_change, args=(lambda: edits.lock(side, not edit.locked, shown=shown or None),),
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        with st.popover(
            "Edit", icon=":material/edit:", disabled=edit.locked, key="neurons.edit",
            help="Your own description; it always wins over the atlas's",
        ):  # fmt: skip
            _text(edits, side, shown)
        with st.popover("Note", icon=":material/sticky_note_2:", key="neurons.note", help="Your own note"):
            _note(edits, side)
        with st.popover(
            "History", icon=":material/history:", disabled=not edit.history, key="neurons.history", help="What you changed, and undo"
        ):
            _history(edits, side)
    if marks:
        st.caption(f"{', '.join(marks).capitalize()}.")
    if edit.note:
        untrusted.draw([("Note  ", "muted"), (edit.note, "")], key="neurons.about.note", size="0.88rem")
    problem = st.session_state.pop(_PROBLEM, None)
    if problem is not None:
        server_wide.show_error(problem)


def _change(act: Callable[[], Any]) -> None:
    """Make a change; what is wrong with it is shown below the buttons."""
    try:
        act()
    except NeuronscopeError as error:
        st.session_state[_PROBLEM] = error


def _text(edits: Edits, side: NeuronSide, shown: str) -> None:
    with st.form(f"neurons.edit.form.{side}", border=False):
        text = st.text_area("Description", value=shown, max_chars=LONGEST, key=f"neurons.edit.text.{side}")
        sent = st.form_submit_button("Save", type="primary")
    if sent:
        _change(lambda: edits.describe(side, text))
        st.rerun()
    if edits.get(side).description is not None and st.button("Take the atlas's own back", key="neurons.edit.back"):
        _change(lambda: edits.describe(side, None))
        st.rerun()


def _note(edits: Edits, side: NeuronSide) -> None:
    with st.form(f"neurons.note.form.{side}", border=False):
        text = st.text_area("Note", value=edits.get(side).note, max_chars=10 * LONGEST, key=f"neurons.note.text.{side}")
        sent = st.form_submit_button("Save", type="primary")
    if sent:
        _change(lambda: edits.note(side, text))
        st.rerun()


def _history(edits: Edits, side: NeuronSide) -> None:
    history = edits.get(side).history
    parts: list[untrusted.Part] = []
    for change in reversed(history[-20:]):
        parts += [(f"{change.when[:16].replace('T', ' ')} UTC  ", "muted"), (_told(change), ""), ("\n", "")]
    untrusted.draw(parts, key="neurons.history.list", size="0.85rem")
    st.button("Undo the last change", icon=":material/undo:", key="neurons.undo", on_click=_change, args=(lambda: edits.undo(side),))


def _told(change: Change) -> str:
    if change.field == "vote":
        return f"vote: {YOURS[int(change.before)] or 'none'} → {YOURS[int(change.after)] or 'none'}"
    if change.field == "locked":
        return "locked" if change.after else "unlocked"
    before, after = (str(value) if value else "(none)" for value in (change.before, change.after))
    return f"{change.field}: {before} → {after}"


def what_an_atlas_is(*, described: bool) -> None:
    """The empty state: why there is nothing to browse, and where to change that."""
    with st.container(border=True):
        if described:
            st.markdown(
                "**The neurons of this model are not described yet.** Its atlas has their figures; descriptions, which can be searched, "
                "are made from them on the Atlas page. Until then, open any neuron by its name."
            )
        else:
            st.markdown(
                "**This model has no atlas yet.** An atlas is what is known of every neuron of a model: on which texts it fires most, "
                "how strongly, what it promotes, and in words what it does. It is made by reading a large text with the model, once. "
                "Until then, any neuron can be opened by its name: what it promotes, neurons with like weights, your own text, and "
                "steering work without."
            )
        address.link("atlas", "Make it on the Atlas page", icon=":material/map:")
