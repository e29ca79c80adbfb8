"""Ask a language model for better descriptions of the sides that need them, and keep those that prove better. Resumable, never worse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.atlas.store import Atlas
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.core.progress import Progress, no_progress
from neurons.core.types import NeuronSide
from neurons.describing.endpoint import Answer, Client, Endpoint, Example, Forecast, Tally, build_prompt, forecast
from neurons.describing.recording import Recording, record_windows
from neurons.describing.score import auprc, pearson
from neurons.describing.survey import Windows, heldout_rows, is_check, piece_table, read_windows
from neurons.descriptions.edits import Edits
from neurons.descriptions.features import Part
from neurons.descriptions.kinds import UNCLEAR, kind_of
from neurons.descriptions.patterns import Pattern, predict
from neurons.descriptions.quiz import side_at
from neurons.descriptions.render import parse, render
from neurons.models.loaded import LoadedModel

TOKENS = 24_576
"""Tokens of check and of held-out text that candidates are scored on."""
MARGIN = 0.01
"""A candidate must correlate this much better than the template on the check documents."""
_SHOWN = 8


@dataclass(frozen=True)
class Improved:
    """What a run did."""

    atlas: Atlas
    tally: Tally
    replaced: int
    kept: int
    """Sides whose template proved at least as good."""
    failed: int
    """Sides without a usable answer; asked again by the next run."""


def needing(table: pd.DataFrame, *, share: float = 0.5, most: int | None = None) -> tuple[NeuronSide, ...]:
    """Sides worth asking about: unclear ones, and those whose score is below `share` of their ceiling; the most predictable first."""
    score = table["score"].fillna(0).to_numpy(dtype=np.float64)
    ceiling = table["ceiling"].fillna(0).to_numpy(dtype=np.float64)
    rows = np.flatnonzero((table["source"].to_numpy() == "template") & (score < share * ceiling))
    rows = rows[np.argsort(-(ceiling - score)[rows], kind="stable")][:most]
    return tuple(side_at(table, int(row)) for row in rows)


def side_prompt(atlas: Atlas, pieces: Sequence[str], side: NeuronSide, second: str, template: str, *, candidates: int) -> str:
    """The prompt about one side, from its strongest places."""
    found = atlas.exemplars(side.layer, side.index, side.polarity)[:_SHOWN]
    strongest = max((abs(e.value) for e in found), default=1.0) or 1.0
    examples = [
        Example(
            "".join(pieces[i] for i in e.ids[: e.peak]),
            pieces[e.ids[e.peak]],
            "".join(pieces[i] for i in e.ids[e.peak + 1 :]),
            round(10 * abs(e.value) / strongest),
        )
        for e in found
    ]
    return build_prompt(examples, second, template, candidates=candidates)


def predict_run(client: Client, atlas: Atlas, pieces: Sequence[str], sides: Sequence[NeuronSide]) -> Forecast:
    """Tokens, cost and time of asking about `sides`, from asking about a few of them. Reading the text that judges is not in it.

    Raises `EndpointError` when the endpoint does not answer.
    """
    client.probe()
    table, endpoint = _table(atlas), client.endpoint
    some = max(3, endpoint.concurrency)
    sample = sides[:: max(1, len(sides) // some)][:some]
    prompts = [side_prompt(atlas, pieces, side, *_texts(table, side), candidates=endpoint.candidates) for side in sample]
    return forecast(endpoint, prompts, len(sides), seconds_each=client.pace(prompts) if prompts else None)


def improve_descriptions(
    loaded: LoadedModel,
    atlas: Atlas,
    endpoint: Endpoint,
    sides: Iterable[NeuronSide],
    *,
    tokens: int = TOKENS,
    work: Path | None = None,
    progress: Progress = no_progress,
) -> Improved:
    """Ask about `sides` and write what proved better into the atlas. Hand-written and locked descriptions are never asked about.

    Stopping keeps every answer on disk; the next run with the same endpoint model goes on. Raises `EndpointError` when the endpoint does
    not answer at all, `InvalidInput` when the atlas is of other weights, `NotFound` when it has no descriptions.
    """
    if atlas.ref.weights_hash != loaded.ref.weights_hash:
        raise InvalidInput(f"this atlas was collected from {atlas.ref.name} with other weights; use that model", field="atlas")
    table = _table(atlas)
    edits = Edits.of(loaded.ref)
    wanted = [side for side in dict.fromkeys(sides) if not edits.get(side).locked and edits.get(side).description is None]
    folder = work or subfolder("work") / f"endpoint-{loaded.ref.weights_hash[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    client = Client(endpoint)
    try:
        if wanted:
            client.probe()
        answers = _ask_all(client, atlas, piece_table(loaded), table, wanted, folder / "answers.jsonl", progress)
    finally:
        client.close()
    judge = _Judge(loaded, atlas, folder, tokens, progress)
    replaced = kept = 0
    table = table.copy()
    rows = {side_at(table, row): row for row in range(len(table))}
    for side, candidates in answers.items():
        row = rows[side]
        best = judge.best(side, candidates, str(table["description"].iloc[row]))
        if best is None:
            kept += 1
            continue
        replaced += 1
        values = {**best, "source": f"endpoint {endpoint.model}"}
        table.loc[table.index[row], list(values)] = pd.Series(values)
    meta = {key: value for key, value in atlas.manifest.get("descriptions", {}).items() if key not in ("table", "arrays", "described")}
    described = atlas.with_descriptions(table, arrays=atlas.embeddings(), meta=meta) if replaced else atlas
    for recording in ("check", "held-out"):
        shutil.rmtree(folder / recording, ignore_errors=True)
    return Improved(described, client.tally, replaced, kept, len(wanted) - len(answers))


def _ask_all(
    client: Client,
    atlas: Atlas,
    pieces: Sequence[str],
    table: pd.DataFrame,
    sides: Sequence[NeuronSide],
    path: Path,
    progress: Progress,
) -> dict[NeuronSide, tuple[Pattern, ...]]:
    """Candidates per side, from the file of an earlier run or from the endpoint. Failures are left out, so a later run asks again."""
    known = _read_answers(path, client.endpoint.model, str(atlas.manifest["created"]))
    found = {side: known[side] for side in sides if side in known}
    open_sides = [side for side in sides if side not in found]
    atlas.corpus.n_sequences  # noqa: B018  # read it once, before the threads share it

    def ask(side: NeuronSide) -> Answer:
        return client.ask(side_prompt(atlas, pieces, side, *_texts(table, side), candidates=client.endpoint.candidates))

    pool = ThreadPoolExecutor(client.endpoint.concurrency, thread_name_prefix="endpoint")
    try:
        with path.open("a", encoding="utf-8") as file:
            waiting = {pool.submit(ask, side): side for side in open_sides}
            for done, future in enumerate(as_completed(waiting)):
                side, answer = waiting[future], future.result()
                if answer.failure is None:
                    found[side] = answer.candidates
                    line = {"model": client.endpoint.model, "atlas": atlas.manifest["created"], "side": str(side)}
                    file.write(json_text({**line, "candidates": [render(c) for c in answer.candidates]}) + "\n")
                    file.flush()
                progress(done + 1, len(open_sides), f"neurons asked about ({sum(client.tally.failures.values())} failed)")
    finally:
        pool.shutdown(cancel_futures=True)
    return dict(sorted(found.items()))


def _read_answers(path: Path, model: str, created: str) -> dict[NeuronSide, tuple[Pattern, ...]]:
    found: dict[NeuronSide, tuple[Pattern, ...]] = {}
    for text in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            line = json.loads(text)
            if line["model"] == model and line["atlas"] == created:
                found[NeuronSide.parse(line["side"])] = tuple(parse(candidate) for candidate in line["candidates"])
        except (ValueError, KeyError, TypeError):
            continue  # a line cut off when the run was killed
    return found


class _Judge:
    """Scores candidates: chooses on check documents, reports on held-out ones."""

    def __init__(self, loaded: LoadedModel, atlas: Atlas, folder: Path, tokens: int, progress: Progress) -> None:
        corpus, pieces = atlas.corpus, piece_table(loaded)
        check = [n for n in range(corpus.n_describe) if is_check(int(corpus.document_S[n]))]
        counted = np.cumsum(corpus.counted_S[check])
        check = check[: int(np.searchsorted(counted, tokens)) + 1]
        key = f"{corpus.fingerprint}:{loaded.ref.weights_hash}:{loaded.ref.dtype}:{tokens}"
        self.windows: tuple[Windows, Windows] = (
            read_windows(corpus, check, pieces),
            read_windows(corpus, heldout_rows(corpus, tokens), pieces),
        )
        self.recordings: tuple[Recording, Recording] = (
            record_windows(loaded, self.windows[0], folder / "check", key=key, progress=progress, message="check tokens read"),
            record_windows(loaded, self.windows[1], folder / "held-out", key=key, progress=progress, message="held-out tokens read"),
        )

    def best(self, side: NeuronSide, candidates: Sequence[Pattern], template: str) -> dict[str, object] | None:
        """The columns of the best candidate, or None when the template is at least as good on the check documents."""
        patterns: list[Pattern | None] = [*candidates, None if template == UNCLEAR else parse(template)]
        parts: dict[Part, int] = {}
        for pattern in patterns:
            for part, _ in pattern.parts if pattern else ():
                parts.setdefault(part, len(parts))
        checked = self._scores(0, side, patterns, parts)[0]
        winner = int(np.argmax(checked[:-1]))
        if checked[winner] < max(float(checked[-1]), 0.0) + MARGIN:
            return None
        scored, precision = self._scores(1, side, [candidates[winner]], parts)
        return {
            "description": render(candidates[winner]),
            "kind": kind_of([part for part, _ in candidates[winner].parts], [float(level) for _, level in candidates[winner].parts]),
            "score": round(float(scored[0]), 3),
            "auprc": round(float(precision[0]), 3),
            "check": round(float(checked[winner]), 3),
        }

    def _scores(
        self, which: int, side: NeuronSide, patterns: Sequence[Pattern | None], parts: dict[Part, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = self.windows[which].features(parts, range(len(self.windows[which].ids)))
        column = int(side.polarity == "-")
        truth = self.recordings[which].sides(side.layer, slice(side.index, side.index + 1))[:, column : column + 1]
        true_TN = np.repeat(truth, len(patterns), axis=1)
        predicted_TN = predict(patterns, features, parts)
        return np.nan_to_num(pearson(predicted_TN, true_TN)), auprc(predicted_TN, true_TN)


def _table(atlas: Atlas) -> pd.DataFrame:
    table = atlas.descriptions()
    if table is None:
        raise NotFound("this atlas has no descriptions yet; run `neuronscope atlas describe` without an endpoint first")
    return table


def _texts(table: pd.DataFrame, side: NeuronSide) -> tuple[str, str]:
    """(second line, description) of a side."""
    rows = table[(table["layer"] == side.layer) & (table["index"] == side.index) & (table["polarity"] == side.polarity)]
    if rows.empty:
        raise NotFound(f"the atlas has no neuron {side}")
    return str(rows["second"].iloc[0]), str(rows["description"].iloc[0])
