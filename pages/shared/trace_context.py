"""The trace that this browser looks at, and everything the pieces of the Trace page need to know about it.

The address says which trace, token and view are open, so that a link or a reload brings them back. A `TraceContext` is made
anew for every run of the page; the arrays it hands out are shared by all browsers and must not be written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

import numpy as np
import streamlit as st
from pydantic import BeforeValidator

from neurons.core.errors import NeuronscopeError, NotFound
from neurons.core.steers import parse_ranges
from neurons.core.types import Sampling
from neurons.models.chat import token_text
from neurons.models.loaded import LoadedModel
from pages.shared import address_state, browser_history, sampling_settings, server_wide, strip
from pages.shared.kept import kept
from traces.schema import TraceRecord
from traces.tensors import ACTIVATIONS

View = Literal["activation", "attribution", "surprisal", "entropy"]
VIEWS: tuple[View, ...] = get_args(View)
STRIP_KEY = "trace.tokens"
_TRACE = "trace.id"
VIEW_KEY = "trace.view"
_NAMED_VIEW = "trace.view.named"
_SETTINGS_OF = "trace.settings.of"
_LAID_OUT = "kept"
"""In the address: what a person had typed and chosen, settings included, comes back with it."""


def _ranges(text: Any) -> Any:
    """ "3-5,9" and "3:5,9" are token ranges."""
    if not isinstance(text, str):
        return text
    return parse_ranges(text.replace("-", ":")) if text else ()


class TraceState(address_state.PageState):
    """What the address says of the open trace."""

    trace: address_state.Named = None
    token: Annotated[strip.Ranges, BeforeValidator(_ranges)] = ()
    """The selected token ranges."""
    view: View | None = None
    """None where the address names none."""


@dataclass(frozen=True, eq=False)
class TraceContext:
    """One trace, as it is looked at now."""

    record: TraceRecord
    loaded: LoadedModel | None
    """The shared model, when it is the trace's own; None while it loads or when another one is loaded."""
    view: View
    ranges: strip.Ranges
    """Token ranges selected in the strip; () when nothing is."""

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def answerer(self) -> LoadedModel | None:
        """The model that goes on with it: its own where that is loaded, else the server's."""
        return self.loaded or server_wide.model()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The arrays with one row per token (topk_ids, topk_probs, rank, logprob, entropy); missing ones left out."""
        return _facts(server_wide.server().store.root.as_posix(), self.id)

    @property
    def positions(self) -> list[int]:
        """The selected token positions, or all of them when nothing is selected."""
        return strip.positions(self.ranges) or list(range(len(self.record.token_ids)))

    @property
    def token(self) -> int:
        """The one token that is looked at: the selection's first, else the answer's first, else the last of the prompt."""
        if self.ranges:
            return min(self.ranges[0][0], len(self.record.token_ids) - 1)
        return min(len(self.record.prompt_ids), len(self.record.token_ids) - 1)

    def activations(self) -> np.ndarray[Any, Any]:
        """All activations (L, T, I), float16 or float32, shared: do not write to them.

        Raises `traces.store.Evicted` when they were removed for the disk budget, `NotFound` when never recorded.
        """
        return activations_of(self.id)

    def word(self, position: int) -> str:
        """The text of the token at `position`; that of the whole character where it is a part of one."""
        return word_at(self.record, position)

    def words(self, token_ids: Sequence[int]) -> list[str]:
        """The text of token ids; "id 17" where the trace's model is not loaded."""
        if self.loaded is None:
            return [f"id {token}" for token in token_ids]
        return [token_text(self.loaded, token) for token in token_ids]


@kept()
def _facts(root: str, trace_id: str) -> dict[str, Any]:
    dataset = server_wide.store().arrays(trace_id)
    return {str(name): np.asarray(dataset[name].values) for name in dataset.data_vars if name != ACTIVATIONS}


@kept("Reading the activations")
def _activations(root: str, trace_id: str) -> np.ndarray[Any, Any]:
    return server_wide.store().read(trace_id, ACTIVATIONS)


def word_at(record: TraceRecord, position: int) -> str:
    """The text of the token at `position`; that of the whole character where it is a part of one."""
    while position > 0 and record.pieces[position] == "":
        position -= 1
    return record.pieces[position]


