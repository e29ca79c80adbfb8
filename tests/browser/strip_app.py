"""Two strips side by side, for tests of the strip alone: no model, any length (`?n=2000`)."""

from __future__ import annotations

import numpy as np
import streamlit as st

from neurons.core.types import Segment
from pages.shared import strip

BASE = [
    "<|im_start|>",
    "user",
    "\n",
    "Why",
    " not",
    "?",
    "<|im_end|>",
    "\n",
    "<|im_start|>",
    "assistant",
    "\n",
    "The",
    " 👩‍🚀",
    "",
    "",
    " said",
]
BASE += [" <b>no</b>", "\n", "\n", "    ", "\u202e", " المدينة"]
CANDIDATES = [" the", " a", " Canberra", "\n", " Sydney", " of", " in", "."]

st.set_page_config(layout="wide")
n_tokens = int(st.query_params.get("n", len(BASE)))
pieces = BASE + [f" word{i}" if i % 17 else ".\n" for i in range(n_tokens - len(BASE))]
segments = [
    Segment("user", 0, 3, True),
    Segment("user", 3, 6),
    Segment("user", 6, 8, True),
    Segment("assistant", 8, 11, True),
    Segment("assistant", 11, n_tokens),
]
rng = np.random.default_rng(0)


def shown(name: str) -> strip.Strip:
    return strip.Strip(
        name,
        pieces,
        range(n_tokens),
        segments,
        tint_T=rng.uniform(-1, 1, n_tokens),
        scale="diverging",
        low="suppressing",
        high="promoting",
        logprob_T=np.full(n_tokens, np.log(0.1)),
        rank_T=np.full(n_tokens, 2),
        topk_ids_TK=np.tile(np.arange(8), (n_tokens, 1)),
        topk_probs_TK=np.tile([0.5, 0.2, 0.1, 0.05, 0.01, 0.004, 0.0001, 0.00001], (n_tokens, 1)),
        words=lambda ids: [CANDIDATES[i] for i in ids],
        steered=[i in (4, 5) for i in range(n_tokens)],
        title=name,
    )


left, right = st.columns(2)
with left:
    chosen = strip.draw(shown("left"), key="left", group="both", height="300px")
    st.text(f"left [{strip.text(chosen)}]")
with right:
    chosen = strip.draw(shown("right"), key="right", group="both", height="300px")
    st.text(f"right [{strip.text(chosen)}]")
if st.button("Select 11 to 12"):
    strip.select("left", "left", ((11, 13),))
    st.rerun()
