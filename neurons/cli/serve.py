"""Streamlit's own command, with the large libraries loading beside it: `python -m neurons.cli.serve run streamlit_app.py ...`.

Streamlit runs the app only when a browser asks for it. By then the server has been up for a second or two, in which torch and transformers
can be on their way: every second counts for who waits for the model.
"""

from __future__ import annotations

import runpy
import threading
from importlib import import_module

LIBRARIES = ("torch", "transformers", "transformers.modeling_utils", "zarr", "xarray", "altair")
"""What the app's first page needs, the slowest first. None of the app's own modules: those may be loading in the page's thread."""


def main() -> None:
    """Run Streamlit with this process's arguments until it ends."""
    threading.Thread(target=_load, name="neuronscope-libraries", daemon=True).start()
    runpy.run_module("streamlit", run_name="__main__", alter_sys=True)


def _load() -> None:
    for name in LIBRARIES:
        import_module(name)


if __name__ == "__main__":
    main()
