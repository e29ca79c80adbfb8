"""What a person sees when a page meets an error that nobody foresaw: one sentence with the name of the report, and what to do."""

from __future__ import annotations

import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.storage.error_reports import unforeseen


def show(error: Exception) -> bool:
    """Show `error` where the page broke off, in place of Streamlit's own box. The text is not interpreted: it may be anybody's."""
    if isinstance(error, NeuronscopeError):
        said, icon = str(error), ":material/error:"
    else:
        said, icon = unforeseen(error, "drawing this page"), ":material/bug_report:"
    with st.container(border=True):
        st.error("This page could not be drawn to its end. The other pages go on; so does this one after the next click.", icon=icon)
        st.text(said)
    return True