def activations_of(trace_id: str) -> np.ndarray[Any, Any]:
    """All activations of a trace (L, T, I), shared: see `TraceContext.activations`."""
    return _activations(server_wide.server().store.root.as_posix(), trace_id)


def forget(trace_id: str) -> None:
    """Read a trace's arrays anew the next time: they were recomputed."""
    root = server_wide.server().store.root.as_posix()
    _facts.clear(root, trace_id)
    _activations.clear(root, trace_id)


def current() -> TraceContext | None:
    """The open trace: the one in the address, else this session's, else an example. None for a new conversation."""
    trace_id = _chosen()
    if trace_id is None:
        return None
    try:
        record = server_wide.store().load(trace_id)
    except NotFound:
        browser_history.unknown("the trace", trace_id, "Ask something here, or open another one on the page Traces.")
        return None
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return None
    _own_settings(record)
    return TraceContext(record, server_wide.model_with(record.model.weights_hash), view(), strip.selection(STRIP_KEY, record.id))


def _own_settings(record: TraceRecord) -> None:
    """A trace that is opened brings its system prompt and settings along: what is asked next there is asked as it was.

    A reload brings those that were in the bar. The examples' answers are cut short: that is left behind.
    """
    first = _SETTINGS_OF not in st.session_state
    if st.session_state.get(_SETTINGS_OF) == record.id:
        return
    st.session_state[_SETTINGS_OF] = record.id
    if first and _LAID_OUT in st.query_params:
        return
    settings = record.sampling
    if server_wide.store().summary(record.id).example:
        settings = replace(settings, max_new_tokens=max(settings.max_new_tokens, Sampling().max_new_tokens))
    system = next((message.content for message in record.messages if message.role == "system"), "")
    sampling_settings.take_over(settings, system)


def _chosen() -> str | None:
    asked = address_state.read(TraceState).trace
    if asked is None:
        if _TRACE not in st.session_state:
            st.session_state[_TRACE] = example_id()
        return _address(st.session_state[_TRACE])
    if asked != st.session_state.get(_TRACE):  # a link or a reload: its token too
        st.session_state[_TRACE] = asked
        strip.select(STRIP_KEY, asked, address_state.read(TraceState).token)
    return asked


def _address(trace_id: str | None) -> str | None:
    """Keep the address in step with the session."""
    if st.query_params.get("trace") == trace_id:
        return trace_id
    if trace_id is None:
        st.query_params.pop("trace", None)
    else:
        st.query_params["trace"] = trace_id
    return trace_id


def example_id() -> str | None:
    """The example that a first visitor sees: the oldest of those that ship, also after somebody attributed it and so has a copy of it."""
    examples = server_wide.store().examples()
    return min(examples, key=lambda record: record.created).id if examples else None


def open_trace(trace_id: str | None, *, ranges: strip.Ranges = ()) -> None:
    """Show another trace from the next rerun on; None starts a new conversation."""
    st.session_state[_TRACE] = trace_id
    others = {name: value for name, value in st.query_params.items() if name not in ("trace", "token")}
    st.query_params.from_dict(others | ({} if trace_id is None else {"trace": trace_id}))  # at once: one step for the browser's Back
    if trace_id is not None and ranges:
        strip.select(STRIP_KEY, trace_id, ranges)


def note_selection(ranges: strip.Ranges) -> None:
    """Keep the selection in the address: the link that a person copies brings it back."""
    if ranges:
        st.query_params["token"] = strip.text(ranges[:20])
    else:
        st.query_params.pop("token", None)


def view() -> View:
    """The view chosen in the bar, or named by a link that was just followed."""
    unnamed = VIEWS[0] if "trace" in st.query_params else st.session_state.get(_NAMED_VIEW, VIEWS[0])
    asked = address_state.read(TraceState).view or unnamed
    if asked != st.session_state.get(_NAMED_VIEW):
        st.session_state[VIEW_KEY] = asked
    if st.session_state.get(VIEW_KEY) not in VIEWS:
        st.session_state[VIEW_KEY] = VIEWS[0]
    return _note_view(st.session_state[VIEW_KEY])


def _note_view(chosen: View) -> View:
    """Keep the view in the address."""
    st.session_state[_NAMED_VIEW] = chosen
    if chosen == VIEWS[0]:
        st.query_params.pop("view", None)
    else:
        st.query_params["view"] = chosen
    return chosen
