"""A steer over a set of prompts and seeds: the same runs with and without it, counted, with intervals and a check against chance.

Each (prompt, seed) is one row: both answers with the same settings, whether each meets the criterion, the chosen token's probability, the
mean KL per token, length and repetition, and the same for random neurons matched in number and layer. Rows survive a stop; the summary is
computed from rows alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from neurons.atlas.quantiles import quantiles_for
from neurons.core.errors import InvalidInput
from neurons.core.json_text import json_text
from neurons.core.progress import Progress, no_progress
from neurons.core.quantile_table import QuantileTable
from neurons.core.repetition import repetition
from neurons.core.steers import Steer
from neurons.core.types import Message, NeuronSide, Sampling
from neurons.models.chat import decode, encode_prompt, single_token
from neurons.models.loaded import LoadedModel
from neurons.prompts.sets import PromptSet
from neurons.prompts.values import Expected
from neurons.runs.generation import generate
from neurons.runs.hooks import run_forward
from neurons.runs.kl import kl_divergence
from neurons.runs.steering import compile_edits, needs_quantiles, placed, resolve
from neurons.statistics.criteria import Criterion, verdict_criterion, without_full_stop
from neurons.statistics.rows import Facts, Row

FORMAT = "neuronscope-statistics"
_MAX_RUNS = 200_000
_NO_EXTREME = 1e-6  # a neuron that never fired on a side: no part of it can be told


@dataclass(frozen=True)
class Conversation:
    """One prompt of the set."""

    id: str
    messages: tuple[Message, ...]
    expected: Criterion | None = None
    """What this prompt's own answer should hold; None: the comparison's criterion."""

    @property
    def text(self) -> str:
        """The last user message."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def unit(self) -> str:
        """The same for equal conversations: they are one prompt, asked again."""
        said = json_text([(m.role, m.content.strip()) for m in self.messages], ascii_only=True)
        return hashlib.sha256(said.encode("ascii")).hexdigest()[:16]


@dataclass(frozen=True)
class ComparisonSpec:
    """What is compared."""

    prompts: tuple[Conversation, ...]
    steers: tuple[Steer, ...]
    criterion: Criterion | None = None
    """What an answer should hold. None: only the other figures are made."""
    token: str | None = None
    """A token whose probability as the answer's first is compared."""
    seeds: int = 1
    """Runs per prompt, with seeds 0, 1...; greedy decoding needs one."""
    random_sets: int = 3
    """Draws of random neurons matched in number and layer; 0 for none."""
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=32))
    name: str = ""

    def check(self) -> ComparisonSpec:
        """Return self, or raise `InvalidInput`."""
        self.sampling.check()
        if not self.prompts:
            raise InvalidInput("no prompts given; add at least one", field="prompts")
        if not any(not s.is_noop for s in self.steers):
            raise InvalidInput("the steers change nothing; switch one on, with neurons and a strength", field="steers")
        for steer in self.steers:
            steer.check()
        if self.criterion is not None:
            self.criterion.check("criterion")
        if not 1 <= self.seeds <= 1000:
            raise InvalidInput(f"{self.seeds} seeds; use 1 to 1000", field="seeds")
        if self.sampling.greedy and self.seeds > 1:
            raise InvalidInput(
                "greedy decoding gives the same answer for every seed; use one seed, or a temperature above 0", field="seeds"
            )
        if not 0 <= self.random_sets <= 100:
            raise InvalidInput(f"{self.random_sets} random sets; use 0 to 100", field="random_sets")
        if self.runs > _MAX_RUNS:
            raise InvalidInput(f"that is {self.runs:,} runs; at most {_MAX_RUNS:,} are done: use fewer seeds or prompts", field="seeds")
        return self

    @property
    def runs(self) -> int:
        """Answers to be generated."""
        return len(self.prompts) * self.seeds * (2 + self.random_sets)


def measure(
    loaded: LoadedModel,
    spec: ComparisonSpec,
    *,
    done: Iterable[Mapping[str, Any]] = (),
    on_row: Callable[[dict[str, Any]], None],
    progress: Progress = no_progress,
) -> None:
    """Make the rows that are not in `done` and hand each to `on_row`. `Cancelled` from `progress` passes through; finished rows are out."""
    spec.check()
    token_id = None if spec.token is None else single_token(loaded, spec.token)
    needed = needs_quantiles(spec.steers) or (spec.random_sets > 0 and any(s.needs_values for s in spec.steers if not s.is_noop))
    quantiles = quantiles_for(loaded, progress=progress) if needed else None
    steers = resolve(loaded, spec.steers, quantiles=quantiles)
    draws = [_random_match(loaded, steers, random.Random(f"{spec.sampling.seed}/{n}"), quantiles) for n in range(spec.random_sets)]
    finished = {row["row"] for row in done}
    wanted = [(prompt, seed) for prompt in spec.prompts for seed in range(spec.seeds)]
    for n, (prompt, seed) in enumerate(wanted):
        key = f"{prompt.id}/{seed}"
        progress(n, len(wanted), f"comparing prompt {prompt.id}")
        if key not in finished:
            on_row(_row(loaded, spec, prompt, seed, steers, draws, token_id, key).to_json())
    progress(len(wanted), len(wanted), "done")


