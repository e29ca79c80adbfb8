"""Describing and scoring the loaded model's atlas, with and without a language model."""

from __future__ import annotations

import os
from typing import Literal

import streamlit as st

from neurons.atlas.store import Atlas, open_atlas
from neurons.core.tasks import Task
from neurons.describing import atlas_jobs
from neurons.describing.endpoint import KEY_VARIABLE, Client, Endpoint, Forecast
from neurons.describing.explain import Explaining
from neurons.describing.explainer import DescribeSettings
from neurons.describing.imported import own_atlas
from neurons.describing.improve import predict_run
from neurons.describing.survey import piece_table
from neurons.models.loaded import LoadedModel
from neurons.storage.job_files import Job
from pages.atlas import running
from pages.shared import job_progress, progress_row, server_wide

_FORECAST = "atlas.ask.forecast"
_WHAT: dict[Literal["headline", "detail"], tuple[str, str]] = {
    "headline": ("Headlines", "in its own words; the same model judges them and the present ones on other passages"),
    "detail": ("Detail lines", "in the form of the present ones; judged by how well they predict the activation"),
}
_STANDARD = DescribeSettings()


class Forecasting(Task[Forecast]):
    """How long asking an endpoint will take, found by asking it about a few neurons."""


def draw() -> None:
    """The newest job, then the ways."""
    loaded = server_wide.model()
    if loaded is None:
        st.caption("The model is still loading.")
        return
    atlas = open_atlas(loaded.ref)
    if atlas is None or atlas.info.near or not atlas.has_figures:
        st.info("There is no atlas of exactly this model with figures: build one first (the Build tab).", icon=":material/construction:")
        return
    jobs = running.jobs_of(loaded.ref, atlas_jobs.DESCRIBE, atlas_jobs.SCORE, atlas_jobs.ASK)
    active = False
    if jobs:
        job = jobs[0]
        job_progress.show(job, key="atlas.describe")
        active = job.active
        if job.state == "done":
            _outcome(job)
    if atlas.shipped:
        st.caption("The shipped atlas is never changed: whatever you do here first makes a copy of your own.")
    left, right = st.columns(2, gap="medium")
    with left, server_wide.errors_shown():
        _template(loaded, disabled=active)
        if "descriptions" in atlas.manifest:
            _score(loaded, disabled=active)
    with right, server_wide.errors_shown():
        _ask(loaded, atlas, disabled=active)


def _outcome(job: Job) -> None:
    if job.kind == atlas_jobs.ASK:
        made = job.outcome(atlas_jobs.Asked)
        what, why = ("headline", "it was judged as good") if made.what == "headline" else ("description", "it predicts as well")
        st.caption(
            f"Of {made.asked:,} neurons, {made.replaced:,} got a better {what}, {made.kept:,} kept the one they had "
            f"({why}), {made.failed:,} got no usable answer; the next run asks about them again."
        )
    else:
        st.caption(f"{job.outcome(atlas_jobs.Described).described:,} neuron sides are described. The Overview tab shows how well.")


def _template(loaded: LoadedModel, *, disabled: bool) -> None:
    with st.container(border=True):
        st.markdown("**Describe, without a language model**")
        st.caption(
            "Reads part of the corpus once, then writes a short phrase for each side from what it fires on, scores it on documents it "
            "never saw, and draws the map. Deterministic. Descriptions written by hand stay."
        )
        one, two = st.columns(2)
        tokens = one.number_input("Tokens to read", 1_000, None, _STANDARD.tokens, 1_024, key="atlas.describe.tokens")
        held = two.number_input(
            "Held-out tokens", 500, None, _STANDARD.held_tokens, 1_024, key="atlas.describe.held", help="For the scores"
        )
        secondary = st.toggle(
            "Also the published score",
            key="atlas.describe.secondary",
            help="On the 20 strongest and 5 random passages: slow, and its figures flatter",
        )
        if st.button("Describe", icon=":material/edit_note:", type="primary", key="atlas.describe.go", disabled=disabled, width="stretch"):
            params = atlas_jobs.DescribeParameters(tokens=int(tokens), held=int(held), secondary=secondary)
            running.start(atlas_jobs.DESCRIBE, params, title=f"Describing the neurons of {loaded.ref.name}")
            st.rerun()


def _score(loaded: LoadedModel, *, disabled: bool) -> None:
    with st.container(border=True):
        st.markdown("**Score again**")
        st.caption("After an import, or on more text. Phrases that are not in the describer's form keep the score they came with.")
        tokens = st.number_input("Held-out tokens", 500, None, _STANDARD.held_tokens, 1_024, key="atlas.score.tokens")
        secondary = st.toggle(
            "Also the published score",
            key="atlas.score.secondary",
            help="On the 20 strongest and 5 random passages: slow, and its figures flatter",
        )
        if st.button("Score", icon=":material/grading:", key="atlas.score.go", disabled=disabled, width="stretch"):
            params = atlas_jobs.ScoreParameters(tokens=int(tokens), secondary=secondary)
            running.start(atlas_jobs.SCORE, params, title=f"Scoring the descriptions of {loaded.ref.name}")
            st.rerun()


