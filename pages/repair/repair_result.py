"""A repair's result: the verdict in one sentence, what it is worth beside chance and baselines, the trade-off, every answer, exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.core.json_text import json_text
from neurons.core.percent import percent
from neurons.core.steers import Steer
from neurons.models.loaded import LoadedModel
from neurons.repair.export import python_script, report_html_of
from neurons.repair.saved import Fixed, SavedPoint, SavedRepair, Unchanged, read_repair
from neurons.repair.steers import ACTIONS, acts_on, known, told
from neurons.runs.steering import parse_steers
from pages.shared import address, figures, server_wide, steer_state, untrusted
from pages.shared.descriptions import headlines_for
from pages.shared.neuron_link import MEANING, link_column, meanings, neuron_address
from pages.shared.palette import colour
from pages.shared.tables import downloads


def draw(content: Mapping[str, Any]) -> None:
    """Draw the content of a repair experiment. Raises `InvalidInput` where it is not one that can be read."""
    data = read_repair(content)
    tone: untrusted.Kind = "positive" if data.found and data.holds else "negative"
    untrusted.draw([(data.message, tone)], key="repair.message")
    spec = data.spec
    untrusted.draw(
        [("Question  ", "muted"), (spec.prompt, ""), ("\nUnsteered  ", "muted"), (data.unsteered.strip(), "")],
        key="repair.asked.text",
    )
    if data.answers:
        untrusted.draw([("Steered  ", "muted"), (data.answers[0].steered.strip(), "strong")], key="repair.steered.text")
        _figures(data)
    steers = _chosen(data)
    loaded = server_wide.model_with(str(data.model.get("weights_hash", "")))
    about = {} if loaded is None else headlines_for(loaded.ref)
    _actions(data, steers, loaded, about)
    worth, answers, neurons = st.tabs(["What it is worth", "Every answer", "Neurons"], key="repair.tab", on_change="rerun")
    with worth:
        _worth(data)
    with answers:
        _answers(data)
    with neurons:
        _neurons(steers, data.spec.tokens, about)


def offer(steers: Sequence[Mapping[str, Any]], *, key: str) -> None:
    """A button that puts steers, as plain JSON, on cards of the Steer tab."""
    if st.button("Use this steer", icon=":material/tune:", key=key):
        steer_state.add_all(parse_steers(list(steers)))
        address.go_to_cards()


def _figures(data: SavedRepair) -> None:
    held, controls = data.heldout, data.controls
    if held is None or controls is None:
        return
    low, high = held.interval
    with st.container(horizontal=True):
        st.metric("Neurons", data.neurons, border=True)
        st.metric(
            "Held-out wordings fixed",
            held.words,
            border=True,
            help=f"95% interval {percent(low)} to {percent(high)} (Wilson). The search never saw these wordings.",
        )
        st.metric(
            "Controls unchanged",
            controls.words,
            border=True,
            help="A control is unchanged when all tokens of its answer are the same.",
        )
        st.metric(
            "KL on controls",
            f"{controls.kl:.4f}",
            border=True,
            help="Mean KL divergence of the next token, nats per token; 0: no change at all.",
        )
    near = controls.near
    if near is not None and near.total:
        st.caption(
            f"Of the controls {near.total} ask the same of something else and are answered right without a steer: "
            f"{near.unchanged} stay as they are."
        )
    st.caption(f"{data.forward_passes:,} forward passes, {data.seconds:.0f} seconds in all.")


def _chosen(data: SavedRepair) -> tuple[Steer, ...]:
    """The steers of the point picked in the picture, else the search's own choice."""
    points = data.pareto
    if not points:
        return data.steers
    own = next((n for n, p in enumerate(points) if p.chosen), 0)
    chosen = st.selectbox(
        "Steer",
        range(len(points)),
        index=own,
        key="repair.point",
        format_func=lambda n: _point_text(points[n]),
        help="The points of the picture below. Only the search's choice was checked on the held-out wordings.",
    )
    return points[chosen].steers


def _point_text(point: SavedPoint) -> str:
    chosen = " (the search's choice)" if point.chosen else ""
    return (
        f"{point.neurons} neuron{'' if point.neurons == 1 else 's'}: {point.turned} of {point.questions} turned, "
        f"{point.unchanged} of {point.controls} controls unchanged{chosen}"
    )


