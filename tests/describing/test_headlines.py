"""Headlines from evidence: what is seen in a corpus, what is chosen, how it is scored, a whole run, the quiz."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from neurons.atlas.corpus import Cutting, Document, Source, build_corpus
from neurons.atlas.store import Atlas, open_folder
from neurons.core.errors import Cancelled, InvalidInput
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.describing.headline_choice import Choice, Chosen, Costs, SideMasks, check_mask, choose, layer_masks
from neurons.describing.headline_meanings import meanings_of
from neurons.describing.headline_score import HeldTraits, score_headlines
from neurons.describing.headline_traits import trait_table
from neurons.describing.headline_units import cut
from neurons.describing.headline_writes import Effects, Writes, right, sample_rows
from neurons.describing.headlines import COLUMNS, add_headlines
from neurons.describing.survey import piece_table
from neurons.descriptions.headlines import MAX_WORDS, Trait, count_words
from neurons.descriptions.quiz import answers_text, as_text, questions
from neurons.detectors.lexicon import load_lexicon
from neurons.models.loaded import LoadedModel
from tests.support.descriptions import DESCRIBE, letter_pairs, tiny_atlas

PIECES = ["<s>", " the", " wind", " ble", "w", ".", "\n", " 19", "84", " The", " and", " of", " course", "("]
IDS = [0, 0, 0, 0, 9, 2, 3, 4, 5, 6, 1, 2, 10, 7, 8, 11, 12, 13, 2, 5]


def corpus(*, repeats: int = 6):  # type: ignore[no-untyped-def]
    made = [Document(0, f"document {n}", ids=tuple(IDS)) for n in range(repeats)]
    source = (Source("first", "code", "public domain", "made for tests"),)
    return build_corpus(made, source, encode=lambda text: [], start_ids=[], n_vocab=len(PIECES), cutting=Cutting(held_out=0))


# -- what is seen ---------------------------------------------------------------------------------------------------------------


def test_tokens_are_put_together_to_words_and_numbers() -> None:
    units = cut(corpus(repeats=1), PIECES)
    shown = [units.texts[n] for n in units.text_U]
    assert shown[4:] == ["the", "wind", "blew", ".", "\n", "the", "wind", "and", "1984", "of", "course", "(", "wind", "."]
    assert units.length_U.sum() == len(IDS)
    assert units.capital_U[4]
    assert not units.capital_U[9]


def test_the_traits_of_a_token() -> None:
    given = corpus()
    table = trait_table(given, PIECES, cut(given, PIECES))

    def at(position: int) -> set[Trait]:
        return {table.known[n] for n in table.slot_TS[position] if n >= 0}

    assert {Trait("word", "blew"), Trait("piece", "w"), Trait("part", "last word"), Trait("domain", "code"), Trait("before", ".")} <= at(7)
    assert not [trait for trait in at(7) if trait.kind in ("after", "afterclass")]  # inside a word nothing stands "after"
    assert {Trait("class", "year"), Trait("class", "number"), Trait("after", "and"), Trait("after", "wind and")} <= at(14) | at(13)
    assert {Trait("phrase", "of course"), Trait("near", "wind")} <= at(16)
    assert Trait("place", "sentence end") in at(8)
    assert Trait("place", "line start") in at(10)
    assert Trait("place", "in brackets") in at(18)
    assert Trait("place", "seen before") in at(18)


def test_words_mean_what_the_lexicon_calls_so() -> None:
    given = corpus()
    lexicon = load_lexicon()
    wind = next(concept.name for concept in lexicon.concepts if concept.key == "wind")
    found = meanings_of(cut(given, PIECES), lexicon, letter_pairs)
    assert wind in found.of_word["wind"]
    assert "the" not in found.of_word
    table = trait_table(given, PIECES, cut(given, PIECES), found)
    assert Trait("meaning", wind) in {table.known[n] for n in table.slot_TS[18] if n >= 0}


# -- what is chosen -------------------------------------------------------------------------------------------------------------


def costs(
    chance: list[float], *, general: tuple[int, ...] = (), together: dict[tuple[int, int], float] | None = None, qualifier: int = -1
) -> Costs:
    count = len(chance)
    return Costs(
        np.array(chance, dtype=np.float32),
        np.ones(count, dtype=np.float32),
        np.zeros(count, dtype=np.float32),
        np.full(count, 2, dtype=np.float32),
        np.array([n in general for n in range(count)]),
        np.array([n == qualifier for n in range(count)]),
        together or {},
    )


def side(*masks: list[int]) -> SideMasks:
    bits = [sum(1 << k for k in mask) for mask in masks]
    return SideMasks(np.arange(len(bits)), np.array(bits, dtype=np.uint64), (1 << 24) - 1)


def test_what_covers_most_and_is_rare_elsewhere_is_named_first() -> None:
    found = choose(side(list(range(20)), list(range(22)), [20, 21, 22]), costs([0.01, 0.6, 0.01]))
    assert [part.trait for part in found.parts] == [0, 2]
    assert found.worth == pytest.approx(1 - 0.0199, abs=1e-4)


def test_places_kept_back_choose_nothing() -> None:
    kept = [k for k in range(24) if check_mask(24) >> k & 1]
    assert kept == [3, 7, 11, 15, 19, 23]
    found = choose(side(kept), costs([0.01]))
    assert not found.parts
    found = choose(side([k for k in range(24) if k not in kept]), costs([0.01]))
    assert len(found.parts) == 1
    assert found.check == pytest.approx(-0.01)


def test_no_list_of_classes() -> None:
    found = choose(side(list(range(8)), list(range(8, 16)), list(range(16, 24))), costs([0.05] * 3, general=(0, 1, 2)))
    assert len(found.parts) == 1


def test_a_class_is_narrowed_where_it_stands_only_there() -> None:
    places = list(range(22))
    found = choose(side(places, places), costs([0.3, 0.35], general=(0, 1), together={(0, 1): 0.02}, qualifier=1))
    assert (found.parts[0].trait, found.parts[0].qualifier) == (0, 1)
    assert found.parts[0].chance == pytest.approx(0.02)


def test_masks_of_a_layer() -> None:
    slots = np.array([[0, 1], [0, -1], [2, 1]], dtype=np.int32)
    first, second = layer_masks(slots, np.array([[0, 1, 2], [2, -1, -1]]), 3)
    assert dict(zip(first.trait_C.tolist(), first.mask_C.tolist(), strict=True)) == {0: 0b11, 1: 0b101, 2: 0b100}
    assert (first.places, second.places) == (0b111, 0b1)


# -- how it is scored -----------------------------------------------------------------------------------------------------------


def test_areas_are_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    slots = rng.integers(-1, 6, (3000, 3)).astype(np.int32)
    held = HeldTraits(slots, 6)
    choices = [Choice((Chosen(0, -1, 0, 0.1, 1.0), Chosen(1, 2, 0, 0.1, 2.0)), 0, 0, 0), Choice((Chosen(3, -1, 0, 0.1, 1.5),), 0, 0, 0)] * 2
    truth = (held.predict(choices) + rng.exponential(3, (3000, 4))).astype(np.float32)
    scores = score_headlines(held, choices, truth, seed=0)
    predicted = held.predict(choices)
    assert set(np.unique(predicted[:, 0])) == {0, 4, 8, 12}
    for n in range(4):
        label = np.zeros(3000)
        label[np.argsort(truth[:, n])[-3:]] = 1
        assert scores.auprc[n] == pytest.approx(average_precision_score(label, predicted[:, n]), abs=1e-6)
        assert scores.auroc[n] == pytest.approx(roc_auc_score(label, predicted[:, n]), abs=1e-6)


# -- a whole run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Atlas]:
    folder = tmp_path_factory.mktemp("headlines")
    loaded, atlas = tiny_atlas(folder)
    return loaded, describe_atlas(loaded, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=folder / "work")


def test_describing_gives_every_side_a_headline_with_scores(described: tuple[LoadedModel, Atlas]) -> None:
    table = described[1].descriptions()
    assert table is not None
    assert set(COLUMNS) <= set(table.columns)
    assert (table["headline"].str.len() > 0).all()
    clear = table[~table["headline"].str.startswith("unclear")]
    assert len(clear) > 0.5 * len(table)
    assert clear["headline"].map(count_words).max() <= MAX_WORDS
    assert clear["headline_auroc"].median() > clear["headline_auroc_null"].median()
    assert table[table["headline"].str.startswith("unclear")]["headline_auprc"].isna().all()
    assert described[1].manifest["descriptions"]["headlines"] == 1


def test_an_atlas_that_was_described_before_gets_the_same_headlines(described: tuple[LoadedModel, Atlas], tmp_path: Path) -> None:
    loaded, atlas = described
    table = atlas.descriptions()
    assert table is not None
    shutil.copytree(atlas.folder, tmp_path / "old")
    old = open_folder(tmp_path / "old", ref=loaded.ref).with_descriptions(
        table.drop(columns=list(COLUMNS)).iloc[::-1], arrays=atlas.embeddings()
    )
    calls = 0

    def stop(done: int, total: int | None, message: str) -> None:
        nonlocal calls
        calls += message == "layers given headlines"
        if calls == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        add_headlines(loaded, old, encode=letter_pairs, held_tokens=DESCRIBE["held_tokens"], work=tmp_path / "work", progress=stop)
    done = add_headlines(loaded, old, encode=letter_pairs, held_tokens=DESCRIBE["held_tokens"], work=tmp_path / "work").descriptions()
    assert done is not None
    order = ["layer", "index", "polarity"]
    one, two = (frame.sort_values(order)[["headline", "headline_auprc", "writes"]].reset_index(drop=True) for frame in (table, done))
    assert one.equals(two)
    assert (done["description"].to_numpy() == table["description"].to_numpy()[::-1]).all()
    assert not (tmp_path / "work").exists()


def test_headlines_need_a_described_atlas_of_these_weights(tmp_path: Path, described: tuple[LoadedModel, Atlas]) -> None:
    loaded, atlas = tiny_atlas(tmp_path, seed=4)
    with pytest.raises(InvalidInput, match="other weights"):
        add_headlines(described[0], atlas)
    with pytest.raises(Exception, match="atlas describe"):
        add_headlines(loaded, atlas)


def test_what_a_side_writes_is_measured(described: tuple[LoadedModel, Atlas]) -> None:
    loaded = described[0]
    effects = Effects(loaded, [np.arange(3, 11)])
    row = loaded.sites[2].output_rows()[5].detach().float()
    head = loaded.model.get_output_embeddings().weight.detach().float()
    token = int((head @ row).argmax())
    one = Writes((token,), ())
    effect, null = effects.measure(2, np.array([5, 5]), np.array([3.0, -3.0], dtype=np.float32), [one, Writes((), (token,))])
    assert effect.min() > 0.01
    assert null[0] == pytest.approx(-effect[0], abs=1e-5)
    assert right(effect, null).all()
    assert not right(-effect, null).any()
    assert sample_rows([one, Writes((), ()), one], seed=0).tolist() == [0, 2]


def test_the_quiz_keeps_its_answers_apart(described: tuple[LoadedModel, Atlas]) -> None:
    loaded, atlas = described
    pieces = piece_table(loaded)
    asked = questions(atlas, pieces, count=12, seed=3)
    assert asked == questions(atlas, pieces, count=12, seed=3)
    assert asked != questions(atlas, pieces, count=12, seed=4)
    text, answers = as_text(asked), answers_text(asked).splitlines()
    assert text.count("[[") >= 24
    assert len(answers) == 12
    assert {line.split("\t")[1] for line in answers} == {"A", "B"}
    assert not any(str(q.side) in text for q in asked)
    detailed = questions(atlas, pieces, count=5, seed=3, by="detail")
    table = atlas.descriptions()
    assert table is not None
    assert detailed[0].text.split("\n   ")[1] in set(table["description"])
    with pytest.raises(InvalidInput):
        questions(atlas, pieces, count=5000, seed=0)
