"""What a repair is asked: the prompt, its wrong and its wanted answer, other wordings, controls. Bad input is told beside the button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from neurons.core.errors import InvalidInput
from neurons.describing.endpoint import Endpoint
from neurons.prompts.files import load_file
from neurons.prompts.sets import load_set, saved_sets
from neurons.repair.controls import builtin_controls
from neurons.repair.paraphrases import template_paraphrases
from neurons.repair.repair import BUDGET
from neurons.repair.rewording import endpoint_paraphrases
from neurons.repair.spec import RepairSpec, parse_spec
from neurons.repair.steers import ACTS_ON
from neurons.storage.documents import NamedDocuments
from pages.prompts.prompt_input import PROMPT_FILES
from pages.shared import address_state, desk, filled, server_wide, untrusted

_KINDS = {"contains": "a text", "regex": "a regular expression", "token": "a token"}
_MAX_MB = 10


class AskedState(address_state.PageState):
    """A repair that a link asks for."""

    prompt: str = ""
    wanted: str = ""
    unwanted: str = ""


@dataclass(frozen=True)
class Filled:
    """What the form holds and which button was pressed."""

    spec: RepairSpec | None
    """The repair; None while no button is pressed."""
    budget: int
    """Most forward passes of a search."""
    compare: bool
    """Whether random neurons and simple baselines are measured too."""
    checked: bool = False
    searched: bool = False


def draw(*, disabled: bool) -> Filled:
    """The form. Raises `InvalidInput` for a repair that is none, `EndpointError` where wordings were asked of an endpoint."""
    _take_address()
    prompt = st.text_area(
        "Question that is answered wrong", key="repair.prompt", height=68, placeholder="What is the capital of Turkey?", max_chars=20_000
    )
    left, right = st.columns(2)
    wanted = left.text_input("Wanted", key="repair.wanted", placeholder="Ankara", max_chars=2000)
    unwanted = right.text_input(
        "Unwanted (optional)",
        key="repair.unwanted",
        placeholder="Istanbul",
        max_chars=2000,
        help="What the model says instead. An answer that names it, other than to deny it, does not count as fixed.",
    )
    left, right = st.columns(2, vertical_alignment="bottom")
    kind = left.selectbox("The wanted answer is", list(_KINDS), format_func=_KINDS.__getitem__, key="repair.kind")
    right.caption("A text is found as a whole word; upper and lower case count the same.")
    paraphrases = _paraphrases(prompt)
    controls = _controls()
    options, budget, compare = _options()
    row = st.container(horizontal=True, gap="small")
    checked = row.button(
        "Show the unsteered answers",
        icon=":material/visibility:",
        key="repair.check",
        disabled=disabled or not prompt.strip(),
    )
    searched = row.button(
        "Search for a fix",
        icon=":material/build:",
        type="primary",
        key="repair.go",
        disabled=disabled or not prompt.strip(),
    )
    if not checked and not searched:
        return Filled(None, budget, compare)
    spec = {"prompt": prompt, "wanted": {kind: wanted}, "unwanted": unwanted or None, "paraphrases": paraphrases, "controls": controls}
    return Filled(parse_spec({**spec, **options}), budget, compare, checked, searched)


def _take_address() -> None:
    """A repair that another page, or a link, asks for."""
    asked = address_state.read(AskedState)
    if asked != AskedState() and st.session_state.get("repair.asked") != asked:
        st.session_state["repair.asked"] = asked
        for name, value in asked:
            st.session_state[f"repair.{name}"] = value


def _paraphrases(prompt: str) -> list[str]:
    """Other wordings, one per line."""
    if st.session_state.pop("repair.propose", False):
        _put("repair.paraphrases", template_paraphrases(prompt))
    lines = _lines(
        "Other wordings that should change too, one per line",
        "repair.paraphrases",
        height=150,
        placeholder="Name the capital city of Turkey.\nWhich city is the capital of Turkey?",
        help="Half of them are held out: the search never sees them, and the result says how many of them are fixed.",
    )
    row = st.container(horizontal=True, gap="small")  # whole labels, in two lines where the window is narrow
    if row.button(
        "Suggest",
        icon=":material/auto_awesome:",
        key="repair.propose.go",
        help="Fills in wordings made from built-in templates.",
        disabled=not prompt.strip(),
    ):
        st.session_state["repair.propose"] = True
        st.rerun()
    asked = "Have a language model suggest wordings, by an OpenAI-compatible address."
    with row.popover("Ask a model", icon=":material/cloud:", help=asked, disabled=not prompt.strip()):
        _endpoint(prompt)
    _fill(row, "repair.paraphrases")
    return lines


def _endpoint(prompt: str) -> None:
    """Ask an OpenAI-compatible endpoint. The prompt is sent there, and nowhere else."""
    base = st.text_input("Address", placeholder="http://localhost:8000/v1", key="repair.endpoint.url")
    model = st.text_input("Model", key="repair.endpoint.model")
    key = st.text_input("Key (optional, not stored)", type="password", key="repair.endpoint.key")
    st.caption("Your question is sent to this address.")
    if st.button("Ask for wordings", key="repair.endpoint.go", type="primary", width="stretch"):
        with st.spinner("Waiting for the endpoint"):
            found = endpoint_paraphrases(Endpoint(base, model, key or "none", attempts=1), prompt)
        _put("repair.paraphrases", found)
        st.rerun()


def _fill(place: Any, key: str) -> None:
    """Put the prompts of a file or of a saved set into a text area."""
    with place.popover("From a file", icon=":material/playlist_add:", help="Take prompts from a file or a saved set."):
        file = st.file_uploader("TXT, CSV or JSONL", type=PROMPT_FILES, key=f"{key}.file", max_upload_size=_MAX_MB)
        names = saved_sets().names()
        name = st.selectbox("Or a saved set", names, key=f"{key}.set", disabled=file is not None) if names else None
        with server_wide.errors_shown():
            uploaded = None if file is None else load_file(file.getvalue(), name=file.name).prompts
            if uploaded is not None:
                st.caption(untrusted.escape(f"{uploaded.asked}; {uploaded.account}"))
            nothing = uploaded is None and name is None
            if st.button("Use its prompts", key=f"{key}.set.go", type="primary", width="stretch", disabled=nothing):
                prompts = load_set(str(name)) if uploaded is None else uploaded
                _put(key, [" ".join(row.prompt.split()) for row in prompts.rows])
                st.rerun()


def _lines(label: str, key: str, **look: Any) -> list[str]:
    """A text area of prompts, one per line, filled with what `_put` gave it. `look` goes to the text area."""
    if (put := st.session_state.pop(f"{key}.put", None)) is not None:
        st.session_state[key] = put
    text = st.text_area(label, key=key, **look)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _put(key: str, prompts: Sequence[str]) -> None:
    """Fill the text area of this key at its next run: what is drawn already cannot be changed."""
    st.session_state[f"{key}.put"] = "\n".join(prompts)


def _controls() -> list[dict[str, str]] | None:
    """Prompts whose answers should stay, some with what their answers hold; None takes the built-in ones."""
    source = st.radio(
        "Controls: questions whose answers should stay as they are",
        [filled.EVERYDAY, filled.OWN],
        key="repair.controls.source",
        horizontal=True,
    )
    if source == filled.EVERYDAY:
        count = len(builtin_controls())
        st.caption(
            f"Twenty of {count} built-in questions that do not ask what you ask. Where the kind of your question is known, such as "
            "capitals or plurals, up to eight of them ask the same of something else and are answered right now."
        )
        return None
    typed = _lines(
        "Controls, one per line",
        "repair.controls",
        height=120,
        placeholder="What is the capital of Japan?\nWhat is 2 + 2? => 4",
        help="What stands after => has to be in the unsteered answer: a control answered wrong protects nothing, and is refused.",
    )
    _fill(st, "repair.controls")
    parts = (line.partition(filled.ARROW) for line in typed)
    return [{"prompt": prompt.strip(), **({"expected": expected.strip()} if arrow else {})} for prompt, arrow, expected in parts]


def _options() -> tuple[dict[str, Any], int, bool]:
    """(fields of the repair, as `parse_spec` takes them; forward passes; whether to compare)."""
    with st.expander("Options"):
        budget = st.number_input(
            "Budget, forward passes",
            100,
            1_000_000,
            BUDGET,
            500,
            key="repair.budget",
            help="One pass is one prompt through the model once.",
        )
        left, middle, right = st.columns(3)
        neurons = left.number_input("Most neurons", 1, 500, RepairSpec.max_neurons, key="repair.neurons")
        tokens = middle.number_input(
            "Answer tokens",
            1,
            256,
            RepairSpec.max_new_tokens,
            key="repair.tokens",
            help="How many tokens of an answer are searched for the wanted text.",
        )
        control_tokens = right.number_input(
            "Control tokens",
            1,
            256,
            RepairSpec.control_tokens,
            key="repair.control-tokens",
            help="How many tokens of a control's answer must stay the same.",
        )
        scope = st.segmented_control(
            "The steer acts on",
            list(ACTS_ON),
            default=RepairSpec.tokens,
            key="repair.scope",
            required=True,
            format_func=ACTS_ON.__getitem__,
        )
        seed = st.number_input("Seed", 0, 2**31, 0, key="repair.seed", help="Decides which wordings are held out, and the random draws.")
        concepts = NamedDocuments("concepts").list()
        desk.still_offered("repair.concept", [None, *(e.name for e in concepts)])
        concept = st.selectbox(
            "Only neurons of a concept",
            [None, *(e.name for e in concepts)],
            format_func=lambda name: name or "any neuron",
            key="repair.concept",
        )
        compare = st.toggle("Compare with random neurons and simple baselines", value=True, key="repair.compare")
    within = [] if concept is None else _neurons_of(next(e.content for e in concepts if e.name == concept))
    spec = {"max_neurons": int(neurons), "max_new_tokens": int(tokens), "control_tokens": int(control_tokens), "tokens": scope}
    return {**spec, "seed": int(seed), "within": within}, int(budget), compare


def _neurons_of(content: Any) -> list[str]:
    neurons = content.get("neurons") if isinstance(content, dict) else None
    if not neurons:
        raise InvalidInput("this concept has no neurons; choose another", field="within")
    from neurons.runs.steering import parse_steers

    return [str(side) for side in parse_steers({"neurons": list(neurons)})[0].neurons]
