"""Concept search, contrast by examples, saved concepts, steers from words, neighbours, the map, and their commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neurons.atlas.store import Atlas, atlas_folder, open_folder
from neurons.cli.main import app
from neurons.concepts.active import active_sides, attributed_sides
from neurons.concepts.contrast import NEUTRAL, auroc, contrast, effect_size, text_strengths
from neurons.concepts.embed import embed_query, embedder
from neurons.concepts.map2d import Map2D, draw_map, lay_out, place_all
from neurons.concepts.map_labels import label_map, sides_by_name
from neurons.concepts.neighbours import by_description, by_meaning, by_places, by_weights
from neurons.concepts.search import Filters, SearchIndex, open_search
from neurons.concepts.sets import Concept, SavedConcepts, read_concept
from neurons.concepts.space import ConceptSpace, part_levels
from neurons.concepts.steers import concept_steer, default_size, split_strength
from neurons.core.errors import InvalidFile, InvalidInput, NotFound
from neurons.core.types import AttributionRow, NeuronSide
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.descriptions.edits import Edits
from neurons.descriptions.kinds import UNCLEAR
from neurons.models.loaded import LoadedModel
from tests.support.descriptions import DESCRIBE, letter_pairs, tiny_atlas
from tests.support.tiny_models import tiny_model

S = NeuronSide.parse


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    """A tiny model and the folder of its described atlas."""
    folder = tmp_path_factory.mktemp("concepts")
    loaded, atlas = tiny_atlas(folder)
    return loaded, describe_atlas(loaded, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=folder / "work").folder


@pytest.fixture
def ready(described: tuple[LoadedModel, Path], home: Path) -> tuple[LoadedModel, Atlas]:
    """The same, installed in this test's home."""
    loaded, folder = described
    shutil.copytree(folder, atlas_folder(loaded.ref))
    return loaded, open_folder(atlas_folder(loaded.ref))


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries embedded the way the tiny atlas was."""
    monkeypatch.setattr("neurons.concepts.search.embed_query", lambda text: letter_pairs([text])[0])


# -- the space ----------------------------------------------------------------------------------------------------------------


class _Peaks:
    """Sides whose log strength is a known linear function of the chunks' embeddings."""

    def __init__(self, chunks: np.ndarray) -> None:
        self.n_layers = 1
        self.chunks = chunks

    def layer(self, layer: int) -> np.ndarray:
        return np.expm1(np.maximum(np.stack([self.chunks[:, 0], self.chunks[:, 1], np.full(len(self.chunks), 2.0)], axis=1) + 1, 0)).astype(
            np.float32
        )


def test_a_reading_is_the_correlation_with_the_direction_of_a_text() -> None:
    rng = np.random.default_rng(0)
    chunks = (rng.normal(size=(3_000, 20)) * 0.2).astype(np.float32)
    space = ConceptSpace.fit(_Peaks(chunks), chunks, lambda texts: np.eye(20, dtype=np.float32)[: len(texts)], ['"a"', "unclear", "commas"])
    along = np.eye(20, dtype=np.float32)
    first, second, dead = space.reading(chunks.mean(0) + along[0])
    assert first > 0.45
    assert abs(second) < 0.1
    assert dead == 0
    assert space.reading(chunks.mean(0) - along[0])[0] < -0.45
    again = ConceptSpace.load(space.arrays())
    assert np.allclose(again.reading(along[3]), space.reading(along[3]), atol=1e-3)
    assert again.parts == ('"a"', "commas")
    assert np.allclose(again.likeness(along[0]), space.likeness(along[0]), atol=1e-2)
    assert space.likeness(along[0]).argmax() == 0
    assert space.likeness(along[1])[1] == 0


def test_only_what_speaks_for_a_part_counts_as_said() -> None:
    parts, levels = part_levels(['strongly "a"; "b"; not "c"', "free text", "unclear"])
    assert parts == ('"a"', '"b"', "free text")  # other words than ours are one part as a whole
    assert levels.toarray().tolist() == pytest.approx(np.array([[0.75, 0.25, 0], [0, 0, 1], [0, 0, 0]]))


