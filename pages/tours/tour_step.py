"""One step of a tour: its measured facts and the buttons that do something with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import pandas as pd
import streamlit as st

from neurons.core.boundary import checked
from neurons.core.percent import percent
from neurons.core.types import Message, Sampling
from neurons.repair.saved import Fixed, Unchanged, read_repair
from neurons.repair.spec import RepairSpec
from neurons.runs.steering import parse_steers
from neurons.statistics.paired import Difference
from neurons.tours.answers import prompt_set
from neurons.tours.tours import TOURS, Action, Show, Step, fact
from pages.shared import address, examples, filled, live_answer, progress_row, server_wide, steer_state, untrusted
from pages.shared.descriptions import headlines_for
from pages.shared.live_answer import Answering
from pages.shared.neuron_link import MEANING, link_column, links, meanings

_ASK = Sampling(max_new_tokens=40)
_ASKED = "tours.asked"
_PLACE = "tour"


@dataclass(frozen=True)
class _Rates:
    """A figure of a comparison that is a rate."""

    plain: float
    steered: float
    difference: Difference


def shows(tour: str, step: Step) -> None:
    """Draw the facts under a step's text."""
    pairs: list[untrusted.Part] = []
    for number, show in enumerate(step.shows):
        value = fact(tour, show.fact)
        if value is None:
            continue
        if show.kind == "text":
            pairs += [(f"{show.label}  ", "muted"), (f"{_text(value)}\n", "strong")]
            continue
        _flush(pairs, f"tours.{tour}.{number}.texts")
        key = f"tours.{tour}.{number}"
        if show.kind == "table":
            _table(show, value, key)
        elif show.kind == "repair":
            _repair(value, key)
        else:
            _difference(value, key)
    _flush(pairs, f"tours.{tour}.texts")


def _flush(pairs: list[untrusted.Part], key: str) -> None:
    if pairs:
        untrusted.draw(list(pairs), key=key)
        pairs.clear()


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value).strip()


def _table(show: Show, rows: list[Mapping[str, Any]], key: str) -> None:
    st.caption(show.label)
    frame = pd.DataFrame([{heading: row.get(name) for name, heading in show.columns} for row in rows])
    columns: dict[str, Any] = {}
    model = server_wide.model()
    names = frame.get("Neuron", pd.Series(dtype=str)).astype(str)
    if "Neuron" in frame:
        known = headlines_for(model.ref) if model is not None else {}
        frame["Neuron"] = links(names)
        if any(name in known for name in names):
            frame.insert(1, "What it means", meanings(names, [known.get(name, "") for name in names]))
        columns = {"Neuron": link_column(), "What it means": MEANING}
    st.dataframe(frame, hide_index=True, key=key, height="auto" if len(frame) <= 12 else 440, column_config=columns)
    if columns and model is not None:
        examples.on_rows(names, model.ref, key=f"{key}.examples")


def _repair(content: Mapping[str, Any], key: str) -> None:
    """The outcome of a repair, as it was measured."""
    data = read_repair(content)
    untrusted.draw([(data.message, "positive" if data.found else "negative")], key=f"{key}.message")
    rows = []
    if data.heldout is not None and data.controls is not None:
        rows.append(_worth("this fix", data.neurons, data.heldout, data.controls))
    draws = data.random
    if draws.heldout is not None and draws.controls is not None:
        rows.append(_worth(f"random neurons ({draws.draws} draws)", data.neurons, draws.heldout, draws.controls))
    rows += [_worth(name, b.neurons, b.heldout, b.controls) for name, b in data.baselines.items()]
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, key=key, height="auto")
        st.caption("Held-out wordings were never seen by the search; a control is unchanged when every token of its answer is the same.")


def _worth(name: str, neurons: int, held: Fixed, controls: Unchanged) -> dict[str, Any]:
    return {
        "Steer": name,
        "Neurons": neurons,
        "Held-out wordings fixed": held.words,
        "Controls unchanged": controls.words,
    }


def _difference(data: Mapping[str, Any], key: str) -> None:
    """A rate with and without a steer."""
    figure = checked(_Rates, data["figure"])
    change = figure.difference
    with st.container(horizontal=True):
        st.metric("Right, unsteered", percent(figure.plain), border=True)
        st.metric("Right, steered", percent(figure.steered), percent(change.value, signed=True), border=True)
        if change.low is not None and change.high is not None:
            st.metric(
                "95% interval of the difference",
                f"{percent(change.low, signed=True)} to {percent(change.high, signed=True)}",
                border=True,
                help=change.method,
            )
        if change.p_value is not None:
            st.metric("McNemar's exact p", f"{change.p_value:.3g}", border=True)
        st.metric("Gained, lost", f"{change.gained}, {change.lost}", border=True, help="Questions that only the one side answers right")


def actions(tour: str, step: Step) -> None:
    """The buttons of a step."""
    if not step.actions:
        return
    ready = server_wide.model() is not None
    if not ready:
        server_wide.loading_notice()
    with st.container(horizontal=True):
        for number, action in enumerate(step.actions):
            icon = {"ask": "forum", "steer": "tune", "repair": "build", "compare": "query_stats"}[action.kind]
            if st.button(action.label, icon=f":material/{icon}:", key=f"tours.{tour}.{step.title}.{number}", disabled=not ready):
                _do(tour, action)
    _asking()


def _do(tour: str, action: Action) -> None:
    value = fact(tour, action.fact)
    if action.kind == "ask":
        _ask(str(value))
    elif action.kind == "steer":
        steer_state.replace_all(parse_steers(value.get("steer", value)))
        address.go_to_cards()
    elif action.kind == "repair":
        _fill_repair(read_repair(value).to_spec())
    else:
        _fill_comparison(tour, value)


def _ask(prompt: str) -> None:
    """Run a prompt in the background; `_asking` opens its trace when it is done."""
    with server_wide.errors_shown():
        task = live_answer.start([Message("user", prompt)], place=_PLACE, what="asking the model", sampling=_ASK)
        st.session_state[_ASKED] = task.id


def _asking() -> None:
    task = live_answer.find(st.session_state.get(_ASKED), place=_PLACE)
    if task is None or not progress_row.watch(task, key="tours.asking", body=lambda: _opens(task)):
        return
    del st.session_state[_ASKED]
    with server_wide.errors_shown():
        address.go("trace", trace=task.result()[0])


def _opens(task: Answering) -> None:
    st.caption(f"{len(task.live)} tokens so far; the trace opens when the answer is complete.")


def _fill_repair(spec: RepairSpec) -> NoReturn:
    """Put a repair into the fields of the Repair page."""
    unwanted = spec.unwanted.text if spec.unwanted is not None else ""
    filled.repair(spec.prompt, spec.wanted, unwanted=unwanted, paraphrases=spec.paraphrases, controls=spec.controls)


def _fill_comparison(tour: str, value: Mapping[str, Any]) -> NoReturn:
    """Put the tour's prompts and its steer into the Statistics page."""
    steer_state.replace_all(read_repair(fact(tour, "repair")).steers)
    title = next(one.title for one in TOURS if one.id == tour)
    filled.comparison_of_set(f"tour {title}", prompt_set(value["rows"]))
