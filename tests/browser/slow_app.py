"""A page whose click computes for minutes in a thread of the server, and one that waits in the page's own thread."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st
import torch
from streamlit import runtime

from neurons.core.tasks import Task
from pages.serving import housekeeping
from pages.shared import server_wide

housekeeping.start()


def compute() -> None:
    begun = time.monotonic()
    matrix = torch.ones(700, 700)
    while time.monotonic() - begun < 200:
        matrix = (matrix @ matrix).clamp(-1, 1)


if st.button("Compute"):
    server_wide.server().start(Task[None](what="computing"), compute)
    st.write("computing")
if st.button("Compute here"):
    st.write("computing here")
    compute()
manager: Any = runtime.get_instance()._uploaded_file_mgr
held = sum(len(file.data) for files in manager.file_storage.values() for file in files.values())
st.write(f"the server holds {held} bytes")
if file := st.file_uploader("File"):
    st.write(f"{file.size} bytes")