def test_a_space_needs_text() -> None:
    with pytest.raises(InvalidInput, match="too few"):
        ConceptSpace.fit(_Peaks(np.zeros((4, 3), np.float32)), np.zeros((4, 3), np.float32), letter_pairs, ["a"] * 3)


# -- search -------------------------------------------------------------------------------------------------------------------


def test_search_ranks_filters_and_shows_what_it_found(ready: tuple[LoadedModel, Atlas], letters: None) -> None:
    index = open_search(ready[0].ref)
    hits = index.search("the river and the town", top=20)
    assert len(hits) == 20
    assert [h.similarity for h in hits] == sorted((h.similarity for h in hits), reverse=True)
    assert all(hit.reading > 0 for hit in hits)
    narrowed = index.search(
        "the river and the town", top=500, filters=Filters(layers=(1, 1), polarity="-", least_score=0.2, clear_only=True)
    )
    assert narrowed
    assert all(h.layer == 1 and h.polarity == "-" and (h.score or 0) >= 0.2 and h.kind != UNCLEAR for h in narrowed)
    assert {hit.kind for hit in index.search("x", top=500, filters=Filters(kinds=("token", "layout")))} <= {"token", "layout"}
    listed = index.search("", top=10)
    assert [hit.score for hit in listed] == sorted((hit.score for hit in listed), reverse=True)
    assert index.search("the river and the town", top=20) == hits


def test_keywords_must_all_stand_there(ready: tuple[LoadedModel, Atlas]) -> None:
    index = open_search(ready[0].ref)
    found = index.search("", top=1000, filters=Filters(keyword='"E" WORDS'))
    assert found
    rows = index.table.iloc[[index.row(hit.side) for hit in found]]
    said = rows[["headline", "description", "second", "theme"]].agg("\n".join, axis=1).str.lower()
    assert all('"e"' in text and "words" in text for text in said)
    assert index.search("", filters=Filters(keyword="qqqqq")) == ()


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        (Filters(layers=(2, 9)), "layers"),
        (Filters(layers=(2, 1)), "layers"),
        (Filters(kinds=("nonsense",)), "kind"),
        (Filters(polarity="x"), "polarity"),
    ],  # type: ignore[arg-type]
)
def test_bad_filters_are_named(ready: tuple[LoadedModel, Atlas], filters: Filters, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_search(ready[0].ref).search("", filters=filters)
    assert caught.value.field == named


def test_hand_written_descriptions_are_searched(ready: tuple[LoadedModel, Atlas]) -> None:
    loaded, atlas = ready
    Edits.of(loaded.ref).describe(S("1:7-"), "speaks of lighthouses")
    hit = SearchIndex(atlas).search("", filters=Filters(keyword="lighthouses"))
    assert [h.side for h in hit] == [S("1:7-")]
    assert hit[0].score is None


def test_without_atlas_or_neuron_the_fix_is_named(ready: tuple[LoadedModel, Atlas], tmp_path: Path) -> None:
    loaded, _ = ready
    with pytest.raises(NotFound, match="no neuron 3:0"):
        open_search(loaded.ref).row(S("3:0"))
    bare, atlas = tiny_atlas(tmp_path, seed=3)
    with pytest.raises(NotFound, match="atlas describe"):
        SearchIndex(atlas)
    shutil.rmtree(atlas_folder(loaded.ref))
    del bare


def test_real_embeddings_put_like_things_together() -> None:
    a, b, c = embedder().encode(["a dog in the garden", "puppies and cats", "the court heard the appeal"])
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-4)
    assert a @ b > a @ c + 0.1
    with pytest.raises(InvalidInput):
        embed_query("  ")


# -- contrast -----------------------------------------------------------------------------------------------------------------