def _actions(data: SavedRepair, steers: tuple[Steer, ...], loaded: LoadedModel | None, about: Mapping[str, str]) -> None:
    """What can be done with the result. `loaded` is its model, while that is the one in use."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Use this steer",
            icon=":material/tune:",
            key="repair.use",
            type="primary",
            disabled=not steers,
            help="Puts it on cards in the Steer tab",
        ):
            steer_state.add_all(steers)
            address.go_to_cards()
        file = json_text({**data.steer, "steers": [_steer_json(s) for s in steers]}, indent=2)
        st.download_button(
            "Steer file", file, "repair.json", "application/json", icon=":material/download:", key="repair.file", on_click="ignore"
        )
        st.download_button(
            "Report",
            report_html_of(data, about_neurons=about),
            "repair.html",
            "text/html",
            icon=":material/description:",
            key="repair.report",
            on_click="ignore",
        )
        if loaded is not None:
            spec = data.to_spec()
            with server_wide.errors_shown():
                script = python_script(loaded, spec, steers)
                st.download_button(
                    "Python script", script, "repair.py", "text/x-python", icon=":material/code:", key="repair.script", on_click="ignore"
                )
        address.link("experiments", "Measure on more prompts", icon=":material/query_stats:")
    if loaded is None and server_wide.model() is not None:
        st.caption("This was found with other weights than those of the model that is loaded now; the steer may mean nothing here.")


def _steer_json(steer: Steer) -> dict[str, Any]:
    from neurons.runs.steering import steer_to_json

    return steer_to_json(steer)


def _worth(data: SavedRepair) -> None:
    rows: list[dict[str, Any]] = []
    if data.heldout is not None and data.controls is not None:
        rows.append(_row("this fix", data.neurons, data.train, data.heldout, data.controls))
    draws = data.random
    if draws.heldout is not None and draws.controls is not None:
        rows.append(_row(f"random neurons of the same layers ({draws.draws} draws)", data.neurons, None, draws.heldout, draws.controls))
    rows += [_row(f"{name} ({b.about})", b.neurons, b.train, b.heldout, b.controls) for name, b in data.baselines.items()]
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, key="repair.worth", height="auto")
        st.caption("The search looked at one half of the wordings; the held-out half it never saw. The controls were part of the search.")
    if data.pareto:
        _pareto(data.pareto)


def _row(name: str, neurons: int, train: Fixed | None, held: Fixed, controls: Unchanged) -> dict[str, Any]:
    return {
        "Steer": name,
        "Neurons": neurons,
        "Searched wordings fixed": "" if train is None else train.words,
        "Held-out wordings fixed": held.words,
        "Controls unchanged": controls.words,
        "KL on controls": controls.kl,
    }


def _pareto(points: Sequence[SavedPoint]) -> None:
    frame = pd.DataFrame(
        [
            {
                "neurons": p.neurons,
                "turned": p.turned / max(1, p.questions),
                "kept": p.unchanged / max(1, p.controls),
                "choice": "the search's choice" if p.chosen else "another point",
            }
            for p in points
        ]
    )
    frame = frame.assign(**{f"{name}_text": frame[name].map(percent) for name in ("turned", "kept")})
    chart = (
        alt.Chart(frame)
        .mark_point(filled=True, size=140, strokeWidth=3)
        .encode(
            x=alt.X("neurons:Q", title="neurons in the steer", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("turned:Q", title="searched wordings turned", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1.05])),
            color=alt.Color(
                "kept:Q",
                title="controls unchanged",
                scale=alt.Scale(domain=[0.5, 1], range=[colour("negative"), colour("positive")], clamp=True),
                legend=alt.Legend(format="%"),
            ),
            stroke=alt.Stroke(
                "choice:N",
                title=None,
                scale=alt.Scale(domain=["the search's choice", "another point"], range=[colour("selection"), "transparent"]),
            ),
            tooltip=[
                alt.Tooltip("neurons:Q"),
                alt.Tooltip("turned_text:N", title="turned"),
                alt.Tooltip("kept_text:N", title="controls unchanged"),
            ],
        )
        .properties(height=260)
    )
    figures.chart(chart, key="repair.pareto", stem="repair")


def _answers(data: SavedRepair) -> None:
    if not data.answers:
        st.caption("No steer was checked.")
        return
    frame = pd.DataFrame(
        [
            {
                "Part": data.part(number),
                "Good": a.good,
                "Prompt": a.prompt,
                "Unsteered": a.unsteered,
                "Steered": a.steered,
                "Why not": a.why,
            }
            for number, a in enumerate(data.answers)
        ]
    )
    columns = {
        "Part": st.column_config.TextColumn(width=90),
        "Good": st.column_config.CheckboxColumn(width=50, help="A wording is fixed, or a control unchanged"),
        "Prompt": st.column_config.TextColumn(width=190),
        "Unsteered": st.column_config.TextColumn(width=205),
        "Steered": st.column_config.TextColumn(width=205),
    }
    st.dataframe(frame, hide_index=True, column_config=columns, key="repair.answers")
    downloads(frame, "repair-answers", key="repair.answers.out")


def _neurons(steers: tuple[Steer, ...], tokens: str, about: Mapping[str, str]) -> None:
    rows = [
        {
            "Neuron": neuron_address(name := f"{side.layer}:{side.index}"),
            "What it means": meanings([name], [known(side, about)])[0],
            "What is done": what,
        }
        for steer in steers
        for side, what in told(steer)
    ]
    if rows:
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            column_config={"Neuron": link_column(), "What it means": MEANING},
            key="repair.neurons.table",
        )
        st.caption(f"Acts {acts_on(steers, tokens)}. {ACTIONS}")
