"""A repair's result: the verdict in one sentence, what it is worth beside chance and baselines, the trade-off, every answer, exports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.core.percent import percent
from neurons.core.types import Steer
from neurons.models.loaded import LoadedModel
from neurons.repair.export import python_script, report_html_of
from neurons.repair.spec import parse_spec
from neurons.repair.steers import ACTIONS, acts_on, known, told
from neurons.runs.steering import parse_steers
from pages.shared import address, server_wide, steer_state, untrusted
from pages.shared.descriptions import descriptions_for
from pages.shared.neuron_link import link_column, neuron_address
from pages.shared.palette import colour
from pages.shared.tables import downloads


def draw(data: Mapping[str, Any]) -> None:
    """Draw the content of a repair experiment."""
    tone: untrusted.Kind = "positive" if data["found"] and data["holds"] else "negative"
    untrusted.draw([(data["message"], tone)], key="repair.message")
    spec = data["spec"]
    untrusted.draw(
        [("Question  ", "muted"), (spec["prompt"], ""), ("\nUnsteered  ", "muted"), (data["unsteered"].strip(), "")],
        key="repair.asked.text",
    )
    if data["answers"]:
        untrusted.draw([("Steered  ", "muted"), (data["answers"][0]["steered"].strip(), "strong")], key="repair.steered.text")
        _figures(data)
    steers = _chosen(data)
    loaded = server_wide.model_with(data["steer"]["model"]["weights_hash"])
    about = {} if loaded is None else descriptions_for(loaded.ref)
    _actions(data, steers, loaded, about)
    worth, answers, neurons = st.tabs(["What it is worth", "Every answer", "Neurons"], key="repair.tab")
    with worth:
        _worth(data)
    with answers:
        _answers(data)
    with neurons:
        _neurons(steers, str(data["spec"]["tokens"]), about)


def offer(steers: list[Mapping[str, Any]], *, key: str) -> None:
    """A button that puts steers, as plain JSON, on cards of the Steer tab."""
    if st.button("Use this steer", icon=":material/tune:", key=key):
        steer_state.add_all(parse_steers(list(steers)))
        address.go_to_cards()


def _figures(data: Mapping[str, Any]) -> None:
    held, controls = data["heldout"], data["controls"]
    low, high = held["interval"]
    with st.container(horizontal=True):
        st.metric("Neurons", data["neurons"], border=True)
        st.metric(
            "Held-out wordings fixed",
            f"{held['fixed']} of {held['total']}",
            border=True,
            help=f"95% interval {percent(low)} to {percent(high)} (Wilson). The search never saw these wordings.",
        )
        st.metric(
            "Controls unchanged",
            f"{controls['unchanged']} of {controls['total']}",
            border=True,
            help="A control is unchanged when all tokens of its answer are the same.",
        )
        st.metric(
            "KL on controls",
            f"{controls['kl']:.4f}",
            border=True,
            help="Mean KL divergence of the next token, nats per token; 0: no change at all.",
        )
    st.caption(f"{data['forward_passes']:,} forward passes, {data['seconds']:.0f} seconds in all.")


def _chosen(data: Mapping[str, Any]) -> tuple[Steer, ...]:
    """The steers of the point picked in the picture, else the search's own choice."""
    points = data["pareto"]
    if not points:
        return parse_steers(data["steer"])
    own = next((n for n, p in enumerate(points) if p["chosen"]), 0)
    chosen = st.selectbox(
        "Steer",
        range(len(points)),
        index=own,
        key="repair.point",
        format_func=lambda n: _point_text(points[n]),
        help="The points of the picture below. Only the search's choice was checked on the held-out wordings.",
    )
    return parse_steers(points[chosen]["steers"])


def _point_text(point: Mapping[str, Any]) -> str:
    chosen = " (the search's choice)" if point["chosen"] else ""
    return (
        f"{point['neurons']} neuron{'' if point['neurons'] == 1 else 's'}: {point['turned']} of {point['questions']} turned, "
        f"{point['unchanged']} of {point['controls']} controls unchanged{chosen}"
    )


