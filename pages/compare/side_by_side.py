"""Two traces side by side: their tokens scrolled together, the words and probabilities that differ, the neurons that differ most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import streamlit as st

from neurons.core.errors import ModelError
from neurons.models.chat import token_text
from neurons.models.loaded import LoadedModel
from neurons.tracing.sweeps import forced_divergence
from pages.compare import charts, word_changes
from pages.shared import address, drawing, figures, reports, server_wide, strip, strip_views, untrusted
from pages.shared.kept import kept
from pages.shared.trace_context import TraceContext, View
from traces.compare import TraceComparison, compare_traces
from traces.schema import TraceRecord

_TINTS: tuple[View, ...] = ("surprisal", "entropy", "activation")
_TOP = 60
_NAMED = 12


def draw(a_id: str, b_id: str, *, key: str, wide: bool = False) -> None:
    """Draw the comparison of trace `b_id` with trace `a_id`; `wide` on a page of its own. Raises `NeuronscopeError`."""
    store = server_wide.store()
    a, b = store.load(a_id), store.load(b_id)
    models = (server_wide.model_with(a.model.weights_hash), server_wide.model_with(b.model.weights_hash))
    states = (store.activation_state(a_id), store.activation_state(b_id))
    known = (models[0] is not None, models[1] is not None)
    found = _compare(store.root.as_posix(), a_id, b_id, states, known, models)
    names = titles(a, b)
    untrusted.draw(word_changes.verdict(found, names), key=f"{key}.verdict")
    _strips(a, b, found, names, key=key, wide=wide)
    words, tokens, neurons = st.tabs(["Words", "Probabilities", "Neurons"], key=f"{key}.tab", on_change="rerun")
    with words:
        untrusted.draw(word_changes.parts(found.words), key=f"{key}.words")
        st.caption(f"Struck through: only in {names[0].lower()}. Highlighted: only in {names[1].lower()}.")
    with tokens:
        charts.draw_divergence(found, names, key=key)
        exact = _exact_kl(a, b, found, key=key)
        charts.draw_tokens(found, names, prompt_tokens=(len(a.prompt_ids), len(b.prompt_ids)), exact=exact, key=key)
    with neurons:
        charts.draw_neurons(found, names, b.model, (*a.steers, *b.steers), key=key)


def titles(a: TraceRecord, b: TraceRecord) -> tuple[str, str]:
    """What the two columns are called."""
    steered = tuple(any(not steer.is_noop for steer in record.steers) for record in (a, b))
    return ("Unsteered", "Steered") if steered == (False, True) else ("First", "Second")


@kept("Comparing")
def _compare(
    root: str,
    a_id: str,
    b_id: str,
    states: tuple[str, str],
    known: tuple[bool, bool],
    _models: tuple[LoadedModel | None, LoadedModel | None],
) -> TraceComparison:
    """`states` and `known` are part of the key: recomputed activations and models that name tokens change the result."""
    decode, decode_b = (None if model is None else partial(token_text, model) for model in _models)
    return compare_traces(server_wide.store(), a_id, b_id, top=_TOP, decode=decode, decode_b=decode_b)


def _exact_kl(a: TraceRecord, b: TraceRecord, found: TraceComparison, *, key: str) -> Mapping[int, float] | None:
    """The KL divergence over the whole vocabulary by position: as the pair recorded it, else once it was asked for: it takes the model."""
    same = a.model.weights_hash == b.model.weights_hash and server_wide.model_with(a.model.weights_hash) is not None
    if found.exact_kl:
        return found.exact_kl
    if not same or not found.same_prompt:
        return None
    asked = f"{key}.exact.{a.id}.{b.id}"
    if not st.session_state.get(asked):
        help_text = "Runs the model over the text that both share; below stands a lower bound from the tokens that were stored"
        if not st.button("KL over the whole vocabulary", icon=":material/functions:", key=f"{key}.exact", help=help_text):
            return None
        st.session_state[asked] = True
    with st.spinner(f"Running both over the {found.shared_tokens} tokens that they share"):
        return _whole_kl(server_wide.store().root.as_posix(), a.id, b.id, found.shared_tokens)


@kept()
def _whole_kl(root: str, a_id: str, b_id: str, shared: int) -> Mapping[int, float]:
    a, b = server_wide.store().load(a_id), server_wide.store().load(b_id)
    loaded = server_wide.model_with(a.model.weights_hash)
    if loaded is None:
        raise ModelError("the model is still loading; ask again in a moment")
    # The next token's distributions differ already where the ids part: one token more than is shared.
    ids = a.token_ids[: shared + 1]
    found = forced_divergence(loaded, ids, b.steers, base=a.steers, prompt_tokens=len(a.prompt_ids))
    return {position: float(value) for position, value in enumerate(found.kl_T) if position}


def _strips(a: TraceRecord, b: TraceRecord, found: TraceComparison, names: tuple[str, str], *, key: str, wide: bool) -> None:
    tokens_a_line, limit = (20, 26.0) if wide else (9, 20.0)
    tint = st.segmented_control(
        "Tint", _TINTS, default=_TINTS[0], key=f"{key}.tint", required=True, format_func=str.capitalize, label_visibility="collapsed"
    )
    marks = word_changes.marked_tokens(a, b, found.words)
    both: list[strip.Strip] = []
    for side, place in enumerate(st.columns(2, gap="small")):
        record = (a, b)[side]
        with place:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{names[side]}**")
                address.link("trace", "open", icon=":material/open_in_new:", trace=record.id)
            context = TraceContext(record, server_wide.model_with(record.model.weights_hash), tint, ())
            shown = replace(strip_views.strip_of(context), marked=marks[side], title=f"{names[side]}: tokens")
            both.append(shown)
            strip.draw(shown, key=f"{key}.{side}", height=_height(a, b, tokens_a_line, limit), group=key)
            _steers(record, key=f"{key}.{side}")
    with st.container(horizontal=True):
        figures.offer(
            lambda: [drawing.of_strip(one, title=name) for one, name in zip(both, names, strict=True)],
            key=f"{key}.both",
            stem=f"comparison-{a.id}-{b.id}",
        )
        reports.button(b.id, against=a.id, key=f"{key}.report")


def _height(a: TraceRecord, b: TraceRecord, tokens_a_line: int, limit: float) -> str:
    """Both strips as high as the longer one needs, up to a limit: the difference below stays near."""
    lines = max(len(record.token_ids) for record in (a, b)) / tokens_a_line
    return f"{min(limit, 5.5 + 1.8 * lines):.1f}rem"


def _steers(record: TraceRecord, *, key: str) -> None:
    """What was done to the run, one line per steer."""
    from pages.shared import steer_state

    active = [steer for steer in record.steers if not steer.is_noop]
    how = record.sampling.how if record.sampling.greedy else f"{record.sampling.how}, seed {record.sampling.seed}"
    lines: list[untrusted.Part] = [
        (f"{record.model.name}, {how}, {len(record.answer_ids)} tokens, ended: {record.finish_reason}\n", "muted")
    ]
    for steer in active:
        named = ", ".join(str(side) for side in steer.neurons[:_NAMED]) + (" …" if len(steer.neurons) > _NAMED else "")
        lines += [(steer.name or "Steer", "strong"), (f": {steer_state.sentence(steer)} ", ""), (f"{named}\n", "muted")]
    untrusted.draw(lines, key=f"{key}.steers", size="0.85rem")


def pair_link(a_id: str, b_id: str) -> None:
    """A link to this comparison on a page of its own."""
    address.link("compare", "Open on its own page", icon=":material/compare:", a=a_id, b=b_id)
