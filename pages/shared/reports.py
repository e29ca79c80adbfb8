"""A trace, or two beside each other, as one page for somebody without the app."""

from __future__ import annotations

import streamlit as st

from neurons.atlas.quantiles import known_quantiles
from neurons.tracing.report import report_html
from pages.shared import server_wide
from pages.shared.descriptions import headlines_for


def button(trace_id: str, *, key: str, against: str | None = None) -> None:
    """Download the page; it is made when the button is pressed."""
    st.download_button(
        "Report for somebody without the app",
        lambda: _page(trace_id, against),
        f"report-{trace_id}.html",
        "text/html",
        icon=":material/description:",
        key=key,
        on_click="ignore",
        help="One HTML page: tokens, the causes that were computed, active neurons, a picture, the comparison. Browsers print it to PDF.",
    )


def _page(trace_id: str, against: str | None) -> bytes:
    store = server_wide.store()
    ref = store.load(trace_id).model
    page = report_html(store, trace_id, against=against, about_neurons=headlines_for(ref), quantiles=known_quantiles(ref))
    return page.encode("utf-8")
