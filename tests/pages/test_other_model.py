"""A trace of another model than the server's: said, its model loaded beside, its prompt asked across models."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurons.checking.load import load_model
from neurons.tracing.record import run_trace
from pages.shared import server_wide
from tests.support.app_pages import SHORT, loaded, open_page, plain, saved, until
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model
from traces.schema import TraceRecord


@pytest.fixture
def foreign(app_home: Path, tmp_path: Path) -> TraceRecord:
    """A trace of another model than the server's."""
    folder = tmp_path / "other"
    tiny_torch_model("qwen2").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return run_trace(load_model(str(folder)), "hello there", sampling=SHORT, store=server_wide.store())[0]


def test_its_model_is_loaded_beside_and_goes_on_with_it(foreign: TraceRecord) -> None:
    app = open_page("trace", trace=foreign.id)
    assert "This trace was made by" in plain(app)
    assert "is off" in plain(app)
    own = loaded()
    app.button(key="trace.other.load").click().run()
    until(lambda: server_wide.model_with(foreign.model.weights_hash) is not None)
    app.run()
    assert not app.exception
    assert "loaded for it" in plain(app)
    assert loaded() is own
    app.chat_input[0].set_value("and now").run()
    until(lambda: len(server_wide.store().list("")) == 2)
    [made] = [row for row in server_wide.store().list("") if row.id != foreign.id]
    assert made.weights_hash == foreign.model.weights_hash


def test_the_model_in_use_is_asked_the_same(foreign: TraceRecord) -> None:
    app = open_page("trace", trace=foreign.id)
    app.button(key="trace.other.ask").click().run()
    until(lambda: len(server_wide.store().list("")) == 2)
    [made] = [row for row in server_wide.store().list("") if row.id != foreign.id]
    assert (made.weights_hash, made.prompt) == (loaded().ref.weights_hash, foreign.prompt)
    app = open_page("compare", a=foreign.id, b=made.id)
    assert not app.exception
    assert "Two different models, asked the same." in plain(app)
    assert "Two different prompts" not in plain(app)


def test_a_trace_of_the_model_in_use_has_no_such_row(app_home: Path) -> None:
    app = open_page("trace", trace=saved("hello")[0].id)
    assert "This trace was made by" not in plain(app)
