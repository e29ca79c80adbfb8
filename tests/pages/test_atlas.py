"""The Atlas page on a tiny model: what is listed and drawn is what the atlas holds; build, describe, score, export, import, remove."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from neurons.atlas import own_corpus, store
from neurons.atlas.exchange import export_zip
from neurons.atlas.removal import KEPT, remove_atlas, restore_atlas
from neurons.atlas.store import atlas_folder, open_atlas, open_folder
from neurons.concepts.map2d import Map2D
from neurons.concepts.sets import Concept, SavedConcepts
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.types import NeuronSide
from neurons.describing import atlas_jobs
from neurons.describing.rescore import summarise
from pages.atlas import atlas_list, build_form, exchange_form, overview, running
from pages.shared import job_progress, server_wide
from tests.support.app_pages import given, loaded, open_page, plain, saved, texts, until
from tests.support.described_pages import installed
from tests.support.endpoint_server import GOOD, Reply, chat_reply, serving

pytestmark = pytest.mark.usefixtures("app_home")
TEXT = "It rained all day, and the river rose slowly over the fields. The court heard the case on Monday; the judge said little. " * 60


@pytest.fixture(autouse=True)
def _nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a checkout without the default model's atlas."""
    for module in (store, atlas_list, build_form, own_corpus):
        monkeypatch.setattr(module, "SHIPPED", tmp_path / "shipped")