def _ask(loaded: LoadedModel, atlas: Atlas, *, disabled: bool) -> None:
    with st.container(border=True):
        st.markdown("**Ask a language model**")
        st.caption(
            "Any OpenAI-compatible endpoint: vLLM, Ollama, llama.cpp, transformers serve, a service. It sees where a neuron fires and "
            "writes candidates; one replaces the present text only where it proves better on places it was not shown."
        )
        if "descriptions" not in atlas.manifest:
            st.caption("Describe the atlas without a language model first.")
            return
        what = st.radio(
            "What it writes", list(_WHAT), format_func=lambda one: _WHAT[one][0], captions=[told for _, told in _WHAT.values()],
            key="atlas.ask.what", horizontal=True,
        )  # fmt: skip
        url = st.text_input("Address", key="atlas.ask.url", placeholder="http://localhost:8000/v1", persist_state="session")
        model = st.text_input("Model it serves", key="atlas.ask.model", placeholder="its name there", persist_state="session")
        key = "is set" if os.environ.get(KEY_VARIABLE) else "is not set (local endpoints need none)"
        st.caption(
            f":material/key: The key comes from the server's environment variable {KEY_VARIABLE.replace('_', chr(92) + '_')}, which {key}."
        )
        one, two, three = st.columns(3)
        candidates = one.number_input("Candidates", 1, 16, 3, key="atlas.ask.candidates", help="Descriptions per neuron side")
        concurrency = two.number_input("Requests at a time", 1, 64, 4, key="atlas.ask.concurrency", help="Sent in parallel")
        rate = three.number_input("Per minute, at most", 0, None, 0, key="atlas.ask.rate", help="Requests; 0 sets no limit")
        limit = one.number_input("Neurons", 1, 1_000_000, 200, key="atlas.ask.limit", help="Those that need it most are asked about first")
        price_in = two.number_input("Price in", 0.0, key="atlas.ask.price_in", help="Per million prompt tokens, for the forecast")
        price_out = three.number_input("Price out", 0.0, key="atlas.ask.price_out", help="Per million answer tokens")
        endpoint = atlas_jobs.EndpointParameters(
            base_url=url.strip(),
            model=model.strip(),
            candidates=int(candidates),
            concurrency=int(concurrency),
            requests_per_minute=float(rate),
            price_in=float(price_in),
            price_out=float(price_out),
        )
        typed = st.text_input("Or just these neurons", key="atlas.ask.neurons", placeholder="17:803, 4:12-")
        check, go = st.columns(2)
        if check.button("Forecast", icon=":material/calculate:", key="atlas.ask.check", width="stretch", disabled=disabled or not url):
            _begin_forecast(loaded, atlas, endpoint.endpoint(), typed, int(limit), what)
            st.rerun()
        if go.button("Ask", icon=":material/forum:", type="primary", key="atlas.ask.go", width="stretch", disabled=disabled or not url):
            endpoint.endpoint()  # tells what is wrong with it before anything is queued
            (atlas_jobs.sides_to_explain if what == "headline" else atlas_jobs.sides_to_ask)(atlas, typed, int(limit))
            params = atlas_jobs.AskParameters(endpoint=endpoint, neurons=typed, limit=int(limit), what=what)
            running.start(atlas_jobs.ASK, params, title=f"Asking {endpoint.model} about neurons")
            st.session_state.pop(_FORECAST, None)
            st.rerun()
        _forecast()


def _begin_forecast(
    loaded: LoadedModel, atlas: Atlas, endpoint: Endpoint, typed: str, limit: int, what: Literal["headline", "detail"]
) -> None:
    """Ask the endpoint about a few neurons and predict the run from the time they took. What it says of headlines is kept for the run."""
    task = Forecasting(what="forecasting")

    def headlines() -> Forecast:
        own = own_atlas(loaded.ref)
        sides = atlas_jobs.sides_to_explain(own, typed, limit)
        return Explaining(own, piece_table(loaded), endpoint).forecast(sides, progress=task.progress)

    def details() -> Forecast:
        client = Client(endpoint)
        try:
            return predict_run(client, atlas, piece_table(loaded), atlas_jobs.sides_to_ask(atlas, typed, limit))
        finally:
            client.close()

    task.progress(0, None, "asking the endpoint about a few neurons")
    server_wide.server().start(task, headlines if what == "headline" else details)
    st.session_state[_FORECAST] = task.id


def _forecast() -> None:
    task = server_wide.server().task(st.session_state.get(_FORECAST), Forecasting)
    if task is None or not progress_row.watch(task, key="atlas.ask.forecast"):
        return
    found = task.result()
    cost = f"{found.cost:,.2f} in the currency of the prices" if found.cost else "no cost at these prices"
    took = f"about {progress_row.time_text(found.seconds)}" if found.seconds is not None else "unknown"
    st.caption(
        f":material/calculate: {found.sides:,} neurons to ask about: about {found.prompt_tokens:,} prompt tokens, "
        f"{found.answer_tokens:,} answer tokens, {cost}, time {took}."
    )
