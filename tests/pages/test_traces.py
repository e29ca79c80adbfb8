"""The Traces and Compare pages: search, edit, pin, delete and undo, trash, import errors, replay, comparison."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.descriptions.edits import Edits
from neurons.storage.manifest import MANIFEST, entry_of, manifest_bytes, read_manifest
from neurons.tracing.record import run_pair
from pages.compare import word_changes
from pages.saved import trace_table
from pages.saved.trace_actions import _import
from pages.shared import server_wide
from tests.support.app_pages import loaded, open_page, saved, select, texts, until
from traces.compare import word_diff
from traces.exchange import export_zip

pytestmark = pytest.mark.usefixtures("app_home")


def ids_shown() -> list[str]:
    return [row.id for row in server_wide.store().list("")]


def test_an_empty_store_says_what_to_do_next() -> None:
    app = open_page("traces")
    assert not app.exception
    assert "There are no traces yet" in texts(app)


def test_search_finds_and_says_when_nothing_fits() -> None:
    saved("the sea is deep", "mountains are high")
    app = open_page("traces")
    assert not app.exception
    assert list(app.dataframe[0].value["prompt"]) == ["mountains are high", "the sea is deep"]
    app.text_input(key="traces.words").set_value("deep sea").run()
    assert list(app.dataframe[0].value["prompt"]) == ["the sea is deep"]
    app.text_input(key="traces.words").set_value("nothing like it").run()
    assert "No trace fits these filters" in texts(app)


def test_a_date_that_an_older_version_let_in_does_not_end_the_page() -> None:
    good, old = (record.id for record in saved("today", "some day"))
    folder = server_wide.store().root / old
    record = folder / "trace.json"
    record.write_text(re.sub(r'"created": "[^"]*"', '"created": "2026-11-24"', record.read_text()))
    (folder / MANIFEST).write_bytes(manifest_bytes({**read_manifest(folder), "trace.json": entry_of(record)}))
    server_wide.store().rebuild()
    app = open_page("traces")
    assert not app.exception
    shown = app.dataframe[0].value
    assert set(shown["prompt"]) == {"today", "some day"}
    assert shown["created"].notna().all()
    assert {good, old} == set(ids_shown())


def test_buttons_that_do_not_fit_the_selection_are_off() -> None:
    saved("one", "two")
    app = open_page("traces")
    assert app.button(key="traces.open").disabled
    select(app, "traces.table", ids_shown(), 0)
    assert not app.button(key="traces.open").disabled
    assert app.button(key="traces.compare").disabled
    select(app, "traces.table", ids_shown(), 0, 1)
    assert not app.button(key="traces.compare").disabled


def test_delete_undo_and_trash() -> None:
    kept, doomed = saved("stays", "goes")
    app = select(open_page("traces"), "traces.table", ids_shown(), 0)
    app.button(key="traces.delete").click().run()
    assert ids_shown() == [kept.id]
    app.button(key="traces.undo").click().run()
    assert set(ids_shown()) == {kept.id, doomed.id}
    server_wide.store().delete(doomed.id)
    app.toggle(key="traces.trash").set_value(True).run()
    assert not app.exception
    assert list(app.dataframe[0].value["prompt"]) == ["goes"]
    select(app, "traces.table", [doomed.id], 0).button(key="traces.restore").click().run()
    assert set(ids_shown()) == {kept.id, doomed.id}


def test_pin_and_edit() -> None:
    (trace,) = saved("name me")
    app = select(open_page("traces"), "traces.table", [trace.id], 0)
    app.button(key="traces.pin").click().run()
    assert server_wide.store().load(trace.id).pinned
    app.button(key="traces.edit").click().run()
    app.text_input(key=f"traces.edit.name.{trace.id}").set_value("a *name*")
    app.text_area(key=f"traces.edit.note.{trace.id}").set_value("<b>note</b>")
    app.button(key="traces.edit").click()  # AppTest runs the whole page again, which would close the dialog
    app.button(key="traces.edit.save").click().run()
    record = server_wide.store().load(trace.id)
    assert (record.name, record.note) == ("a *name*", "<b>note</b>")


def test_replay_says_that_the_ids_are_the_same() -> None:
    (trace,) = saved("again")
    app = select(open_page("traces"), "traces.table", [trace.id], 0)
    app.button(key="traces.again").click().run()
    job = server_wide.server().tasks()[-1]
    until(lambda: not job.running)
    app.run()
    assert "same token ids" in texts(app)
    assert "bit for bit" in texts(app)


def test_import_shows_what_came_and_what_is_wrong() -> None:
    (trace,) = saved("pack me")
    good = io.BytesIO()
    export_zip(server_wide.store(), [trace.id], good)
    good.seek(0)
    told = "".join(text for text, _ in _import("good.zip", good))
    assert "1 imported" in told
    assert "new id" in told
    assert len(ids_shown()) == 2
    bad = io.BytesIO()
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("evil.txt", "x")
    bad.seek(0)
    assert "export.json" in "".join(text for text, _ in _import("bad.zip", bad))
    assert "not a readable zip" in "".join(text for text, _ in _import("no.zip", io.BytesIO(b"nothing")))


def test_link_column_opens_the_trace(home: Path) -> None:
    (trace,) = saved("link")
    frame = trace_table.frame_of(server_wide.store().list(""))
    assert list(frame["link"]) == [f"/?trace={trace.id}"]


def test_compare_two_traces_by_their_address() -> None:
    steer = Steer((NeuronSide(1, 3), NeuronSide(2, 7)), "scale", 30.0, name="loud")
    pair = run_pair(loaded(), "compare me", [steer], store=server_wide.store())
    app = open_page("compare", a=pair.baseline.id, b=pair.steered.id)
    assert not app.exception
    assert "Unsteered" in texts(app)
    assert app.selectbox(key="compare.b").value == pair.steered.id
    assert "the whole vocabulary." in texts(app)
    assert "A lower bound" not in texts(app)
    app.button(key="compare.swap").click().run()
    assert app.selectbox(key="compare.a").value == pair.steered.id
    assert not app.exception
    (plain,), (loud,) = saved("compare me"), saved("compare me", steers=[steer])
    app = open_page("compare", a=plain.id, b=loud.id)
    assert "A lower bound, from the ten likeliest" in texts(app)
    app.button(key="compare.exact").click().run()
    assert "Over the whole vocabulary." in texts(app)
    assert not app.exception


def test_compared_neurons_stand_beside_their_descriptions() -> None:
    pair = run_pair(loaded(), "compare me", [Steer((NeuronSide(1, 3),), "scale", 30.0)], store=server_wide.store())
    edits = Edits.of(loaded().ref)
    for index in range(loaded().n_neurons):
        for layer in range(loaded().n_layers):
            edits.describe(NeuronSide(layer, index, "+"), f"fires on {layer}:{index}")
            edits.describe(NeuronSide(layer, index, "-"), f"dips on {layer}:{index}")
    app = open_page("compare", a=pair.baseline.id, b=pair.steered.id)
    shown = next(table.value for table in app.dataframe if "description" in table.value)
    words = np.where(shown["first"] >= 0, "fires on ", "dips on ") + shown["neuron"]
    assert len(shown)
    assert list(shown["description"]) == list(words)


def test_compare_suggests_the_newest_pair_and_survives_a_bad_address() -> None:
    assert "not two traces" in texts(open_page("compare"))
    saved("one", "two")
    assert "Choose two traces" in texts(open_page("compare"))
    app = open_page("compare", a="feedfeedfeed", b=ids_shown()[0])
    assert "no trace" in texts(app)
    assert not app.exception


def test_marks_fall_on_the_tokens_of_words_that_differ() -> None:
    a, b = saved("x", "y")
    words = word_diff(a.answer, b.answer)
    marks_a, marks_b = word_changes.marked_tokens(a, b, words)
    assert len(marks_a) == len(a.token_ids)
    assert not any(marks_a[: len(a.prompt_ids)])
    changed = "".join(op.a for op in words if op.tag != "equal")
    assert all(a.pieces[i] in changed for i, marked in enumerate(marks_a) if marked)
    assert word_changes.marked_tokens(a, a, word_diff(a.answer, a.answer)) == ([False] * len(marks_a),) * 2
    assert any(marks_b) == any(op.b for op in words if op.tag != "equal")


def test_a_comparison_is_offered_as_a_figure_and_as_a_report() -> None:
    first, second = saved("hello there", "good morning")
    app = open_page("compare", a=first.id, b=second.id)
    assert not app.exception
    keys = [element.proto.id for element in app.get("download_button")]
    for key in ("compare.report", "compare.both.figure.svg"):
        assert any(name.endswith(key) for name in keys), key
