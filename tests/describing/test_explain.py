"""Headlines by a language model behind a real HTTP server: what is judged better replaces, whatever else comes back changes nothing."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neurons.atlas.store import Atlas, open_folder
from neurons.core.errors import Cancelled, EndpointError, NotFound
from neurons.core.types import NeuronSide
from neurons.describing.endpoint import Client, Endpoint
from neurons.describing.explain import Explaining, needing_headlines, side_places
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.describing.judge import Passage, balanced_accuracy, judge, judging_prompt, read_verdicts
from neurons.describing.survey import piece_table
from neurons.descriptions.edits import Edits
from neurons.descriptions.old_headlines import with_headline_columns
from neurons.models.loaded import LoadedModel
from tests.support.descriptions import DESCRIBE, letter_pairs, tiny_atlas
from tests.support.endpoint_server import Reply, chat_reply, serving

TRUE = "what it really fires on"
SIDES = [NeuronSide(2, n, "+") for n in range(6)]
NAMED = json.dumps({"headlines": [TRUE, "something else"]})


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A tiny model's vocabulary and the folder of its described atlas."""
    folder = tmp_path_factory.mktemp("explain")
    loaded, atlas = tiny_atlas(folder)
    done = describe_atlas(loaded, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=folder / "work")
    return piece_table(loaded), done.folder


@pytest.fixture
def ready(described: tuple[list[str], Path], tmp_path: Path) -> tuple[list[str], Atlas]:
    """The same, the atlas a copy of this test's own."""
    return described[0], open_folder(Path(shutil.copytree(described[1], tmp_path / "atlas")))


def endpoint(url: str, **given: Any) -> Endpoint:
    return replace(Endpoint(url, "m", attempts=1, timeout=5), **given)


class Reader:
    """Answers as a language model that knows where some sides fire: right about `TRUE`, and yes to everything about other headlines."""

    def __init__(self, atlas: Atlas, pieces: list[str], written: Callable[[int], str] = lambda n: NAMED, pause: float = 0.0) -> None:
        self.written, self.pause, self.writings = written, pause, 0
        self.fires: set[str] = set()
        for side in SIDES:
            places = side_places(atlas, pieces, side)
            for one in (*places.choosing, *places.reporting):
                if one.fires:
                    self.fires |= {_shown(judging_prompt("", [one], way))[0] for way in ("detection", "fuzzing")}

    def __call__(self, request: dict[str, Any], n: int) -> Reply:
        time.sleep(self.pause)
        prompt = str(request["messages"][0]["content"])
        if prompt.startswith("You describe"):
            self.writings += 1
            return chat_reply(self.written(self.writings))
        if not prompt.startswith("A neuron"):
            return chat_reply("yes")
        right = prompt.split("\n")[1] == TRUE
        return chat_reply(json.dumps([int(one in self.fires) if right else 1 for one in _shown(prompt)]))


def _shown(prompt: str) -> list[str]:
    return re.findall(r"^\d+\. (.*)$", prompt, re.MULTILINE)


def table_of(atlas: Atlas) -> pd.DataFrame:
    table = atlas.descriptions()
    assert table is not None
    return with_headline_columns(table).set_index(["layer", "index", "polarity"])


def test_a_better_headline_replaces_and_says_how_it_was_judged(ready: tuple[list[str], Atlas], home: Path, tmp_path: Path) -> None:
    pieces, atlas = ready
    before = table_of(atlas)
    with serving(Reader(atlas, pieces)) as server:
        done = Explaining(atlas, pieces, endpoint(server.url), work=tmp_path).run(SIDES)
    assert (done.replaced, done.kept, done.failed) == (6, 0, 0)
    after = table_of(done.atlas)
    changed = after.loc[[(s.layer, s.index, s.polarity) for s in SIDES]]
    assert set(changed["headline"]) == {TRUE}
    assert set(changed["headline_by"]) == {"endpoint m"}
    assert (changed["headline_detection"] > 0.9).all()  # a passage from elsewhere may read like one of the side's own
    assert (changed["headline_fuzzing"] > 0.9).all()
    assert (changed["headline_judged_before"] == 0.5).all()
    assert changed["headline_auroc"].isna().all()
    others = before.index.difference(changed.index)
    assert after.loc[others, "headline"].equals(before.loc[others, "headline"])
    assert after["description"].equals(before["description"])


