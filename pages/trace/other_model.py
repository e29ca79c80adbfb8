"""A trace of another model than the server's: said above everything, loaded beside it, or its prompt asked across models.

Nothing here switches the model of anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from neurons.core.tasks import Task
from neurons.models.catalogue import cached_models
from neurons.models.loaded import LoadedModel
from neurons.models.shared import Loading
from neurons.tracing.record import run_trace
from pages.shared import address, progress_row, server_wide, untrusted
from pages.shared.trace_context import TraceContext
from traces.schema import TraceRecord

_LOADING = "trace.beside"
_ASKING = "trace.across"


@dataclass(eq=False, kw_only=True)
class Asking(Task[str]):
    """A trace's prompt being answered by another model. It results in the new trace's id."""

    first: str
    """The trace whose prompt it is."""


def draw(context: TraceContext) -> None:
    """One row above the page where the trace is not of the server's model; and how far what was begun here is."""
    own = server_wide.model()
    if own is not None and own.ref.weights_hash != context.record.model.weights_hash:
        with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small", key="trace.other"):
            _row(context, own)
    _progress()


def _row(context: TraceContext, own: LoadedModel) -> None:
    theirs = context.record.model
    said: list[untrusted.Part] = [("This trace was made by ", ""), (theirs.name, "strong"), (f" (weights {theirs.weights_hash[:8]}); ", "")]
    if context.loaded is not None:
        said += [("that model is loaded for it, beside ", ""), (own.ref.name, "strong"), (", which everybody else uses.", "")]
    else:
        said += [("the model in use is ", ""), (own.ref.name, "strong"), (". What needs the trace's own model is off.", "")]
    untrusted.draw(said, key="trace.other.said", size="0.95rem")
    busy = _task(Loading, _LOADING) is not None or _task(Asking, _ASKING) is not None
    if context.loaded is None and st.button(
        "Load its model too",
        icon=":material/deployed_code:",
        key="trace.other.load",
        disabled=busy,
        help=f"Loads {untrusted.escape(theirs.id)} for traces of its own; everybody else keeps the present model",
    ):
        st.session_state[_LOADING] = server_wide.server().shared.load_beside(theirs.id, weights=theirs.weights_hash).id
        st.rerun()
    if st.button(
        "Ask the model in use the same",
        icon=":material/compare:",
        key="trace.other.ask",
        disabled=busy,
        help="Answers the trace's prompt with the model in use, unsteered, and shows both side by side",
    ):
        _ask(context.record, own.ref.id)


def ask_another(context: TraceContext) -> None:
    """A choice of the models on this machine, to answer the open trace's prompt too."""
    others = {card.spec: card.name for card in cached_models() if card.cached and card.spec != context.record.model.id}
    if not others:
        return
    chosen = st.selectbox("Ask another model the same", list(others), format_func=others.__getitem__, index=None, key="trace.across.spec")
    if st.button(
        "Ask and compare",
        icon=":material/compare:",
        key="trace.across.go",
        disabled=chosen is None or _task(Asking, _ASKING) is not None,
        help="Loads it beside the present model where there is memory; both traces are then shown side by side",
    ):
        _ask(context.record, str(chosen))


def _ask(record: TraceRecord, spec: str) -> None:
    server, store = server_wide.server(), server_wide.store()
    task = Asking(what=f"asking {spec} the same", first=record.id)
    messages = [replace(message, token_ids=None) for message in record.messages]

    def work() -> str:
        loaded = server.shared.answering(spec, task.progress)
        made, _ = run_trace(
            loaded, messages, sampling=record.sampling, store=store, on_token=lambda _: task.check(), progress=task.progress
        )
        return made.id

    server.start(task, work)
    st.session_state[_ASKING] = task.id
    st.rerun()


def _task(kind: type[Task], key: str) -> Task | None:  # type: ignore[type-arg]
    return server_wide.server().task(st.session_state.get(key), kind)


def _progress() -> None:
    """How far loading or asking is; why it failed; and on to the comparison."""
    for key, kind in ((_LOADING, Loading), (_ASKING, Asking)):
        task = _task(kind, key)
        if task is None or not progress_row.watch(task, key=key):
            continue
        del st.session_state[key]
        error = task.error()
        if error is not None:
            server_wide.show_error(error)
        elif isinstance(task, Asking):
            address.go("compare", a=task.first, b=task.result())
        else:
            st.rerun()  # what was drawn as off is on now
