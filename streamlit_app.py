"""The app as it is served: `neuronscope run`, or `streamlit run streamlit_app.py`. What it draws is in pages/navigation.py."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from pages.serving import guard

# Not the other way round: beside a folder pages/, Streamlit would list its files by their names until the navigation was first drawn.
NAVIGATION = Path(guard.__file__).parents[1] / "navigation.py"

app = st.App(NAVIGATION, middleware=[Middleware(guard.Guard)])