class Upload(io.BytesIO):
    """An uploaded file, as far as the page looks at it."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name, self.file_id = name, name


def finished(app: AppTest, kind: str) -> Any:
    """The newest job of a kind, once it has ended."""
    job = running.jobs_of(loaded().ref, kind)[0]
    ended = job_progress.runner().wait(job.id, timeout=500)
    assert ended.state == "done", ended.message
    return ended


def test_without_any_atlas_it_says_what_to_do() -> None:
    app = open_page("atlas")
    assert not app.exception
    assert "There is no atlas" in texts(app)
    assert app.button(key="atlas.build.go").disabled
    assert [tab.label for tab in app.tabs] == ["Build", "Describe", "Import and export"]


@pytest.mark.usefixtures("described")
def test_the_overview_shows_what_the_atlas_holds() -> None:
    app = open_page("atlas")
    assert not app.exception
    atlas = installed()
    listed = app.dataframe[0].value.iloc[0]
    assert (listed["tokens"], listed["documents"], listed["described"]) == (atlas.tokens, atlas.info.documents, 288)
    assert listed["use"] == "in use"
    assert listed["share"] == 1.0
    assert listed["size"] * 1e6 == sum(path.stat().st_size for path in atlas.folder.iterdir())
    assert app.query_params["atlas"] == loaded().ref.weights_hash[:12]
    sources = next(frame.value for frame in app.dataframe if "licence" in frame.value)
    assert set(sources["licence"]) == {"public domain"}
    assert sources["share"].sum() == pytest.approx(1, abs=1e-3)
    layers = next(frame.value for frame in app.dataframe if "ceiling" in frame.value)
    table = atlas.descriptions()
    assert table is not None
    truth = summarise(table)
    assert list(layers["score"]) == [row.score for row in truth[:-1]]
    assert list(layers["unclear_share"]) == [row.unclear / row.sides for row in truth[:-1]]
    assert f"{atlas.tokens:,} tokens of {atlas.info.documents:,} documents" in plain(app)


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


@pytest.mark.usefixtures("described")
def test_the_map_has_every_described_side() -> None:
    atlas = installed()
    drawn, table = Map2D.load(atlas.embeddings()), atlas.descriptions()
    assert drawn is not None
    assert table is not None
    app = open_page("atlas", tab="map")
    assert not app.exception
    assert "All 288 described neuron sides" in texts(app)
    data = given(app, "atlas.map")
    lines = [line.split("\t") for line in unpacked(data["lines"]).decode().split("\n")]
    names = table["layer"].astype(str) + ":" + table["index"].astype(str) + table["polarity"]
    assert [line[0] for line in lines] == names.tolist()
    assert [line[2] for line in lines] == table["kind"].tolist()
    places = np.frombuffer(unpacked(data["places"]), "<u2").reshape(-1, 2) / 65535 * 2 - 1
    assert places[drawn.row_M] == pytest.approx(drawn.xy_M2, abs=1e-4)
    assert list(unpacked(data["layers"])) == table["layer"].tolist()
    kinds = table["kind"].value_counts().index
    shades = [data["shades"][kind] for kind in unpacked(data["kinds"])]
    coloured = dict(data["legend"])
    assert shades == [coloured.get(kind, coloured["other"]) for kind in table["kind"]]
    assert list(coloured)[:-1] == list(kinds[:3])
    assert data["lit"] is None


@pytest.mark.usefixtures("described")
def test_a_search_is_lit_on_the_map_and_listed() -> None:
    table = installed().descriptions()
    assert table is not None
    app = open_page("atlas", tab="map")
    word = str(table["headline"].iloc[0]).split()[0].strip('",')
    app.segmented_control(key="atlas.map.way").set_value("words")
    app.text_input(key="atlas.map.words").set_value(word).run()
    assert not app.exception
    lit = given(app, "atlas.map")["lit"]
    holds = table["headline"].fillna("").str.casefold().str.contains(word.casefold(), regex=False)
    assert lit == [row for row, found in enumerate(holds) if found]
    assert any(f"Lit: {len(lit)} neuron sides" in expander.label for expander in app.expander)
    app.segmented_control(key="atlas.map.by").set_value("layer").run()
    data = given(app, "atlas.map")
    assert len(set(data["shades"])) == 3
    assert data["lit"] == lit
    app.text_input(key="atlas.map.words").set_value("no headline says this").run()
    assert given(app, "atlas.map")["lit"] == []
    assert "Nothing is lit" in texts(app)


def test_a_plain_atlas_asks_to_be_described(plain_folder: Path) -> None:
    shutil.copytree(plain_folder, atlas_folder(loaded().ref))
    app = open_page("atlas")
    assert not app.exception
    assert "Nothing is described yet" in texts(app)
    app = open_page("atlas", tab="describe")
    assert "Describe the atlas without a language model first" in texts(app)


@pytest.mark.usefixtures("described")
def test_removing_can_be_undone() -> None:
    app = open_page("atlas")
    app.button(key="atlas.remove").click().run()
    assert not app.exception
    assert open_atlas(loaded().ref) is None
    assert "There is no atlas" in texts(app)
    app.button(key="atlas.restore").click().run()
    assert not app.exception
    assert installed().info.described == 288


@pytest.mark.usefixtures("described")
def test_removed_atlases_are_kept_for_a_while(described_folder: Path) -> None:
    ref = loaded().ref
    tokens = [remove_atlas(ref)]
    with pytest.raises(NotFound):
        remove_atlas(ref)
    for _ in range(KEPT):
        shutil.copytree(described_folder, atlas_folder(ref))
        tokens.append(remove_atlas(ref))
    with pytest.raises(NotFound):
        restore_atlas(tokens[0])
    with pytest.raises(NotFound):
        restore_atlas("../../etc")
    assert restore_atlas(tokens[-1]) == atlas_folder(ref)
    with pytest.raises(InvalidInput):
        restore_atlas(tokens[-2])


@pytest.mark.usefixtures("described")
def test_a_damaged_atlas_is_named_and_can_be_taken_away() -> None:
    manifest = atlas_folder(loaded().ref) / "manifest.json"
    manifest.write_text("{", encoding="utf-8")
    app = open_page("concepts")
    assert not app.exception
    app = open_page("trace")
    assert not app.exception
    app = open_page("atlas")
    assert not app.exception
    assert "cannot be read" in plain(app)
    app.button(key=f"atlas.damaged.{manifest.parent.name}").click().run()
    assert not app.exception
    assert not manifest.exists()


def test_files_are_looked_into_and_bad_ones_named(tmp_path: Path) -> None:
    good, empty, binary = tmp_path / "good.txt", tmp_path / "empty.txt", tmp_path / "binary.txt"
    good.write_text(TEXT, encoding="utf-8")
    empty.write_bytes(b"")
    binary.write_bytes(b"\0\1\2" * 100)
    assert build_form.look_into(good, None)[0] > 0
    assert [one.reason for one in build_form.look_into(empty, None)[1]] == ["the file is empty"]
    assert "binary" in build_form.look_into(binary, None)[1][0].reason
    kept = build_form._stored(Upload("../../ev il.txt", b"text"))
    assert kept.name == "ev_il.txt"
    assert kept.read_bytes() == b"text"


def test_build_describe_and_score_from_the_page(tmp_path: Path) -> None:
    texts_folder = tmp_path / "texts"
    texts_folder.mkdir()
    for n in range(12):
        (texts_folder / f"{n}.txt").write_text(f"Piece {n}. {TEXT[n * 17 :]}"[:2500], encoding="utf-8")
    (texts_folder / "broken.txt").write_bytes("Příliš žluťoučký kůň úpěl ďábelské ódy. ".encode("cp1250") * 20)
    app = open_page("atlas", tab="build")
    app.text_area(key="atlas.build.named").set_value(str(texts_folder))
    app.text_input(key="atlas.build.licence").set_value("mine")
    app.toggle(key="atlas.build.probe").set_value(False)
    app.number_input(key="atlas.build.extremes").set_value(16).run()
    app.button(key="atlas.build.go").click().run()
    assert not app.exception
    job = finished(app, atlas_jobs.BUILD)
    atlas = installed()
    assert atlas.tokens == job.result["tokens"] > 0
    assert {source["licence"] for source in atlas.info.sources} == {"mine"}
    errors = job_progress.runner().errors(job.id)
    assert "broken.txt" in str(errors[0]["row"])
    assert "is not UTF-8" in str(errors[0]["error"])
    assert atlas_jobs.collected(loaded().ref) == atlas.tokens
    app = open_page("atlas", tab="build")
    assert "A collection of this model is kept" in texts(app)

    params = atlas_jobs.DescribeParameters(tokens=6_000, held=1_000)
    running.start(atlas_jobs.DESCRIBE, params, title="describing")
    with pytest.raises(InvalidInput):
        running.start(atlas_jobs.SCORE, params, title="scoring")
    finished(app, atlas_jobs.DESCRIBE)
    assert installed().info.described == 288
    assert "vector" in installed().embeddings()
    app = open_page("atlas", tab="describe")
    assert not app.exception
    app.number_input(key="atlas.score.tokens").set_value(1_000)
    app.button(key="atlas.score.go").click().run()
    assert not app.exception
    finished(app, atlas_jobs.SCORE)
    summary = overview.summary(installed())
    assert summary is not None
    assert summary[1]["sides"].sum() == 288


@pytest.mark.usefixtures("described")
def test_a_bad_endpoint_is_refused_where_it_was_typed() -> None:
    app = open_page("atlas", tab="describe")
    app.text_input(key="atlas.ask.url").set_value("nowhere").run()
    app.button(key="atlas.ask.check").click().run()
    assert not app.exception
    assert "is no address" in plain(app)
    app.text_input(key="atlas.ask.url").set_value("http://127.0.0.1:9/v1")
    app.text_input(key="atlas.ask.model").set_value("m").run()
    app.button(key="atlas.ask.check").click().run()
    until(lambda: not any(job.running for job in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    assert "the endpoint http://127.0.0.1:9/v1 is down" in plain(app)
    assert atlas_jobs.sides_to_ask(installed(), "0:1, 2:3-", 5) == (NeuronSide(0, 1), NeuronSide(2, 3, "-"))
    assert len(atlas_jobs.sides_to_ask(installed(), "", 5)) <= 5


@pytest.mark.usefixtures("described")
def test_a_language_model_is_asked_to_its_end() -> None:
    """Half of the answers are null: named and counted, and the descriptions stay as they were there."""
    before = installed().descriptions()
    assert before is not None
    app = open_page("atlas", tab="describe")
    with serving(lambda request, n: chat_reply(None if n % 2 else GOOD)) as server:
        app.text_input(key="atlas.ask.url").set_value(server.url)
        app.text_input(key="atlas.ask.model").set_value("m").run()
        app.radio(key="atlas.ask.what").set_value("detail")
        app.number_input(key="atlas.ask.concurrency").set_value(1)
        app.text_input(key="atlas.ask.neurons").set_value("0:1, 0:2, 1:3-, 2:4+").run()
        app.button(key="atlas.ask.go").click().run()
        assert not app.exception
        job = finished(app, atlas_jobs.ASK)
    assert job.result["asked"] == 4
    assert job.result["failed"] == 2
    assert job.result["replaced"] + job.result["kept"] == 2
    assert any("null" in str(row["error"]) for row in job_progress.runner().rows(job.id))
    after = installed().descriptions()
    assert after is not None
    assert len(after) == len(before)
    assert (after["source"].str.startswith("endpoint")).sum() == job.result["replaced"]
    app = open_page("atlas", tab="describe")
    assert not app.exception
    assert "Of 4 neurons" in plain(app)
    assert "2 got no usable answer" in plain(app)


@pytest.mark.usefixtures("described")
def test_headlines_by_a_language_model() -> None:
    """A wrong key for one of two neurons is said as that; a judge that says yes to everything finds nothing better."""
    written = iter(['{"headline": ["sport"]}', '{"headlines": ["sport and its teams"]}'])

    def answer(request: dict[str, Any], n: int) -> Reply:
        prompt = str(request["messages"][0]["content"])
        if prompt.startswith("You describe"):
            return chat_reply(next(written))
        return chat_reply(json.dumps([1] * len(re.findall(r"^\d+\. ", prompt, re.MULTILINE))) if "Below are" in prompt else "yes")

    app = open_page("atlas", tab="describe")
    with serving(answer) as server:
        app.text_input(key="atlas.ask.url").set_value(server.url)
        app.text_input(key="atlas.ask.model").set_value("m").run()
        app.number_input(key="atlas.ask.concurrency").set_value(1)
        app.text_input(key="atlas.ask.neurons").set_value("2:1, 2:2").run()
        app.button(key="atlas.ask.go").click().run()
        assert not app.exception
        job = finished(app, atlas_jobs.ASK)
    assert (job.result["asked"], job.result["replaced"], job.result["kept"], job.result["failed"]) == (2, 0, 1, 1)
    assert [row["error"] for row in job_progress.runner().rows(job.id)] == [
        'wrong key: "headlines" was asked for, the answer has "headline"'
    ]
    app = open_page("atlas", tab="describe")
    assert not app.exception
    assert "1 kept the one they had (it was judged as good)" in plain(app)


@pytest.mark.usefixtures("described")
@pytest.mark.parametrize(("what", "suffix", "rows"), [("neurons", "parquet", 288), ("explanations", "jsonl", 288), ("atlas", "zip", None)])
def test_export(what: str, suffix: str, rows: int | None) -> None:
    app = open_page("atlas", tab="import")
    app.radio(key="atlas.export.what").set_value(what).run()
    app.button(key="atlas.export.go").click().run()
    assert not app.exception
    job = finished(app, atlas_jobs.EXPORT)
    assert job.result["rows"] == rows
    path = atlas_jobs.file_of(job.outcome(atlas_jobs.Exported))
    assert path is not None
    assert path.name == f"{what}.{suffix}"
    if what == "neurons":
        assert len(pd.read_parquet(path)) == 288
    app = open_page("atlas", tab="import")
    assert not app.exception


def test_an_atlas_of_descriptions_alone_is_shown_everywhere() -> None:
    rows = [{"layer": n % 3, "neuron": n, "polarity": "+", "description": f"word {n}", "score": 0.1 * (n % 5)} for n in range(48)]
    data = "\n".join(json.dumps(row) for row in rows).encode()
    assert exchange_form.take(loaded(), "table.jsonl", Upload("table.jsonl", data))["said"] == "48 descriptions taken in"
    assert open_atlas(loaded().ref) is not None
    concept = Concept.of([NeuronSide(0, 3), NeuronSide(1, 2, "-")], ref=loaded().ref)
    SavedConcepts().save("a", concept)
    for app in (open_page("atlas"), open_page("atlas", tab="map"), open_page("atlas", tab="describe"), open_page("concepts", concept="a")):
        assert not app.exception
    table = next(frame.value for frame in app.dataframe if "link" in frame.value)
    assert list(table["description"]) == ["word 3", ""]
    record = saved("hello")[0]
    app = open_page("trace", trace=record.id)
    app.session_state["trace.tab"] = "Clusters"
    app.run()
    assert not app.exception
    assert "holds descriptions only" in plain(app) or "no embeddings" in plain(app)


@pytest.mark.usefixtures("described")
def test_import_of_descriptions_and_of_a_whole_atlas(tmp_path: Path) -> None:
    rows = [
        {"layer": 0, "neuron": 1, "polarity": "+", "description": "rivers", "score": 0.5},
        {"layer": 99, "neuron": 1, "polarity": "+", "description": "nowhere", "score": 0.5},
    ]
    data = "\n".join(json.dumps(row) for row in rows).encode()
    became = exchange_form.take(loaded(), "table.jsonl", Upload("table.jsonl", data))
    assert became["said"] == "1 descriptions taken in, 1 rows skipped"
    assert "which" in became["skipped"][0][1]
    table = installed().descriptions()
    assert table is not None
    assert table[(table["layer"] == 0) & (table["index"] == 1) & (table["polarity"] == "+")]["description"].iloc[0] == "rivers"
    app = open_page("atlas")
    assert not app.exception

    whole = export_zip(installed(), tmp_path / "atlas.zip").read_bytes()
    refused = exchange_form.take(loaded(), "atlas.zip", Upload("atlas.zip", whole))
    assert refused["failed"]
    assert "already" in refused["said"]
    remove_atlas(loaded().ref)
    assert not exchange_form.take(loaded(), "atlas.zip", Upload("atlas.zip", whole))["failed"]
    assert open_folder(atlas_folder(loaded().ref)).info.described == 288
    assert exchange_form.take(loaded(), "junk.zip", Upload("junk.zip", b"no zip"))["failed"]
    assert exchange_form.take(loaded(), "junk.csv", Upload("junk.csv", b"\xff\xfe"))["failed"]
