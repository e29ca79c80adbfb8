"""The bar on top of the Trace page: model, sampling, view, and the trace's name and link."""

from __future__ import annotations

from urllib.parse import urlsplit

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from neurons.core.errors import NeuronscopeError
from pages.shared import reports, sampling_settings, server_wide, untrusted
from pages.shared.address import PARAMETER, address
from pages.shared.trace_context import VIEW_KEY, VIEWS, TraceContext
from pages.trace import other_model
from traces.schema import TraceRecord

_HELP = (
    "What tints the tokens and fills the tabs. Activation: how strongly the neurons fire. Attribution: what caused the token you click. "
    "Surprisal: how unlikely the token was. Entropy: how unsure the model was before it."
)
_FINISH = {
    "stop": "ended by the model",
    "length": "cut at the token limit",
    "context": "the model's context was full",
    "cancelled": "stopped: partial answer",
    "error": "broken off by an error: partial answer",
}


LAYOUT_KEY = "trace.layout"
LAYOUTS = {"both": ":material/splitscreen_right:", "conversation": ":material/left_panel_open:", "tabs": ":material/right_panel_open:"}


def draw(context: TraceContext | None) -> DeltaGenerator | None:
    """One thin row; returns the box of the trace's name, for what is known of it only later."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="trace.bar"):
        loaded = context.answerer if context is not None else server_wide.model()
        name = loaded.ref.name if loaded else "model is loading"
        model = st.popover(untrusted.escape(name), icon=":material/deployed_code:", key="trace.bar.model", on_change="rerun")
        if model.open:  # what is on this machine is looked up only then
            with model:
                _model(context)
        with st.popover(
            sampling_settings.label(), icon=":material/tune:", key="trace.bar.sampling", help="System prompt and sampling settings"
        ):
            sampling_settings.draw()
        st.segmented_control(
            "View",
            VIEWS,
            key=VIEW_KEY,
            required=True,
            format_func=str.capitalize,
            label_visibility="collapsed",
            help=_HELP,
            persist_state="session",
        )
        st.segmented_control(
            "Layout",
            list(LAYOUTS),
            key=LAYOUT_KEY,
            default="both",
            required=True,
            format_func=LAYOUTS.__getitem__,
            label_visibility="collapsed",
            help="Conversation and tabs side by side, or one of them over the whole window",
            persist_state="session",
        )
        if context is None:
            return None
        about = st.popover(
            untrusted.escape(_title(context)),
            icon=":material/bookmark:",
            key="trace.bar.name",
            help="Name, note, tags, link, report and figure of this trace",
        )
        with about:
            _about(context.record)
        return about


def _title(context: TraceContext) -> str:
    text = context.record.name or " ".join(context.record.prompt.split()) or context.id
    return text if len(text) <= 22 else text[:21].rstrip() + "…"  # the bar is one line at 1440 pixels


def _model(context: TraceContext | None) -> None:
    loaded = context.answerer if context is not None else server_wide.model()
    if loaded is not None:
        ref = loaded.ref
        neurons = ref.n_layers * ref.n_neurons
        st.text(
            f"{ref.name}\n{ref.architecture}, {ref.dtype} on {ref.device}\n{ref.n_layers} layers x {ref.n_neurons:,} = {neurons:,} neurons"
        )
    if context is not None:
        other_model.ask_another(context)
    st.caption("One model is shared by everyone who uses this server. Switch it on the Models page.")


def _about(record: TraceRecord) -> None:
    how = record.sampling.how if record.sampling.greedy else f"{record.sampling.how}, seed {record.sampling.seed}"
    when = record.created[:16].replace("T", " ")
    tokens = f"{len(record.prompt_ids)} + {len(record.answer_ids)} tokens in {record.seconds:.1f} s"
    st.caption(f"{tokens}, {how}, {_FINISH[record.finish_reason]}, {when} UTC")
    name = st.text_input("Name", value=record.name, key=f"trace.name.{record.id}", max_chars=200)
    note = st.text_area("Note", value=record.note, key=f"trace.note.{record.id}", height=90, max_chars=20_000)
    tags = st.text_input("Tags", value=", ".join(record.tags), key=f"trace.tags.{record.id}", help="Separated by commas")
    wanted = (name.strip(), note.strip(), tuple(tag.strip() for tag in tags.split(",") if tag.strip()))
    if wanted != (record.name, record.note, record.tags):
        try:
            server_wide.store().update(record.id, name=wanted[0], note=wanted[1], tags=wanted[2])
        except NeuronscopeError as error:
            server_wide.show_error(error)
        else:
            st.rerun()
    reports.button(record.id, key="trace.report")


def link(context: TraceContext) -> None:
    """The link to copy. Drawn last, when all that it brings back is in the address."""
    st.caption("Link to this trace as it is shown now: selected tokens, view, metric, tab and steer cards.")
    query = {"trace": context.id}
    query |= {name: st.query_params[name] for name in ("token", "view", PARAMETER) if name in st.query_params}
    shown = urlsplit(str(st.context.url or ""))
    server = f"{shown.scheme}://{shown.netloc}" if shown.netloc else ""
    st.code(server + address("trace", **query), language=None)
