"""A model that cannot be loaded: every page is drawn, the Models page says which file is wrong, and another one is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared import server_wide
from tests.support.app_pages import open_page, plain, until
from tests.support.page_list import page_list
from tests.support.trace_runs import make_arrays, make_record
from traces.store import TraceStore


@pytest.fixture
def failed(home: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server whose model's weights are a pickle that would run code."""
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.setitem(TraceStore.__init__.__kwdefaults__, "examples", None)
    monkeypatch.setenv(server_wide.MODEL_VARIABLE, str(folder))
    record = make_record()
    server_wide.store().save(record, make_arrays(record))
    server_wide.model()
    until(lambda: not server_wide.server().loading.running)  # type: ignore[union-attr]
    return folder


def drawn(name: str) -> AppTest:
    app = open_page(name)
    assert not app.exception, (name, app.exception)
    return app


def test_every_page_goes_on_and_another_model_can_be_loaded(failed: Path, tiny_folder: Path) -> None:
    for _ in range(2):  # the error must not be raised anew at every draw
        for name in page_list():
            drawn(name)
    said = plain(drawn("models"))
    assert "pytorch_model.bin" in said
    assert "load another one" in said
    app = drawn("models")
    app.text_input(key="models.spec").set_value(str(tiny_folder)).run()
    app.button(key="models.load").click().run()
    until(lambda: server_wide.model() is not None)
    drawn("models")
    drawn("trace")