def _row(
    loaded: LoadedModel,
    spec: ComparisonSpec,
    prompt: Conversation,
    seed: int,
    steers: Sequence[Steer],
    draws: Sequence[Sequence[Steer]],
    token_id: int | None,
    key: str,
) -> Row:
    """One pair and its random companions."""
    about = {"row": key, "prompt_id": prompt.id, "prompt": prompt.text, "seed": seed, "unit": prompt.unit}
    try:
        encoded = encode_prompt(loaded, prompt.messages)
        ids = encoded.ids
        criterion = prompt.expected or spec.criterion
        sampling = replace(spec.sampling, seed=spec.sampling.seed + seed)
        plain_ids = generate(loaded, ids, sampling=sampling, record=False).answer_ids
        plain_TV = _log_probabilities(loaded, ids, plain_ids, ())
        found = {"plain": _facts(loaded, criterion, plain_ids, plain_TV, None, token_id)}
        for name, used in (("steered", steers), *((f"random {n + 1}", draw) for n, draw in enumerate(draws))):
            used = placed(used, encoded.question)
            answer = generate(loaded, ids, sampling=sampling, steers=used, record=False).answer_ids
            forced_TV = _log_probabilities(loaded, ids, plain_ids, used)
            found[name] = _facts(loaded, criterion, answer, forced_TV, plain_TV, token_id)
    except InvalidInput as error:
        return Row.model_validate({**about, "error": str(error)})
    return Row.model_validate({**about, **found})


def _log_probabilities(loaded: LoadedModel, ids: Sequence[int], answer: Sequence[int], steers: Sequence[Steer]) -> torch.Tensor:
    """Log-probabilities before each of the answer's tokens, the answer forced; shape (len(answer), V), float32."""
    whole = [*ids, *answer]
    output = run_forward(loaded, torch.tensor([whole]), edits=compile_edits(loaded, steers, len(ids)), logits_to_keep=len(answer) + 1)
    assert output.logits is not None
    return output.logits[0, :-1].float().log_softmax(-1)


def _facts(
    loaded: LoadedModel,
    criterion: Criterion | None,
    answer: Sequence[int],
    forced_TV: torch.Tensor,
    plain_TV: torch.Tensor | None,
    token_id: int | None,
) -> Facts:
    text = decode(loaded, answer)
    span = None if criterion is None else criterion.span(text)
    return Facts(
        answer=text,
        met=None if criterion is None else span is not None,
        met_at=span,
        token_probability=None if token_id is None else float(forced_TV[0, token_id].exp()),
        kl=0.0 if plain_TV is None else float(kl_divergence(plain_TV, forced_TV).mean()),
        length=len(answer),
        repetition=repetition(answer),
    )


def _random_match(
    loaded: LoadedModel, steers: Sequence[Steer], chooser: random.Random, quantiles: QuantileTable | None
) -> tuple[Steer, ...]:
    """The same steers on other neurons of the same layers and sides, drawn at random, each as strong for itself as the one it stands for.

    A neuron that is set to .75 of its extreme is matched by one set to .75 of its own extreme, however the steer was saved.
    """
    taken = {(side.layer, side.index) for steer in steers for side in steer.neurons}
    drawn = []
    for steer in steers:
        sides = []
        for side in steer.neurons:
            width = loaded.sites[side.layer].width
            free = [i for i in range(width) if (side.layer, i) not in taken] or list(range(width))
            index = chooser.choice(free)
            taken.add((side.layer, index))
            sides.append(NeuronSide(side.layer, index, side.polarity))
        values = None if quantiles is None or not steer.needs_values else _own_strengths(steer, sides, quantiles)
        drawn.append(replace(steer, neurons=tuple(sides), values=values))
    return tuple(drawn)


def _own_strengths(steer: Steer, sides: Sequence[NeuronSide], quantiles: QuantileTable) -> tuple[float, ...]:
    """For each of `sides` its own extreme, times the part of its extreme that the steer's value is for the neuron it stands for."""
    extremes, own = quantiles.values(steer.neurons), quantiles.values(sides)
    values = extremes if steer.values is None else steer.values
    parts = [value / extreme if abs(extreme) > _NO_EXTREME else 1.0 for value, extreme in zip(values, extremes, strict=True)]
    return tuple(float(part * mine) for part, mine in zip(parts, own, strict=True))


def from_prompt_set(prompts: PromptSet, criterion: Criterion | None = None) -> tuple[Conversation, ...]:
    """The prompts of a set, named by their ids where these tell them apart, else by their rows.

    Without a `criterion` for all, each answer is held against what its prompt says is expected.
    """
    ids = [row.id for row in prompts.rows]
    named = all(ids) and len(set(ids)) == len(ids)
    expected = [expected_criterion(row.expected) if criterion is None and row.expected is not None else None for row in prompts.rows]
    rows = zip(prompts.rows, expected, strict=True)
    return tuple(Conversation(row.id if named else str(row.row), row.messages, what) for row, what in rows)


def expected_criterion(expected: Expected) -> Criterion:
    """What an answer is held against, of what a prompt says is expected; a full stop at its end aside."""
    if expected.kind == "verdict":
        return verdict_criterion(yes="yes" in expected.texts)
    texts = tuple(map(without_full_stop, expected.texts)) if expected.kind == "contains" else expected.texts
    return Criterion(texts[0], expected.kind, texts[1:]).check("expected")
