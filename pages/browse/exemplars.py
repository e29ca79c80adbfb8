"""The places of the corpus where a neuron side is strongest, or over the whole range of its activations, each token tinted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from neurons.atlas import reading
from neurons.atlas.reading import neuron_acts, range_passages
from neurons.atlas.records import Exemplar
from neurons.atlas.store import Atlas
from neurons.core.percent import percent
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel
from pages.browse import background, token_lines
from pages.browse.background import NeuronTask
from pages.browse.token_lines import Passage
from pages.shared import progress_row
from pages.shared.neuron_facts import Known

RANGE = "Whole range"
STRONGEST = "Strongest"
CONTEXT = (24, 8)
LEVELS = 12


def draw(found: Known, side: NeuronSide) -> None:
    """The chosen passages; their activations come in as the model reads them."""
    atlas = found.figures
    if atlas is None:
        st.info("Exemplars come from an atlas with figures: this model has none yet. The other views work without.", icon=":material/map:")
        return
    exemplars = atlas.exemplars(side.layer, side.index, side.polarity, context=CONTEXT)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        which = st.segmented_control(
            "Places", [STRONGEST, RANGE], key="neurons.places", required=True, default=STRONGEST, label_visibility="collapsed",
            help="Strongest: where it fires most. Whole range: what it does most of the time, at levels evenly spaced from its highest "
            "to its lowest activation in a few texts drawn by chance",
        )  # fmt: skip
        domain = _domain(exemplars) if which != RANGE else None
    if which == RANGE:
        _range(found, atlas, side, exemplars)
    elif not exemplars:
        st.info(f"This side never fired in {atlas.tokens:,} tokens.", icon=":material/bedtime:")
    else:
        _strongest(found, atlas, side, [one for one in exemplars if domain in (None, one.domain)], exemplars)


def _domain(exemplars: tuple[Exemplar, ...]) -> str | None:
    counts = Counter(one.domain for one in exemplars)
    options = [name for name, _ in counts.most_common()]
    if st.session_state.get("neurons.domain") not in options:
        st.session_state.pop("neurons.domain", None)
    return st.selectbox(
        "Domain", options, index=None, key="neurons.domain", placeholder=f"all {len(options)} domains",
        format_func=lambda name: f"{name} ({counts[name]})", width=210, label_visibility="collapsed",
    )  # fmt: skip


def key_of(found: Known, side: NeuronSide, what: str) -> tuple[str, ...]:
    """What names a computation on this neuron with this atlas and model."""
    ref = found.loaded.ref
    return (what, str(side), ref.weights_hash, ref.dtype, ref.device, found.stamp)


def begin(found: Known, atlas: Atlas, side: NeuronSide, *, again: bool = False) -> NeuronTask[None]:
    """Read the activations of all exemplars, strongest first; they come one by one in the task's `live`."""
    loaded = found.loaded
    exemplars = atlas.exemplars(side.layer, side.index, side.polarity, context=CONTEXT)

    def work(task: NeuronTask[None]) -> None:
        for done, one in enumerate(exemplars):
            task.progress(done, len(exemplars), "exemplars read by the model")
            acts_T = neuron_acts(loaded, atlas.corpus, [one.sequence], side, stop=one.start + len(one.ids))[0]
            task.live.append((one.rank, acts_T[one.start :]))

    return background.ensure(key_of(found, side, "exemplars"), "reading the exemplars", work, again=again)


def _strongest(found: Known, atlas: Atlas, side: NeuronSide, shown: list[Exemplar], exemplars: tuple[Exemplar, ...]) -> None:
    task = begin(found, atlas, side)

    def body() -> None:
        known: dict[int, NDArray[np.float32]] = dict(list(task.live))
        passages = [exemplar_passage(found.loaded, one, known.get(one.rank), running=task.running) for one in shown]
        _passages(passages, found, side, exemplars[0].value, f"{len(shown)} exemplars")

    if progress_row.watch(task, key="neurons.exemplars", body=body):
        background.ended(task, key="neurons.exemplars", retry=lambda: begin(found, atlas, side, again=True))
        few = f" with a domain chosen, of {len(exemplars)}" if len(shown) < len(exemplars) else ""
        st.caption(
            f"The {len(shown)} strongest places{few} in {atlas.tokens:,} tokens. Colour is the activation at each token against the "
            "strongest of all; hover (or focus and use the arrow keys) for the value. Underlined: the peak."
        )
        body()


def exemplar_passage(loaded: LoadedModel, one: Exemplar, acts_T: NDArray[np.float32] | None, *, running: bool) -> Passage:
    """An exemplar; until its activations are there, the peak's is known from the atlas."""
    acts: list[float | None] = [None] * len(one.ids) if acts_T is None else [float(value) for value in acts_T]
    if acts_T is None:
        acts[one.peak] = one.value
    return token_lines.passage(
        loaded, one.ids, acts, peak=one.peak, value=f"{one.value:.2f}", under=one.domain, source=_origin(one.source, one.document),
        pending="being read" if acts_T is None and running else "",
    )  # fmt: skip


def _origin(source: str, document: str) -> str:
    """The document, with its source where the name does not say it."""
    return document if document.startswith(source) else f"{source} · {document}"


def _range(found: Known, atlas: Atlas, side: NeuronSide, exemplars: tuple[Exemplar, ...]) -> None:
    def begin_range(*, again: bool = False) -> NeuronTask[tuple[reading.Passage, ...]]:
        loaded = found.loaded
        return background.ensure(
            key_of(found, side, "range"),
            "reading texts drawn by chance",
            lambda task: range_passages(loaded, atlas, side, count=LEVELS, context=CONTEXT, progress=task.progress),
            again=again,
        )

    task = begin_range()
    if not progress_row.watch(task, key="neurons.range") or not background.ended(
        task, key="neurons.range", retry=lambda: begin_range(again=True)
    ):
        return
    read = task.result()
    passages = [
        token_lines.passage(
            found.loaded, one.ids, [float(value) for value in one.acts_T], peak=one.peak, value=f"{one.value:.2f}",
            under="" if one.level is None else f"above {percent(one.level)}", source=f"{one.domain} · {_origin(one.source, one.document)}",
        )
        for one in read
    ]  # fmt: skip
    st.caption(
        "Levels evenly spaced from the highest to the lowest activation in texts drawn by chance; below each figure, the share of their "
        "tokens that are lower. Most tokens lie near zero, so most of what a neuron does is there."
    )
    scale = exemplars[0].value if exemplars else max((abs(one.value) for one in read), default=1.0)
    _passages(passages, found, side, scale, "levels")


def _passages(passages: list[Passage], found: Known, side: NeuronSide, scale: float, what: str) -> None:
    token_lines.draw(
        passages, key="neurons.passages", scale=scale, identity=f"{found.stamp[:12]} {side} {what}", title=f"Neuron {side}, {what}",
        unit="{} of its strongest in the corpus",
    )  # fmt: skip
