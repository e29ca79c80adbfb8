"""What each layer would say at a token: the logit lens as a table."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.percent import percent
from neurons.runs.lens import Lens, logit_lens
from neurons.tracing.sentence import visible
from pages.shared import server_wide
from pages.shared.kept import kept
from pages.shared.trace_context import TraceContext

_TOP = 4


def draw(context: TraceContext) -> None:
    """The table for the token that is looked at."""
    st.markdown("**What each layer would say**")
    token = context.token
    if context.loaded is None:
        st.info("This reads the model itself: load this trace's model on the Models page.", icon=":material/deployed_code:")
        return
    if token == 0:
        st.info("Nothing comes before the first token. Select a later one.", icon=":material/touch_app:")
        return
    try:
        lens = _lens(server_wide.server().store.root.as_posix(), context.id, token)
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return
    st.caption(
        f"At token {token}: the most probable tokens if the model stopped after each layer and answered at once. "
        "The last row of the model (top) is what it really says."
    )
    st.dataframe(
        table(lens, context),
        hide_index=True,
        height=360,
        column_config={
            "layer": st.column_config.TextColumn("Stop after", width=80),
            **{f"{place}.": st.column_config.TextColumn(width=108) for place in range(1, _TOP + 1)},
            "here": st.column_config.TextColumn("This token", width=85, help="Probability of the token that stands there"),
            "rank": st.column_config.NumberColumn("Rank", width=65, help="Its rank there: 1 is the most probable"),
        },
    )


@kept("Reading each layer")
def _lens(root: str, trace_id: str, token: int) -> Lens:
    record = server_wide.store().load(trace_id)
    loaded = server_wide.model_with(record.model.weights_hash)
    if loaded is None:
        raise InvalidInput("the trace's model is not loaded; try again when it is")
    return logit_lens(loaded, record.token_ids, [token], k=_TOP, steers=record.steers, prompt_tokens=len(record.prompt_ids))


def table(lens: Lens, context: TraceContext) -> pd.DataFrame:
    """One row per layer, the last first: its top tokens with their probabilities, and how the token that stands there fares."""
    words = {int(i): visible(context.words([int(i)])[0]) for i in set(lens.top_ids_RNK[:, 0].ravel().tolist())}
    rows = []
    for row, name in reversed(list(enumerate(lens.names))):
        top = zip(lens.top_ids_RNK[row, 0], lens.top_probs_RNK[row, 0], strict=True)
        candidates = {f"{place}.": f"{words[int(i)]}  {percent(float(p), exact=False)}" for place, (i, p) in enumerate(top, start=1)}
        taken = {"here": percent(float(lens.target_prob_RN[row, 0]), exact=False), "rank": int(lens.target_rank_RN[row, 0]) + 1}
        rows.append({"layer": name, **candidates, **taken})
    return pd.DataFrame(rows)