def test_what_is_judged_no_better_is_not_kept(ready: tuple[list[str], Atlas], home: Path, tmp_path: Path) -> None:
    pieces, atlas = ready
    with serving(Reader(atlas, pieces, lambda n: '{"headlines": ["nothing in particular"]}')) as server:
        done = Explaining(atlas, pieces, endpoint(server.url), work=tmp_path).run(SIDES)
    assert (done.replaced, done.kept, done.failed) == (0, 6, 0)
    assert table_of(done.atlas).equals(table_of(atlas))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('{"headline": ["sport"]}', 'wrong key: "headlines" was asked for, the answer has "headline"'),
        ("sport", "no JSON: the answer holds no JSON object"),
        ('{"headlines": ["' + "word " * 30 + '"]}', "no candidate: no headline of 1 to 12 words in the answer"),
        ('{"headlines": ["unclear: many things"]}', "no candidate: no headline of 1 to 12 words in the answer"),
    ],
)
def test_an_answer_in_another_form_is_said_as_what_it_is(
    ready: tuple[list[str], Atlas], home: Path, tmp_path: Path, written: str, told: str
) -> None:
    pieces, atlas = ready
    with serving(Reader(atlas, pieces, lambda n: written)) as server:
        done = Explaining(atlas, pieces, endpoint(server.url), work=tmp_path).run(SIDES[:1])
    assert (done.replaced, done.kept, done.failed) == (0, 0, 1)
    assert done.tally.told() == [(told, 1)]


def test_a_judge_that_gives_no_verdict_changes_nothing(ready: tuple[list[str], Atlas], home: Path, tmp_path: Path) -> None:
    pieces, atlas = ready
    reader = Reader(atlas, pieces)

    def answer(request: dict[str, Any], n: int) -> Reply:
        return chat_reply("They all fit.") if "described like this" in str(request["messages"]) else reader(request, n)

    with serving(answer) as server:
        done = Explaining(atlas, pieces, endpoint(server.url), work=tmp_path).run(SIDES[:2])
    assert (done.replaced, done.failed) == (0, 2)
    assert list(done.tally.failures) == ["no verdict"]
    assert "They all fit." in done.tally.told()[0][0]


def test_answers_are_kept_and_failures_asked_again(ready: tuple[list[str], Atlas], home: Path, tmp_path: Path) -> None:
    pieces, atlas = ready
    with serving(Reader(atlas, pieces, lambda n: NAMED if n % 2 else "nothing")) as server:
        first = Explaining(atlas, pieces, endpoint(server.url, concurrency=1), work=tmp_path).run(SIDES)
    assert (first.replaced, first.failed) == (3, 3)
    reader = Reader(atlas, pieces)
    with serving(reader) as server:
        second = Explaining(first.atlas, pieces, endpoint(server.url), work=tmp_path).run(SIDES)
    assert (second.replaced, second.kept, second.failed, reader.writings) == (3, 0, 0, 3)


def test_a_stopped_run_goes_on(ready: tuple[list[str], Atlas], home: Path, tmp_path: Path) -> None:
    pieces, atlas = ready

    def stop(done: int, total: int | None, message: str) -> None:
        if done == 3:
            raise Cancelled

    with serving(Reader(atlas, pieces)) as server, pytest.raises(Cancelled):
        Explaining(atlas, pieces, endpoint(server.url, concurrency=1), work=tmp_path).run(SIDES, progress=stop)
    reader = Reader(atlas, pieces)
    with serving(reader) as server:
        done = Explaining(atlas, pieces, endpoint(server.url), work=tmp_path).run(SIDES)
    assert done.replaced == 6
    assert reader.writings <= 3


def test_a_forecast_is_within_a_factor_of_two(ready: tuple[list[str], Atlas], home: Path, tmp_path: Path) -> None:
    pieces, atlas = ready
    sides = [NeuronSide(layer, n, "+") for layer in range(2) for n in range(12)]
    with serving(Reader(atlas, pieces, pause=0.02)) as server:
        expected = Explaining(atlas, pieces, endpoint(server.url, concurrency=2), work=tmp_path).forecast(sides)
        begun = time.monotonic()
        done = Explaining(atlas, pieces, endpoint(server.url, concurrency=2), work=tmp_path).run(sides)
        took = time.monotonic() - begun
    assert expected.sides == len(sides) - 3
    assert expected.seconds is not None
    assert 0.5 < expected.seconds / took < 2
    assert expected.prompt_tokens == pytest.approx(done.tally.prompt_tokens, rel=0.5)


