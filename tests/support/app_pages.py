"""Pages run by Streamlit's AppTest against a home of their own and a tiny random model that loads in a moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from neurons.core.steers import Steer
from neurons.core.types import Sampling
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import RunOptions, run_trace
from pages.shared import server_wide
from pages.shared.tables import table_key
from tests.support.page_list import page_list
from traces.schema import TraceRecord
from traces.store import TraceStore

PATIENCE = 120
SHORT = Sampling(max_new_tokens=6)


@pytest.fixture
def app_home(home: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, without the example traces, whose server has the tiny model loaded."""
    monkeypatch.setitem(TraceStore.__init__.__kwdefaults__, "examples", None)
    monkeypatch.setenv(server_wide.MODEL_VARIABLE, str(tiny_folder))
    until(lambda: server_wide.model() is not None)
    return home


def until(done: Callable[[], bool]) -> None:
    """Wait until `done`, at most two minutes."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not end in time"
        time.sleep(0.05)


def loaded() -> LoadedModel:
    """The server's model."""
    found = server_wide.model()
    assert found is not None
    return found


def saved(*prompts: str, steers: Sequence[Steer] = (), name: str = "", set_name: str | None = None) -> list[TraceRecord]:
    """One short trace for each prompt, in the server's store."""
    options, store = RunOptions(name, set_name=set_name), server_wide.store()
    return [run_trace(loaded(), prompt, sampling=SHORT, steers=steers, store=store, options=options)[0] for prompt in prompts]


def open_page(name: str, *, trace_tab: str = "Neurons", **query: str) -> AppTest:
    """Run the page at the address `name` as the navigation would, the Trace page with `trace_tab` open."""
    app = AppTest.from_string(f"from pages.{page_list()[name][2]} import page\npage()", default_timeout=PATIENCE)
    if name == "trace":
        app.session_state["trace.tab"] = trace_tab
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def given(app: AppTest, key: str) -> Any:
    """What a component of ours was given to draw."""
    found = [element for element in app.get("bidi_component") if element.proto.id.endswith(f"-{key}")]
    assert len(found) == 1, [element.proto.id for element in app.get("bidi_component")]
    return json.loads(found[0].proto.json)


def select(app: AppTest, key: str, identity: Sequence[object], *rows: int) -> AppTest:
    """Tick rows of a table drawn by `choose_rows`."""
    app.session_state[table_key(key, identity)] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return app.run()


def texts(app: AppTest) -> str:
    """All plain, coloured and caption text on the page, in one string."""
    kinds = (app.markdown, app.caption, app.text, app.error, app.warning, app.success, app.info)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def plain_parts(app: AppTest) -> list[list[list[str]]]:
    """Of each drawing of the plain-text component, its parts: text and colour."""

    def walk(block: Any) -> list[list[list[str]]]:
        found = []
        for child in block.children.values():
            if hasattr(child, "children"):
                found += walk(child)
            elif getattr(child.proto, "component_name", "") == "neuronscope_plain":
                found.append(json.loads(child.proto.json)["parts"])
        return found

    return walk(app.main)


def plain(app: AppTest) -> str:
    """Texts as a person reads them, those of the plain-text component included."""
    return texts(app).replace("\\", "") + "\n" + "".join(part[0] for parts in plain_parts(app) for part in parts)
