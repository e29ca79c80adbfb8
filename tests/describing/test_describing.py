"""Descriptions without a language model: what is read off tokens, phrases and patterns, the fit, the scores, a whole run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score

from neurons.atlas.store import Atlas, open_folder
from neurons.core.errors import Cancelled, InvalidInput
from neurons.describing.ceiling import Contexts, ceiling_prediction
from neurons.describing.evidence import vocabulary_words
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.describing.fit import fit_layer, normalised, pursue
from neurons.describing.rescore import rescore, summarise
from neurons.describing.score import auprc, other_neurons, pearson, score_layer, top_and_random
from neurons.describing.survey import LayerMoments, Moments, describing_rows, heldout_rows, piece_table, read_windows, survey
from neurons.descriptions.features import Part, at_parts, feature_matrix, token_parts, view
from neurons.descriptions.kinds import KINDS, UNCLEAR, kind_of
from neurons.descriptions.patterns import LEVELS, Pattern, predict
from neurons.descriptions.render import CLASS_TEXT, MAX_WORDS, count_words, parse, render
from neurons.descriptions.word_classes import key, shape_classes, word_classes, words_so_far
from neurons.descriptions.wordnet import lemma, supersense
from neurons.models.loaded import LoadedModel
from tests.support.descriptions import DESCRIBE, letter_pairs, tiny_atlas


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Atlas, Path]:
    """A tiny model, its described atlas, and the work folder (kept)."""
    folder = tmp_path_factory.mktemp("describe")
    loaded, atlas = tiny_atlas(folder)
    done = describe_atlas(loaded, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=folder / "work", keep_work=True)
    return loaded, done, folder / "work"


# -- words --------------------------------------------------------------------------------------------------------------------


def test_wordnet_supersenses_and_forms() -> None:
    assert (supersense("dog"), supersense("Dogs"), supersense("ate"), supersense("went")) == (
        "noun.animal",
        "noun.animal",
        "verb.consumption",
        "verb.motion",
    )
    assert lemma("boxes") == "box"
    assert supersense("the") is None
    assert supersense("qqzx") is None


def test_a_token_is_quoted_without_case_and_space() -> None:
    assert [key(piece) for piece in (" The", "the", "\n\n", "    ", " ", "")] == ["the", "the", "\n", "  ", " ", ""]


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (" 42", {"number"}),
        (" NATO", {"letters", "capitalised", "all caps"}),
        ("),", {"punctuation", "close bracket", "comma", "several signs"}),
        ("\n\n", {"line break", "blank line", "space"}),
        ("    ", {"indent", "space"}),
        ("<|im_start|>", {"control token"}),
        (" é", {"letters", "single letter", "non-ASCII letters"}),
        ("→", {"symbol"}),
    ],
)
def test_shapes(piece: str, expected: set[str]) -> None:
    assert set(shape_classes(piece)) == expected


def test_words_grow_over_their_pieces_and_classes_follow() -> None:
    assert list(words_so_far([" Neuro", "scope", " runs", ".", "  "])) == ["neuro", "neuroscope", "runs", "", ""]
    assert {"preposition"} <= set(word_classes("of"))
    assert word_classes("walked") == ("ends:ed", "sense:verb.motion", "verb")
    assert word_classes("walking") == ("ends:ing", "sense:adj.all", "adj")  # WordNet lists it as an adjective of its own
    assert Part("at", "class", "word piece") in at_parts("scope", "neuroscope")


def test_parts_of_a_token_in_its_place() -> None:
    seen = view([" He", " said", " (", "yes", ")", ".", "\n", "Then", " he"])
    assert Part("after", "word", "said") in token_parts(seen, 2)
    assert Part("before", "word", "yes") in token_parts(seen, 2)
    assert Part("at", "class", "in brackets") in token_parts(seen, 3)
    assert Part("at", "class", "in brackets") not in token_parts(seen, 5)
    assert Part("at", "class", "line start") in token_parts(seen, 7)
    assert Part("at", "class", "seen before") not in token_parts(seen, 8)  # two letters are too few to count as repeated
    assert Part("in", "domain", "law") in token_parts(seen, 0, "law")
    assert not [part for part in token_parts(seen, 0) if part.where == "after"]


# -- phrases ------------------------------------------------------------------------------------------------------------------


def test_every_class_and_awkward_token_survives_the_way_to_a_phrase_and_back() -> None:
    values = [("class", name) for name in CLASS_TEXT] + [
        ("word", text) for text in ('a"b', "x; y", "a/b", ", ", "after", "strongly", "\\", "é")
    ]
    for place in ("at", "after", "before"):
        for level in LEVELS:
            for kind, value in values:
                pattern = Pattern(((Part(place, kind, value), level),))  # type: ignore[arg-type]
                assert parse(render(pattern)) == pattern
    for first in values[::7]:
        for second in values[::5]:
            parts = (
                (Part("at", *first), 9),
                (Part("after", *second), 9),
                (Part("after", "word", "q"), 9),
                (Part("in", "domain", "law"), 1),
            )
            assert parse(render(Pattern(parts))) == Pattern(parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "talks about dogs and cats", '"unclosed', "strongly", "in", "unclear", 'not even "close" here'])
def test_free_text_is_no_pattern(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_words_are_counted_as_a_reader_counts_them() -> None:
    assert count_words('strongly "a b c", after "x"/"y"; weakly words in -ing') == 9


def test_a_prediction_is_the_sum_of_the_visible_levels_and_nothing_else() -> None:
    seen = [view([" the", " dog", " 7"])]
    patterns = [parse('strongly "the"; numbers, after "dog"; not words'), None]
    parts = {part: n for n, (part, _) in enumerate(patterns[0].parts)}  # type: ignore[union-attr]
    predicted = predict(patterns, feature_matrix(seen, parts), parts)
    assert predicted.tolist() == [[6.0, 0.0], [-3.0, 0.0], [6.0, 0.0]]


def test_levels_read_plainly_where_nothing_is_far_below() -> None:
    a, b, c = (Part("at", "word", w) for w in "abc")
    assert normalised([(a, 9), (b, 9)]).parts == ((a, 3), (b, 3))
    assert normalised([(a, 1)]).parts == ((a, 3),)
    assert normalised([(b, 1), (a, 9), (c, -3)]).parts == ((a, 9), (b, 1), (c, -3))


# -- fit ----------------------------------------------------------------------------------------------------------------------


def _moments(features: np.ndarray, truth: np.ndarray) -> tuple[Moments, LayerMoments]:
    mean = features.mean(axis=0)
    cov = (features.T @ features / len(features) - np.outer(mean, mean)).astype(np.float32)
    layer = LayerMoments(truth.mean(0), truth.var(0), (truth.T @ features / len(truth) - np.outer(truth.mean(0), mean)).astype(np.float32))
    return Moments(len(features), mean, cov), layer


def test_the_fit_finds_the_parts_that_made_the_data_and_calls_noise_nothing() -> None:
    rng = np.random.default_rng(0)
    parts = [Part("at", "word", f"w{n}") for n in range(20)]
    halves = []
    for _ in range(2):
        x = (rng.random((20_000, 20)) < 0.05).astype(np.float64)
        y = np.stack([9 * x[:, 3] + 3 * x[:, 7] + rng.random(20_000), rng.random(20_000), np.zeros(20_000)], axis=1)
        halves.append(_moments(x, y))
    (fit, layer_fit), (check, layer_check) = halves
    found = fit_layer(parts, fit, check, layer_fit, layer_check)
    assert render(found[0].pattern) == '"w3"; weakly "w7"'
    assert found[0].check > 0.95
    assert found[1].check < 0.05
    assert found[2].pattern == Pattern(())
    assert found[2].check == 0


def test_pursuit_takes_no_part_twice_and_explains_ever_more() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((5_000, 12))
    moments, layer = _moments(x, x @ rng.random((12, 4)))
    steps = pursue(layer.cov_NF, moments.cov_FF, np.ones(12, dtype=np.float32), tokens=5_000, steps=12)
    explained = [(weight * np.take_along_axis(layer.cov_NF, chosen, axis=1)).sum() for chosen, weight in steps]
    assert all(len(set(row)) == len(row) for row in steps[-1][0].tolist())
    assert explained == sorted(explained)


def test_kinds_follow_what_carries_the_prediction() -> None:
    assert kind_of([Part("at", "word", "than"), Part("after", "word", "of")], [5, 1]) == "token"
    assert kind_of([Part("before", "word", "of"), Part("at", "word", "x")], [5, 1]) == "next"
    assert kind_of([Part("at", "class", name) for name in ("number", "sense:noun.food", "comma", "article")], [1, 1, 1, 1]) == "mixed"
    assert kind_of([], []) == UNCLEAR


# -- scores -------------------------------------------------------------------------------------------------------------------


def test_scores_equal_numpy_and_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    truth = rng.gamma(0.3, size=(4_000, 5)).astype(np.float32)
    predicted = np.rint(truth + rng.normal(size=truth.shape)).astype(np.float32)
    truth[:, 4] = 0
    predicted[:, 3] = 1
    found = pearson(predicted, truth)
    assert np.allclose(found[:3], [np.corrcoef(predicted[:, n], truth[:, n])[0, 1] for n in range(3)], atol=1e-5)
    assert found[3] == 0
    assert np.isnan(found[4])
    area = auprc(predicted, truth)
    for n in range(4):
        top = np.zeros(4_000, dtype=bool)
        top[np.argsort(-truth[:, n])[:4]] = True
        assert area[n] == pytest.approx(average_precision_score(top, predicted[:, n]), abs=1e-6)
    assert np.isnan(area[4])
    assert np.allclose(auprc(predicted + 0.5, truth), area, equal_nan=True)  # numbers that are not whole take another way


def test_the_sign_is_kept() -> None:
    truth = np.arange(100, dtype=np.float32)[:, None]
    assert pearson(-truth, truth)[0] == pytest.approx(-1)


def test_the_null_is_another_neurons_description() -> None:
    usable = np.zeros(40, dtype=bool)
    usable[[1, 5, 21, 38]] = True
    lent = other_neurons(40, usable, seed=3)
    assert set(lent) <= {1, 5, 21, 38}
    assert all(lender % 20 != row % 20 for row, lender in enumerate(lent))
    assert (lent == other_neurons(40, usable, seed=3)).all()


def test_the_secondary_score_flatters() -> None:
    rng = np.random.default_rng(4)
    truth = (rng.random((6_400, 3)) ** 40).astype(np.float32)
    predicted = (truth > 0.9).astype(np.float32)
    window = np.arange(6_400) // 64
    assert (top_and_random(predicted, truth, window) > pearson(predicted, truth)).all()
    scores = score_layer(np.tile(predicted, (1, 2)), np.tile(truth, (1, 2)), usable=np.ones(6, dtype=bool), window_T=window)
    assert np.isfinite(scores.top_random_null).all()


def test_the_ceiling_knows_tokens_and_the_tokens_before() -> None:
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 20, 20_001)
    table, before = rng.random(20), rng.random(20)
    truth = (table[ids[1:]] + before[ids[:-1]]).astype(np.float32)[:, None]
    half = Contexts(ids[1:10_001], ids[:10_000]), Contexts(ids[10_001:], ids[10_000:-1])
    assert pearson(ceiling_prediction(half[0], truth[:10_000], half[1]), truth[10_000:])[0] > 0.99


# -- a whole run --------------------------------------------------------------------------------------------------------------


def test_every_side_has_a_row_and_what_is_not_clear_says_so(described: tuple[LoadedModel, Atlas, Path]) -> None:
    loaded, atlas, _ = described
    table = atlas.descriptions()
    assert table is not None
    assert len(table) == 2 * loaded.n_layers * loaded.n_neurons
    assert not table.duplicated(["layer", "index", "polarity"]).any()
    assert set(table["kind"]) <= set(KINDS)
    unclear = table["description"] == UNCLEAR
    assert (unclear == (table["kind"] == UNCLEAR)).all()
    assert table.loc[unclear, "score"].isna().all()
    assert (table.loc[~unclear, "check"] >= 0.15).all()
    assert max(map(count_words, table["description"])) <= MAX_WORDS


def test_the_score_in_the_table_is_that_of_the_phrase_alone(described: tuple[LoadedModel, Atlas, Path], tmp_path: Path) -> None:
    """Scoring the phrases anew, knowing nothing but their words, gives the same figures."""
    loaded, atlas, _ = described
    before = atlas.descriptions()
    own = open_folder(Path(shutil.copytree(atlas.folder, tmp_path / "atlas")))
    again = rescore(loaded, own, tokens=DESCRIBE["held_tokens"], work=tmp_path / "work").descriptions()
    assert before is not None
    assert again is not None
    for name in ("score", "auprc"):
        assert np.allclose(before[name], again[name], atol=2e-3, equal_nan=True)
    row = summarise(again)[-1]
    assert (row.layer, row.sides) == (-1, len(again))
    assert row.score is not None
    assert row.null is not None
    assert row.score > row.null + 0.1


def test_no_text_is_both_described_from_and_scored_on(described: tuple[LoadedModel, Atlas, Path]) -> None:
    loaded, atlas, _ = described
    pieces = piece_table(loaded)
    used = read_windows(atlas.corpus, describing_rows(atlas.corpus, 10**9), pieces)
    held = read_windows(atlas.corpus, heldout_rows(atlas.corpus, 10**9), pieces)
    assert not set(used.documents) & set(held.documents)
    found = survey(used)
    fitted = {used.documents[n] for n in range(len(used.ids)) if used.documents[n] % 4 != 3}
    assert len(found.check_T) == used.tokens
    assert found.check_T.any()
    assert fitted
    assert isinstance(found.fit_TF, sparse.csr_matrix)


def test_a_run_goes_on_where_it_was_stopped_and_ends_the_same(described: tuple[LoadedModel, Atlas, Path], tmp_path: Path) -> None:
    _, atlas, _ = described
    loaded, fresh = tiny_atlas(tmp_path)

    def stop_in_second_layer(done: int, total: int | None, message: str) -> None:
        if message.startswith("layers") and done == 1:
            raise Cancelled

    settings = DescribeSettings(**DESCRIBE)
    with pytest.raises(Cancelled):
        describe_atlas(loaded, fresh, settings=settings, encode=letter_pairs, work=tmp_path / "work", progress=stop_in_second_layer)
    assert (tmp_path / "work" / "layer-000.json").exists()
    assert fresh.descriptions() is None
    messages: list[str] = []
    done = describe_atlas(
        loaded, fresh, settings=settings, encode=letter_pairs, work=tmp_path / "work", progress=lambda d, t, m: messages.append(m)
    )
    assert "describing tokens read" not in messages
    first, second = atlas.descriptions(), done.descriptions()
    assert first is not None
    assert second is not None
    assert first.equals(second)
    assert all(np.array_equal(values, done.embeddings()[name]) for name, values in atlas.embeddings().items())
    assert not (tmp_path / "work").exists()


def test_an_atlas_of_other_weights_is_refused(described: tuple[LoadedModel, Atlas, Path], tmp_path: Path) -> None:
    other, _ = tiny_atlas(tmp_path, seed=1)
    with pytest.raises(InvalidInput, match="other weights"):
        describe_atlas(other, described[1])


def test_content_words_are_whole_words_of_the_dictionary() -> None:
    words = vocabulary_words([" court", "court", " the", "ing", " 12", " Law"], np.array([5, 1, 90, 3, 4, 2]))
    assert words.words == ("court", "law")
    assert words.content_V.tolist() == [0, -1, -1, -1, -1, 1]