def test_auroc_and_effect_by_hand() -> None:
    examples, counter = np.array([[2.0, 1.0], [3.0, 1.0]], np.float32), np.array([[1.0, 1.0], [2.0, 5.0]], np.float32)
    assert auroc(examples, counter).tolist() == [0.875, 0.25]
    effect = effect_size(examples, counter)
    assert effect[0] > 0 > effect[1]


def test_contrast_finds_neurons_that_hold_on_new_texts(default_model: LoadedModel) -> None:
    """Chosen on eight sentences, tested on others: far better than chance."""
    about = [
        "She fried the onions in butter and added garlic.",
        "Bake the cake for an hour and let it cool.",
        "The soup needs more salt and a little pepper.",
        "He stirred the sauce and tasted the pasta.",
        "Roast the potatoes with rosemary and olive oil.",
    ]
    found = contrast(default_model, about, top=20)
    assert found.neutral
    assert found.counter == len(NEUTRAL)
    assert found.found[0].effect > found.chance_effect
    assert [one.effect for one in found.found] == sorted((one.effect for one in found.found), reverse=True)
    new = [
        "Boil the rice and grill the fish with lemon.",
        "Mix flour, milk and eggs to a smooth batter.",
        "The stew of beef and carrots was tasty.",
    ]
    other = ["The committee postponed its decision.", "He walked along the road without a word.", "It was later than she had thought."]
    strengths = text_strengths(default_model, [*new, *other])
    size = default_model.n_layers * default_model.n_neurons
    columns = [(o.side.polarity == "-") * size + o.side.layer * default_model.n_neurons + o.side.index for o in found.found]
    assert np.median(auroc(strengths[:3][:, columns], strengths[3:][:, columns])) >= 0.8


def test_contrast_needs_texts(default_model: LoadedModel) -> None:
    with pytest.raises(InvalidInput, match="at least 2"):
        contrast(default_model, ["one", " "])


# -- sets ---------------------------------------------------------------------------------------------------------------------


def test_concepts_combine_like_sets() -> None:
    one = Concept.of([S("1:2"), S("3:4-"), S("1:2")], origin="a")
    two = Concept.of([S("3:4-"), S("5:6")], origin="b")
    assert one.sides == (S("1:2"), S("3:4-"))
    assert one.union(two).sides == (S("1:2"), S("3:4-"), S("5:6"))
    assert one.intersection(two).sides == (S("3:4-"),)
    assert one.difference(two).sides == (S("1:2"),)
    assert one.difference(two).origin == "difference of a and b"
    with pytest.raises(InvalidInput, match="different models"):
        Concept(one.sides, weights_hash="x").union(Concept(two.sides, weights_hash="y"))


def test_concepts_are_kept_renamed_noted_deleted_and_come_back(home: Path) -> None:
    saved = SavedConcepts()
    concept = Concept.of([S("1:2"), S("3:4-")], origin="search: x")
    saved.save("mine", concept)
    with pytest.raises(InvalidInput):
        saved.save("mine", concept)
    with pytest.raises(InvalidInput, match="no neurons"):
        saved.save("empty", Concept(()))
    saved.rename("mine", "ours")
    saved.note("ours", "good")
    assert SavedConcepts().load("ours") == Concept.of(concept.sides, origin="search: x", note="good")
    token = saved.delete("ours")
    assert "ours" not in saved
    assert saved.restore(token).name == "ours"
    assert [entry.name for entry in saved.list()] == ["ours"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "7",
        '{"neurons": 7}',
        '{"neurons": ["x"]}',
        '{"neurons": ["1:2"], "model": 3}',
        '{"neurons": ["1:2"], "similarity": {"1:2": "y"}}',
    ],
)
def test_files_that_are_no_concept_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises((InvalidFile, InvalidInput)):
        read_concept(path)


# -- steers from words --------------------------------------------------------------------------------------------------------