def test_what_a_person_wrote_is_not_asked_about_and_a_dead_endpoint_is_named(
    ready: tuple[list[str], Atlas], home: Path, tmp_path: Path
) -> None:
    pieces, atlas = ready
    Edits.of(atlas.ref).describe(SIDES[0], "mine")
    with serving(lambda request, n: (500, "oops")) as server:
        run = Explaining(atlas, pieces, endpoint(server.url), work=tmp_path)
        assert run.open_sides(SIDES[:2]) == [SIDES[1]]
        with pytest.raises(EndpointError, match="check its address"):
            run.run(SIDES[:2])
        with pytest.raises(NotFound, match="no neuron"):
            run.open_sides([NeuronSide(99, 0)])


def test_those_that_need_it_most_come_first(ready: tuple[list[str], Atlas]) -> None:
    table = table_of(ready[1]).reset_index()
    table["headline"] = "letters"
    table["headline_check"] = 0.5
    table.loc[7, "headline"] = "unclear"
    table.loc[9, "headline_check"] = 0.1
    table.loc[11, ["headline", "headline_by"]] = ["unclear", "endpoint m"]
    first = [NeuronSide(int(row["layer"]), int(row["index"]), row["polarity"]) for _, row in table.loc[[7, 9]].iterrows()]
    assert needing_headlines(table, most=2) == tuple(first)
    eleven = table.loc[11]
    assert NeuronSide(int(eleven["layer"]), int(eleven["index"]), eleven["polarity"]) not in needing_headlines(table)


# -- the judge ----------------------------------------------------------------------------------------------------------------


def test_places_serve_one_purpose_each(ready: tuple[list[str], Atlas]) -> None:
    pieces, atlas = ready
    places = side_places(atlas, pieces, SIDES[0])
    assert all(one.rank % 4 != 3 for one in places.shown)
    assert len(places.shown) == 8
    for passages in (places.choosing, places.reporting):
        assert [sum(one.fires is kind for one in passages) for kind in (True, False)] == [6, 6]
    shown = {("".join(pieces[i] for i in one.ids[: one.peak]), pieces[one.ids[one.peak]]) for one in places.shown}
    assert not shown & {(one.before, one.token) for one in (*places.choosing, *places.reporting)}
    assert side_places(atlas, pieces, SIDES[0]) == places


def test_detection_hides_the_mark_and_fuzzing_shows_it() -> None:
    passage = Passage("before <<it>> ", "peak", "\nafter", True)
    assert "before <it> peak⏎after" in judging_prompt("x", [passage], "detection")
    assert "before <it> <<peak>>⏎after" in judging_prompt("x", [passage], "fuzzing")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[1, 0, 1]", [True, False, True]),
        ("Sure: [True, False, true].", [True, False, True]),
        ("[1, 0]", None),
        ("[1, 0, 2]", None),
        ("1, 0, 1", None),
        ("[" * 5000, None),
        ('["1", "0", "1"]', None),
    ],
)
def test_verdicts_are_read_or_refused(content: str, found: list[bool] | None) -> None:
    assert read_verdicts(content, 3) == found


def test_saying_yes_to_everything_is_chance() -> None:
    assert balanced_accuracy([True] * 4, [True, True, True, False]) == 0.5
    assert balanced_accuracy([True, False], [True, False]) == 1


def test_the_real_default_model_as_the_judge(default_model: LoadedModel) -> None:
    """A small real model behind a server: whatever it answers is a verdict, or counted as none."""
    import torch

    def generate(request: dict[str, Any], n: int) -> Reply:
        tokenizer = default_model.tokenizer
        text = str(tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True))
        ids = tokenizer(text, return_tensors="pt").input_ids
        with default_model.lock, torch.no_grad():
            out = default_model.model.generate(ids, max_new_tokens=16, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        return chat_reply(str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)))

    passages = [Passage("I like ", "cats", " very much", True), Passage("a train to ", "Vienna", " at noon", False)]
    with serving(generate) as server:
        client = Client(endpoint(server.url, timeout=120))
        verdict = judge(client, "animals", passages, seed=0)
    assert (verdict.failure == "no verdict") or 0 <= verdict.judged.mean <= 1
    assert client.tally.asked == client.tally.answered + sum(client.tally.failures.values())
