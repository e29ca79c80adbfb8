"""From a wrong answer on: to the search for a fix, and to the count of how often a steer helps, with everything filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import streamlit as st

from neurons.core.steers import Steer
from neurons.repair.paraphrases import template_paraphrases
from neurons.runs.steering import unplaced
from neurons.statistics.criteria import Criterion
from pages.shared import filled, steer_state
from pages.shared.trace_context import TraceContext
from pages.trace.deciding import unwanted_word


def offer(context: TraceContext) -> None:
    """A small menu beside the answer."""
    with st.popover("Wrong?", icon=":material/build:", key="trace.wrong"):
        asked = " ".join(context.record.prompt.split())
        wanted = st.text_input("What it should say", key=f"trace.wrong.wanted.{context.id}", placeholder="the right answer", max_chars=2000)
        unwanted = st.text_input(
            "Instead of",
            value=unwanted_word(context),
            key=f"trace.wrong.unwanted.{context.id}.{context.token}",
            max_chars=2000,
            help="The word that decided the answer, or the one that you selected",
        )
        if st.button(
            "Search for a fix",
            icon=":material/build:",
            key="trace.wrong.repair",
            type="primary",
            width="stretch",
            disabled=not asked,
            help="Opens Repair with this question, both answers and other wordings filled in",
        ):
            filled.repair(asked, Criterion(wanted.strip()), unwanted=unwanted.strip(), paraphrases=template_paraphrases(asked))
        steers = [steer for steer in steer_state.steers() if not steer.is_noop] or unplaced(context.record.steers)
        if st.button(
            "Measure the steer on many prompts",
            icon=":material/query_stats:",
            key="trace.wrong.statistics",
            width="stretch",
            disabled=not steers,
            help="Opens Statistics with the steer, this question and its other wordings" if steers else "Put a steer on a card first",
        ):
            _to_statistics(asked, wanted.strip(), steers)


def _to_statistics(asked: str, wanted: str, steers: Sequence[Steer]) -> NoReturn:
    if not any(not steer.is_noop for steer in steer_state.steers()):
        steer_state.add_all(steers)
    filled.comparison((asked, *template_paraphrases(asked)), wanted)