def _actions(data: Mapping[str, Any], steers: tuple[Steer, ...], loaded: LoadedModel | None, about: Mapping[str, str]) -> None:
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
            address.go_to_cards(prompt=data["spec"]["prompt"])
        file = json.dumps({**data["steer"], "steers": [_steer_json(s) for s in steers]}, indent=2, ensure_ascii=False)
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
            spec = parse_spec(data["spec"])
            with server_wide.errors_shown():
                script = python_script(loaded, spec, steers)
                st.download_button(
                    "Python script", script, "repair.py", "text/x-python", icon=":material/code:", key="repair.script", on_click="ignore"
                )
        st.page_link(address.target("experiments"), label="Measure on more prompts", icon=":material/query_stats:")
    if loaded is None and server_wide.model() is not None:
        st.caption("This was found with other weights than those of the model that is loaded now; the steer may mean nothing here.")


def _steer_json(steer: Steer) -> dict[str, Any]:
    from neurons.runs.steering import steer_to_json

    return steer_to_json(steer)


def _worth(data: Mapping[str, Any]) -> None:
    rows: list[dict[str, Any]] = []
    if data["heldout"]:
        rows.append(_row("this fix", data["neurons"], data["train"], data["heldout"], data["controls"]))
    draws = data["random"]
    if draws["draws"]:
        rows.append(
            _row(f"random neurons of the same layers ({draws['draws']} draws)", data["neurons"], None, draws["heldout"], draws["controls"])
        )
    rows += [_row(f"{name} ({b['about']})", b["neurons"], b["train"], b["heldout"], b["controls"]) for name, b in data["baselines"].items()]
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, key="repair.worth", height="auto")
        st.caption("Training wordings are what the search looked at; held-out wordings it never saw. The controls were part of the search.")
    if data["pareto"]:
        _pareto(data["pareto"])


def _row(name: str, neurons: int, train: Mapping[str, Any] | None, held: Mapping[str, Any], controls: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "steer": name,
        "neurons": neurons,
        "training fixed": "" if train is None else f"{train['fixed']} of {train['total']}",
        "held-out fixed": f"{held['fixed']} of {held['total']}",
        "controls unchanged": f"{controls['unchanged']} of {controls['total']}",
        "KL on controls": controls["kl"],
    }


def _pareto(points: list[Mapping[str, Any]]) -> None:
    frame = pd.DataFrame(
        [
            {
                "neurons": p["neurons"],
                "turned": p["turned"] / max(1, p["questions"]),
                "kept": p["unchanged"] / max(1, p["controls"]),
                "choice": "the search's choice" if p["chosen"] else "another point",
            }
            for p in points
        ]
    )
    chart = (
        alt.Chart(frame)
        .mark_point(filled=True, size=140, strokeWidth=3)
        .encode(
            x=alt.X("neurons:Q", title="neurons in the steer", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("turned:Q", title="training wordings turned", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1.05])),
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
                alt.Tooltip("turned:Q", format=".0%", title="turned"),
                alt.Tooltip("kept:Q", format=".0%", title="controls unchanged"),
            ],
        )
        .properties(height=260)
    )
    st.altair_chart(chart, key="repair.pareto", width="stretch")


def _answers(data: Mapping[str, Any]) -> None:
    if not data["answers"]:
        st.caption("No steer was checked.")
        return
    train, held = data["train"]["total"], data["heldout"]["total"]
    parts = ["searched with"] * train + ["held out"] * held + ["control"] * (len(data["answers"]) - train - held)
    frame = pd.DataFrame(
        [
            {
                "part": part,
                "good": a["good"],
                "prompt": a["prompt"],
                "unsteered": a["unsteered"],
                "steered": a["steered"],
            }
            for part, a in zip(parts, data["answers"], strict=True)
        ]
    )
    columns = {"good": st.column_config.CheckboxColumn("fixed / unchanged")}
    st.dataframe(frame, hide_index=True, column_config=columns, key="repair.answers")
    downloads(frame, "repair-answers", key="repair.answers.out")


def _neurons(steers: tuple[Steer, ...], tokens: str, about: Mapping[str, str]) -> None:
    rows = [
        {"neuron": neuron_address(f"{side.layer}:{side.index}"), "what is done": what, "fires on": known(side, about)}
        for steer in steers
        for side, what in told(steer)
    ]
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={"neuron": link_column()}, key="repair.neurons.table")
        st.caption(f"Acts {acts_on(steers, tokens)}. {ACTIONS}")
