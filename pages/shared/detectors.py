"""The detectors of named concepts that a page asks for: opened once for everybody, and anew when they are made anew. Read only."""

from __future__ import annotations

import streamlit as st

from neurons.core.types import ModelRef
from neurons.detectors.store import Detectors, detectors_stamp, need_detectors, open_detectors


def detectors_of(ref: ModelRef) -> Detectors | None:
    """Those for a model, None where there are none. Raises `StoreError` for damaged ones."""
    return _opened(ref.weights_hash, detectors_stamp(ref), ref)


def needed(ref: ModelRef) -> Detectors:
    """Those for a model. Raises `NotFound` with what to do where there are none."""
    found = detectors_of(ref)
    return need_detectors(ref) if found is None else found


@st.cache_resource(show_spinner=False, max_entries=2)
def _opened(weights_hash: str, stamp: str, _ref: ModelRef) -> Detectors | None:
    return open_detectors(_ref)
