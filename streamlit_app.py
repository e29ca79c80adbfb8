"""The app as it is served: `neuronscope run`, or `streamlit run streamlit_app.py`. What it draws is in pages/navigation.py."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from pages.serving import base_path, guard, housekeeping, last_resort, lost

# Not the other way round: beside a folder pages/, Streamlit would list its files by their names until the navigation was first drawn.
NAVIGATION = Path(guard.__file__).parents[1] / "navigation.py"

housekeeping.end_in_time()
layers = [Middleware(layer) for layer in (base_path.BasePath, guard.Guard, lost.Lost)]
app = st.App(NAVIGATION, middleware=layers, on_script_error=last_resort.show)
