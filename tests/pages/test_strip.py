"""The data that the token strip gets, and what it takes back. Its drawing is tested in Chromium."""

from __future__ import annotations

import json

import numpy as np
from streamlit.testing.v1 import AppTest

from neurons.core.types import Segment
from pages.shared import strip
from pages.shared.palette import PALETTE
from pages.shared.strip import Strip
from pages.shared.untrusted import escape

PIECES = ("<s>", "Hi", " 👩‍🚀", "", "!", "\n")


def make(**changes: object) -> Strip:
    given = {"trace_id": "abcd", "pieces": PIECES, "ids": range(6), "segments": (Segment("user", 0, 1, True), Segment("user", 1, 6))}
    return Strip(**{**given, **changes})  # type: ignore[arg-type]


def test_payload_is_plain_json() -> None:
    data = strip.payload(
        make(
            tint_T=np.array([np.nan, 0.5, 7, -3, 0, 0.123]),
            logprob_T=np.log([1, 0.5, 0.25, 0.1, 0.9, 0.3]).astype(np.float32),
            rank_T=np.array([-1, 0, 3, 0, 0, 0], np.int32),
            steered=[False] * 5 + [True],
        )
    )
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["tint"] == [0, 0.5, 1, -1, 0, 0.12]
    assert data["prob"][:3] == [None, 0.5, 0.25]
    assert data["rank"][2] == 4
    assert data["segments"] == [["user", 0, 1, True], ["user", 1, 6, False]]
    assert data["steered"] == [0, 0, 0, 0, 0, 1]


def test_candidates_share_their_words() -> None:
    data = strip.payload(
        make(
            topk_ids_TK=np.array([[-1, -1], [5, 6], [6, 5], [5, 6], [5, 6], [9, -1]]),
            topk_probs_TK=np.full((6, 2), 0.25),
            words=lambda ids: [f"w{i}" for i in ids],
        )
    )
    assert data["words"] == ["w5", "w6", "w9"]
    assert data["top"][0] == []
    assert data["top"][2] == [1, 0.25, 0, 0.25]
    assert data["top"][5] == [2, 0.25]


def test_long_conversations_send_fewer_candidates() -> None:
    many = 2000
    data = strip.payload(
        make(
            pieces=("a",) * many,
            ids=range(many),
            segments=(Segment("user", 0, many),),
            topk_ids_TK=np.tile(np.arange(10), (many, 1)),
            topk_probs_TK=np.full((many, 10), 0.1),
            words=lambda ids: ["w"] * len(ids),
        )
    )
    assert len(data["top"][1]) == 10
    assert len(json.dumps(data)) < 250_000


def test_ranges_as_text() -> None:
    assert strip.text(((3, 9), (12, 13))) == "3:9,12"
    assert strip.spoken(((3, 9), (12, 13))) == "3 to 8, 12"
    assert strip.positions(((3, 5), (7, 8))) == [3, 4, 7]


def test_palette_has_the_same_meanings_in_both_themes() -> None:
    assert PALETTE["light"].keys() == PALETTE["dark"].keys()


def test_escape_leaves_no_markdown() -> None:
    assert escape("**a** $x$ :red[b] <i>") == r"\*\*a\*\* \$x\$ \:red\[b\] \<i\>"
    assert escape("    code\n# head") == "code  \n\\# head"


_SCRIPT = """
import streamlit as st
from neurons.core.types import Segment
from pages.shared import strip
if st.button("push"):
    strip.select("s", "abcd", ((1, 3),))
    st.rerun()
shown = strip.Strip(st.session_state.get("which", "abcd"), ("a", "b", "c", "d"), range(4), (Segment("user", 0, 4),))
st.session_state["before"] = strip.selection("s", shown.trace_id)
st.session_state["ranges"] = strip.draw(shown, key="s")
"""


def _app() -> AppTest:
    return AppTest.from_string(_SCRIPT, default_timeout=30)


def test_a_selection_from_the_browser_is_checked_and_kept() -> None:
    app = _app().run()
    assert app.session_state["ranges"] == ()
    app.session_state["s.strip"] = {"selection": {"trace_id": "abcd", "ranges": [[2, 99], [0, 1], ["x", 2], [3, 3]]}}
    app.run()
    assert not app.exception
    assert app.session_state["ranges"] == ((0, 1), (2, 4))


def test_another_traces_selection_is_not_taken() -> None:
    app = _app().run()
    app.session_state["s.strip"] = {"selection": {"trace_id": "other", "ranges": [[0, 1]]}}
    app.run()
    assert app.session_state["ranges"] == ()


def test_python_sets_the_selection_and_another_trace_drops_it() -> None:
    app = _app().run()
    app.button[0].click().run()
    assert app.session_state["ranges"] == ((1, 3),)
    app.session_state["which"] = "wxyz"
    app.run()
    assert app.session_state["ranges"] == ()