def test_sizes_follow_the_model(ready: tuple[LoadedModel, Atlas], default_model: LoadedModel) -> None:

    big = replace(default_model.ref, n_layers=32, n_neurons=14_336)
    assert (default_size("strengthen", big), default_size("suppress", big)) == (50, 500)
    assert (default_size("strengthen", default_model.ref), default_size("suppress", default_model.ref)) == (5, 50)
    assert (default_size("strengthen", ready[0].ref), default_size("suppress", ready[0].ref)) == (5, 20)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a b", ("a b", None)), ("a=0.5", ("a", 0.5)), ("x=y", ("x=y", None)), ("a==1", ("a=", 1.0)), (" a = -1 ", ("a", -1.0))],
)
def test_a_strength_may_follow_the_text(given: str, expected: tuple[str, float | None]) -> None:
    assert split_strength(given, "strengthen") == expected


@pytest.mark.parametrize("given", ["", "=1", "a=1e9", "a=nan"])
def test_bad_concept_options_are_named(given: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        split_strength(given, "suppress")
    assert caught.value.field == "suppress"


def test_a_saved_concept_goes_before_a_search(ready: tuple[LoadedModel, Atlas], letters: None) -> None:
    loaded, _ = ready
    searched = concept_steer(loaded.ref, "river", "suppress")
    assert searched.origin == "search"
    assert len(searched.steer.neurons) == 20
    assert searched.steer.strength == 0
    SavedConcepts().save("river", Concept.of([S("0:1")], ref=loaded.ref))
    saved = concept_steer(loaded.ref, "river", "strengthen", strength=0.5)
    assert saved.origin == "saved concept"
    assert saved.steer.neurons == (S("0:1"),)
    assert saved.steer.strength == 0.5
    assert "1 neurons" in saved.line()
    SavedConcepts().save("foreign", Concept((S("0:1"),), weights_hash="other", model="Other"))
    with pytest.raises(InvalidInput, match="belongs to Other"):
        concept_steer(loaded.ref, "foreign", "suppress")


# -- sides of a trace ---------------------------------------------------------------------------------------------------------


def test_active_sides_by_their_own_quantile() -> None:
    acts = np.zeros((2, 3, 4), np.float16)
    acts[0, 1, 2], acts[1, 2, 0], acts[0, 0, 3] = 4, -6, 100
    norm = np.full((2, 2, 4), 2, np.float32)
    norm[1] = -2
    found = active_sides(acts, norm)
    assert found.sides == (S("1:0-"), S("0:2"))
    assert found.weights == (3, 2)
    assert active_sides(acts, norm, tokens=[0]).sides == (S("0:3"),)
    assert active_sides(acts, norm, top=1).sides == (S("1:0-"),)
    with pytest.raises(InvalidInput):
        active_sides(acts, norm, tokens=[])


def test_attributed_sides_sum_over_tokens_and_keep_the_sign() -> None:
    rows = [AttributionRow(1, 2, 0, "+", 1, 0.5), AttributionRow(1, 2, 3, "+", 1, -0.1), AttributionRow(0, 1, 2, "-", -1, -0.6)]
    found = attributed_sides(rows)
    assert found.sides == (S("0:1-"), S("1:2"))
    assert found.weights == pytest.approx((-0.6, 0.4))


# -- neighbours and the map ---------------------------------------------------------------------------------------------------


def test_neighbours_of_every_kind(ready: tuple[LoadedModel, Atlas]) -> None:
    loaded, atlas = ready
    index, side = SearchIndex(atlas), S("1:3")
    for found in (by_meaning(index, side, top=5), by_places(atlas, side, top=5), by_description(index, side, top=5)):
        assert all(n.side != side for n in found)
        assert [n.nearness for n in found] == sorted((n.nearness for n in found), reverse=True)
    for kind in ("output", "input", "gate"):
        assert len(by_weights(loaded, side, kind=kind, top=4)) == 4
    with pytest.raises(InvalidInput):
        by_weights(loaded, side, kind="sideways")
    with pytest.raises(InvalidInput):
        by_weights(loaded, S("1:48"))


def test_an_opposite_output_row_is_the_other_polarity(ready: tuple[LoadedModel, Atlas]) -> None:

    loaded = tiny_model("llama", seed=9)
    weight: Any = loaded.model.model.layers[2].mlp.down_proj.weight
    weight.data[:, 5] = -3 * loaded.model.model.layers[0].mlp.down_proj.weight[:, 7]
    best = by_weights(loaded, S("0:7"), top=1)[0]
    assert best.side == S("2:5-")
    assert best.nearness == pytest.approx(1, abs=1e-3)


def test_the_map_is_bounded_seeded_and_stored(ready: tuple[LoadedModel, Atlas]) -> None:
    index = SearchIndex(ready[1])
    drawn = draw_map(index.space, np.ones(len(index.table), dtype=bool), points=200)
    assert drawn.xy_M2.shape == (200, 2)
    assert np.abs(drawn.xy_M2).max() <= 1
    assert len(set(drawn.row_M.tolist())) == 200
    again = draw_map(index.space, np.ones(len(index.table), dtype=bool), points=200)
    assert np.array_equal(drawn.xy_M2, again.xy_M2)
    loaded = Map2D.load(drawn.arrays())
    assert loaded is not None
    assert np.array_equal(loaded.row_M, drawn.row_M)
    assert Map2D.load({}) is None
    assert lay_out(np.zeros((2, 5), np.float32)).shape == (2, 2)


def test_every_side_has_its_place_between_those_most_like_it(ready: tuple[LoadedModel, Atlas]) -> None:
    space = SearchIndex(ready[1]).space
    drawn = draw_map(space, np.ones(len(space.vector_NK), dtype=bool), points=100)
    every = place_all(space, drawn)
    assert np.array_equal(every.row_M, np.arange(len(space.vector_NK)))
    assert np.array_equal(every.xy_M2[drawn.row_M], drawn.xy_M2)
    vectors = space.vector_NK.astype(np.float64) - space.vector_NK.astype(np.float64).mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for row in np.setdiff1d(every.row_M, drawn.row_M)[::29]:
        like = vectors[drawn.row_M] @ vectors[row]
        near = np.argsort(-like)[:6]
        weights = np.exp(20 * like[near])
        wanted = weights @ drawn.xy_M2[near] / weights.sum()
        assert every.xy_M2[row] == pytest.approx(wanted, abs=1e-4)
    nowhere = place_all(space, Map2D(np.zeros(0, np.int64), np.zeros((0, 2), np.float32)))
    assert not nowhere.xy_M2.any()


def test_a_name_stands_where_its_sides_gather_and_a_scattered_one_nowhere() -> None:
    random = np.random.default_rng(0)
    xy = random.uniform(-1, 1, (20_000, 2)).astype(np.float32)
    near = np.flatnonzero(np.linalg.norm(xy - [0.5, -0.5], axis=1) < 0.08)
    here = random.permutation(near)[:60]
    anywhere = random.permutation(len(xy))[:60]
    labels = label_map(
        xy, {("concept", "boats"): here, ("concept", "of chance"): anywhere, ("field", "Sea"): here, ("concept", "few"): here[:3]}
    )
    assert [(label.kind, label.text) for label in labels] == [("field", "Sea"), ("concept", "boats")]
    for label in labels:
        assert (label.x, label.y) == pytest.approx((0.5, -0.5), abs=0.1)
        assert label.overall == pytest.approx(60 / 20_000)
        assert label.share > 5 * label.overall


def test_headlines_give_names_without_single_tokens() -> None:
    zeros = np.zeros(4, np.int64)
    headlines = ['numbers, mostly "7", after "the"', "numbers", 'word pieces "a"', ""]
    found = sides_by_name(zeros, zeros, zeros.astype(bool), headlines, None)
    assert {key: rows.tolist() for key, rows in found.items()} == {("headline", "numbers"): [0, 1]}


# -- commands -----------------------------------------------------------------------------------------------------------------


def _run(*arguments: str) -> tuple[int, Any, str]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout.strip() else None, result.stderr


def test_search_prints_rows(ready: tuple[LoadedModel, Atlas], letters: None) -> None:
    code, answer, _ = _run("search", "river", "--top", "3", "--polarity", "-", "--layers", "1:2", "--model", "tiny llama")
    assert code == 0
    assert len(answer["rows"]) == 3
    assert {"layer", "index", "polarity", "description", "score", "similarity"} <= set(answer["rows"][0])
    assert all(row["polarity"] == "-" and row["layer"] >= 1 for row in answer["rows"])
    plain = CliRunner().invoke(app, ["search", "river", "--model", "tiny llama"])
    assert plain.exit_code == 0
    assert "similarity" in plain.stdout


@pytest.mark.parametrize("wrong", [["--layers", "x"], ["--layers", "1:99"], ["--polarity", "up"], ["--kind", "zzz"]])
def test_search_refuses_bad_options(ready: tuple[LoadedModel, Atlas], letters: None, wrong: list[str]) -> None:
    code, _, error = _run("search", "river", "--model", "tiny llama", *wrong)
    assert code == 2
    assert json.loads(error)["field"]


def test_concept_commands(ready: tuple[LoadedModel, Atlas], letters: None, tmp_path: Path) -> None:
    assert _run("concept", "save", "a", "--text", "river", "--top", "4", "--model", "tiny llama")[0] == 0
    assert _run("concept", "save", "b", "--neurons", "0:1,2:3-", "--model", "tiny llama")[1]["neurons"] == ["0:1+", "2:3-"]
    assert _run("concept", "save", "b", "--neurons", "0:1", "--model", "tiny llama")[0] == 2
    assert _run("concept", "save", "c", "--neurons", "9:1", "--model", "tiny llama")[0] == 2
    assert _run("concept", "save", "c", "--neurons", "0:1", "--text", "x")[0] == 2
    assert _run("concept", "union", "a", "b", "both")[1]["origin"] == "union of a and b"
    assert len(_run("concept", "show", "both")[1]["rows"]) >= 4
    assert _run("concept", "show", "b")[1]["rows"][0]["description"]
    assert _run("concept", "intersection", "both", "b", "meet")[1]["neurons"] == ["0:1+", "2:3-"]
    assert _run("concept", "rename", "meet", "met")[0] == 0
    assert _run("concept", "note", "met", "hello")[1]["note"] == "hello"
    assert _run("concept", "export", "met", str(tmp_path / "met.json"))[0] == 0
    token = _run("concept", "delete", "met")[1]["restore"]
    assert _run("concept", "show", "met")[0] == 1
    assert _run("concept", "import", str(tmp_path / "met.json"), "--name", "again")[1]["note"] == "hello"
    assert _run("concept", "restore", token)[0] == 0
    assert [row["name"] for row in _run("concept", "list")[1]["rows"]] == ["a", "again", "b", "both", "met"]


def test_the_scores_command_shows_medians(ready: tuple[LoadedModel, Atlas]) -> None:
    code, answer, _ = _run("atlas", "score", "--model", "tiny llama")
    assert code == 0
    assert len(answer["rows"]) == 4
    assert answer["rows"][-1]["layer"] == -1


def test_example_texts_come_from_tables_too(tmp_path: Path) -> None:
    from neurons.cli.concepts import _texts

    (tmp_path / "e.csv").write_text('id,text\n1,"one, with a comma"\n2,two\n', encoding="utf-8")
    assert _texts(tmp_path / "e.csv", quiet=True) == ["one, with a comma", "two"]
    (tmp_path / "e.txt").write_text("eins\u2028zwei\n\ndrei\n", encoding="utf-16")
    assert _texts(tmp_path / "e.txt", quiet=True) == ["eins\u2028zwei", "drei"]
    (tmp_path / "e.tsv").write_text("a\tb\nx\ty\n", encoding="utf-8")
    with pytest.raises(InvalidInput):
        _texts(tmp_path / "e.tsv", quiet=True)
