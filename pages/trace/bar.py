"""The bar on top of the Trace page: model, sampling, view, and the trace's name and link."""

from __future__ import annotations

import streamlit as st

from neurons.core.errors import NeuronscopeError
from pages.shared import sampling_settings, server_wide, untrusted
from pages.shared.address import address
from pages.shared.trace_context import VIEW_KEY, VIEWS, TraceContext

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


def draw(context: TraceContext | None) -> None:
    """One thin row."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="trace.bar"):
        loaded = server_wide.model()
        name = loaded.ref.name if loaded else "model is loading"
        with st.popover(untrusted.escape(name), icon=":material/deployed_code:", key="trace.bar.model"):
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
        if context is not None:
            with st.popover(
                untrusted.escape(_title(context)),
                icon=":material/bookmark:",
                key="trace.bar.name",
                help="Name, note, tags and link of this trace",
            ):
                _about(context)


def _title(context: TraceContext) -> str:
    text = context.record.name or " ".join(context.record.prompt.split()) or context.id
    return text if len(text) <= 34 else text[:33] + "…"


def _model(context: TraceContext | None) -> None:
    loaded = server_wide.model()
    if loaded is not None:
        ref = loaded.ref
        neurons = ref.n_layers * ref.n_neurons
        st.text(
            f"{ref.name}\n{ref.architecture}, {ref.dtype} on {ref.device}\n{ref.n_layers} layers x {ref.n_neurons:,} = {neurons:,} neurons"
        )
    if context is not None and loaded is not None and context.loaded is None:
        st.warning("This trace was made by another model (or other weights).", icon=":material/warning:")
        st.text(f"{context.record.model.name}, weights {context.record.model.weights_hash[:12]}")
    st.caption("One model is shared by everyone who uses this server. Switch it on the Models page.")


def _about(context: TraceContext) -> None:
    record = context.record
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
    st.caption("Link to this trace, with the selected tokens and the view:")
    query = {"trace": record.id}
    if "token" in st.query_params:
        query["token"] = st.query_params["token"]
    if context.view != "activation":
        query["view"] = context.view
    base = str(st.context.url or "").split("?")[0].rstrip("/")
    st.code(base + address("trace", **query) if base.count("/") == 2 else address("trace", **query), language=None)
