"""The Repair and Statistics pages filled in by other pages: every field that decides what is run, so that none keeps an older value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import streamlit as st

from neurons.prompts.sets import PromptSet, save_set
from neurons.repair.spec import Control
from neurons.statistics.criteria import Criterion
from pages.shared import address

EVERYDAY, OWN = "Everyday prompts", "My own"
"""Where the controls of a repair come from."""
TYPED = "typed here"
"""Where the prompts of a comparison come from, where they are no saved set."""
CARDS = "the cards of the Steer tab"
"""The steers of a comparison, where they are not saved ones."""
ARROW = "=>"
"""Between a control and what its answer has to hold."""


def repair(
    prompt: str, wanted: Criterion, *, unwanted: str, paraphrases: Sequence[str], controls: Sequence[Control] | None = None
) -> NoReturn:
    """Go to the Repair page with this in its fields; `controls` None: the built-in ones."""
    lines = [f"{one.prompt} {ARROW} {one.expected.text}" if one.expected is not None else one.prompt for one in controls or ()]
    fields = {
        "prompt": prompt,
        "kind": wanted.kind if wanted.kind in ("regex", "token") else "contains",
        "wanted": wanted.text,
        "unwanted": unwanted,
        "paraphrases": "\n".join(paraphrases),
        "controls.source": EVERYDAY if controls is None else OWN,
        "controls": "\n".join(lines),
    }
    st.session_state.update({f"repair.{name}": value for name, value in fields.items()})
    address.go("repair")


def comparison(prompts: Sequence[str], wanted: str) -> NoReturn:
    """Go to the Statistics page with these prompts, all of whose answers should hold `wanted`, and the steers of the cards."""
    _compare({"source": TYPED, "prompts": "\n".join(prompts), "kind": "contains", "text": wanted})


def comparison_of_set(name: str, prompts: PromptSet) -> NoReturn:
    """The same with a set of prompts, saved as `name`, that say what is expected of them."""
    save_set(name, prompts, replace=True)
    _compare({"source": name, "kind": "expected", "text": ""})


def _compare(fields: dict[str, str]) -> NoReturn:
    st.session_state.update({f"stats.{name}": value for name, value in {"steer": CARDS, "token": "", **fields}.items()})
    address.go("experiments")
