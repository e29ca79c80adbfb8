"""A text of one's own, each token tinted by one neuron's activation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput
from neurons.core.types import NeuronSide
from neurons.models.chat import encode_text
from neurons.tracing.scan import text_acts
from neurons.tracing.sentence import visible
from pages.browse import background, token_lines
from pages.browse.background import NeuronTask
from pages.browse.exemplars import key_of
from pages.shared import progress_row, server_wide, untrusted
from pages.shared.neuron_facts import Known

LONGEST = 1_000
"""Tokens that are read."""
_TEXT = "neurons.try.text"
_ASKED = "neurons.try.asked"


@dataclass(frozen=True, eq=False)
class Tried:
    """A text that was read."""

    ids: tuple[int, ...]
    acts_T: NDArray[np.float32]
    masked: int
    """How many of the first tokens are the start token's."""
    cut: int
    """How many tokens were left out at the end."""


def draw(found: Known, side: NeuronSide) -> None:
    """The box and what came of it. The text stays when another neuron is opened."""
    st.session_state.setdefault(_TEXT, "")
    with st.form("neurons.try", border=False):
        text = st.text_area(
            "Your text", key=_TEXT, height=110, persist_state="session", max_chars=50_000,
            placeholder="Type or paste any text: each token is coloured by how strongly this neuron fires there",
        )  # fmt: skip
        sent = st.form_submit_button("Read it", icon=":material/play_arrow:", type="primary")
    if sent:
        st.session_state[_ASKED] = text
    asked = str(st.session_state.get(_ASKED, ""))
    if sent and not asked.strip():
        server_wide.show_error(InvalidInput("the text is empty; type something for the model to read", field="text"))
        return
    if not asked.strip():
        return

    def begin(*, again: bool = False) -> NeuronTask[Tried]:
        return background.ensure(
            (*key_of(found, side, "try"), asked), "reading your text", lambda task: read(found, side, asked), again=again
        )

    task = begin()
    if progress_row.watch(task, key="neurons.try") and background.ended(task, key="neurons.try", retry=lambda: begin(again=True)):
        _show(found, side, task.result())


def read(found: Known, side: NeuronSide, text: str) -> Tried:
    """The neuron's activation at each token of a text, behind the model's start token. Raises `InvalidInput` for an empty one."""
    ids = encode_text(found.loaded, text)
    start = len(encode_text(found.loaded, ""))
    most = min(LONGEST, found.loaded.ref.max_positions - 1)
    return Tried(ids[:most], text_acts(found.loaded, ids[:most], side), start, max(0, len(ids) - most))


def _show(found: Known, side: NeuronSide, tried: Tried) -> None:
    acts_T = tried.acts_T.astype(float)
    sign = 1.0 if side.polarity == "+" else -1.0
    own = sign * acts_T[tried.masked :]
    if not len(own):
        return
    at = tried.masked + int(own.argmax())
    strongest = found.figures.extremes(side.layer)[int(side.polarity == "-"), side.index, 0] if found.figures is not None else 0.0
    word = visible("".join(token_lines.passage(found.loaded, tried.ids[at : at + 1], None).text))
    parts: list[untrusted.Part] = [
        ("Strongest ", ""),
        (f"{acts_T[at]:.3f}", "positive" if acts_T[at] >= 0 else "negative"),
        (" at ", ""),
        (word, "token"),
    ]
    if strongest:
        parts.append((f"   {acts_T[at] / float(strongest):.2f} of the strongest in the corpus", "muted"))
    parts.append((f"   mean {acts_T[tried.masked :].mean():.3f} over {len(own):,} tokens", "muted"))
    untrusted.draw(parts, key="neurons.try.summary")
    if tried.masked == 0 and at == 0:
        st.caption("The first token of a text is often extreme, whatever it is.")
    shown = token_lines.passage(found.loaded, tried.ids[tried.masked :], list(acts_T[tried.masked :]), peak=at - tried.masked)
    scale = float(strongest) or float(np.abs(acts_T[tried.masked :]).max(initial=0.0))
    unit = "{} of its strongest in the corpus" if strongest else "{} of its strongest in this text"
    token_lines.draw(
        [shown], key="neurons.try.tokens", scale=scale, identity=f"{found.stamp[:12]} {side} try", title="Your text", unit=unit
    )
    if tried.cut:
        st.caption(f"The first {len(tried.ids):,} tokens; {tried.cut:,} more were left out.")
