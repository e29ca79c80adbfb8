"""How strongly a concept can be pushed: strengths against scores, the chosen one marked, and put on its card."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import pandas as pd
import streamlit as st

from neurons.concepts.steers import find_concept
from neurons.concepts.strength import StrengthCurve, find_strength
from neurons.core.errors import InvalidInput
from neurons.core.percent import percent
from neurons.core.tasks import Task
from pages.shared import progress_row, server_wide, steer_state
from pages.shared.palette import colour
from pages.shared.steer_state import Card
from pages.shared.trace_context import TraceContext
from pages.steer import concept_making

_TASK = "steer.find"
_LINES = {"concept": "Concept", "fluency": "Fluency", "total": "Both, and the question followed"}


@dataclass(eq=False, kw_only=True)
class Finding(Task[StrengthCurve]):
    """A concept being answered with at several strengths."""

    uid: str
    """The card that it was asked for."""


def pushes() -> tuple[Card, ...]:
    """The cards whose strength can be found: concepts of the lexicon that are strengthened."""
    return tuple(card for card in steer_state.cards() if card.steer.mode == "add" and card.steer.fade is not None)


def draw(context: TraceContext) -> None:
    """Which card, the search, its chart."""
    cards = pushes()
    names = {card.uid: card.steer.name or "without a name" for card in cards}
    left, right = st.columns([3, 1.2], vertical_alignment="bottom")
    uid = left.selectbox("Concept", list(names), format_func=lambda one: names.get(one, ""), key="steer.find.card")
    task = server_wide.server().task(st.session_state.get(_TASK), Finding)
    busy = task is not None and task.running
    loaded = context.answerer
    st.caption("Three open questions are answered at each of six strengths; a classifier that no steer was made from scores the answers.")
    if right.button("Find strength", icon=":material/target:", key="steer.find.go", disabled=busy or loaded is None, width="stretch"):
        name = names[uid].removeprefix("Strengthen ")
        lexicon = concept_making.lexicon()
        concept = find_concept(name, lexicon)
        if concept is None:
            raise InvalidInput(f"the lexicon has no concept {name!r}: give the card its concept's name again, or add it to the lexicon")
        if loaded is not None:
            begun = Finding(what=f"finding the strength of {concept.name}", uid=uid)
            server_wide.server().start(begun, lambda: find_strength(loaded, concept, lexicon=lexicon, progress=begun.progress))
            st.session_state[_TASK] = begun.id
            st.rerun()
    if task is not None and progress_row.watch(task, key="steer.find"):
        _result(task.uid, task.result())


def _result(uid: str, curve: StrengthCurve) -> None:
    frame = pd.DataFrame([{**vars(point), "repetition_text": percent(point.repetition)} for point in curve.points])
    long = frame.melt(id_vars=["strength", "ratio", "repetition_text"], value_vars=list(_LINES), var_name="what", value_name="score")
    long["what"] = long["what"].map(_LINES)
    colours = alt.Scale(domain=list(_LINES.values()), range=[colour("positive"), colour("negative"), colour("selection")])
    lines = (
        alt.Chart(long)
        .mark_line(point=True)
        .encode(
            x=alt.X("strength:Q", title="Strength"),
            y=alt.Y("score:Q", title="Score, 0 to 2", scale=alt.Scale(domain=[0, 2])),
            color=alt.Color("what:N", title=None, scale=colours),
            tooltip=[
                alt.Tooltip("strength:Q", title="Strength"),
                alt.Tooltip("what:N", title="Score of"),
                alt.Tooltip("score:Q", title="Score", format=".2f"),
                alt.Tooltip("ratio:Q", title="Perplexity ratio", format=".2f"),
                alt.Tooltip("repetition_text:N", title="Repetition"),
            ],
        )
    )
    mark = (
        alt.Chart(pd.DataFrame({"strength": [curve.chosen]})).mark_rule(color=colour("selection"), strokeDash=[4, 3]).encode(x="strength:Q")
    )
    st.altair_chart((mark + lines).properties(height=240), key="steer.find.chart", width="stretch")
    best = curve.best
    st.caption(
        f"Dashes: strength {curve.chosen:g}, where all three scores together are best: concept {best.concept:.1f}, "
        f"fluency {best.fluency:.1f}, the question followed {best.following:.1f} of 2; "
        f"perplexity {best.ratio:.2f} times the unsteered answer's."
    )
    if best.concept < 0.5:
        st.warning("No strength shows this concept clearly while the text reads.", icon=":material/warning:")
    if any(card.uid == uid for card in steer_state.cards()):
        st.button(f"Use {curve.chosen:g}", icon=":material/check:", key="steer.find.use", on_click=_use, args=(uid, curve.chosen))


def _use(uid: str, strength: float) -> None:
    steer_state.change(uid, strength=strength)
    for name in ("slider", "number"):
        st.session_state.pop(f"steer.{uid}.{name}", None)
