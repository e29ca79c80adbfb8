"""Whether our own loop, in pieces and with its cache, gives what one uncached pass of transformers gives, and else how to run the model.

Wrong without it are, among others: state-space layers that lose their state between the pieces of a prompt, position codes that
change with the length of the text while the cache keeps the old ones, models that ignore the cache or count positions from 0 again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurons.checking.plain import plain_logprobs
from neurons.core.errors import ModelError
from neurons.core.progress import Progress
from neurons.core.types import Sampling
from neurons.models.findings import PIECE, Finding, Running
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import generate

NEW, BEYOND, SHORT = 8, 24, 24
"""Tokens of an answer, of a prompt beyond the first piece, and of a short prompt."""
FLOOR = 2e-3
"""Nats by which a log-probability may differ in float32, where rounding is smaller than this."""
ROUNDING = 6.0
"""How often the rounding that a pass of another length shows may be met, for data types with coarser rounding."""
AFFORDABLE = {"cpu": 4e12, "other": 1e15}
"""Weights x tokens of one pass that the check spends on texts beyond a position code's original context."""
FAILS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError, NotImplementedError)
"""What a model raises that cannot be run in one of the ways tried."""
CHANGING = ("longrope", "dynamic")
"""Position codes whose frequencies depend on the length of the text."""


@dataclass(frozen=True, eq=False)
class _Text:
    ids: tuple[int, ...]
    where: str


@dataclass(frozen=True)
class _Difference:
    """Our loop against the plain pass, nats."""

    largest: float
    mean: float
    """Of the head or the tail of the text, whichever differs more."""
    ids: bool
    """Whether the answer is the plain pass's."""
    error: str = ""


def check_loop(loaded: LoadedModel, progress: Progress) -> tuple[Running, list[Finding]]:
    """How to run the model, and what was found. The findings hold a refusal where no way gives the right numbers."""
    changes = length_dependent(loaded)
    texts = list(_texts(loaded, changes))
    tolerance = _tolerance(loaded, texts[0].ids)
    found: dict[Running, list[_Difference]] = {}
    ways = list(_ways(changes))
    for number, running in enumerate(ways):
        differences: list[_Difference] = []
        for text in texts:
            progress(number, len(ways), f"checking the model: its answers against plain transformers, {text.where}")
            differences.append(_difference(replace(loaded, running=running), text))
            if not _right(differences[-1], loaded, tolerance):
                break
        found[running] = differences
        if len(differences) == len(texts) and _right(differences[-1], loaded, tolerance):
            return running, [_finding(running, differences, texts, found, changes)]
    first = found[ways[-1]][-1]
    why = first.error or f"log-probabilities differ by up to {first.largest:.2g} nats"
    said = f"no way of running it here gives the numbers of one pass of plain transformers ({why})"
    return Running(), [Finding("answers", "refused", said, first.largest)]


def length_dependent(loaded: LoadedModel) -> int | None:
    """The length within the model's positions after which its position code is another one, or None."""
    lengths = []
    for module in loaded.model.modules():
        kinds = getattr(module, "rope_type", None)
        kinds = list(kinds.values()) if isinstance(kinds, dict) else [kinds]
        if not any(kind in CHANGING for kind in kinds):
            continue
        params = getattr(getattr(module, "config", None), "rope_parameters", None) or {}
        nested = [value for value in params.values() if isinstance(value, dict)] or [params]
        given = [value.get("original_max_position_embeddings") for value in nested if value.get("rope_type") in CHANGING]
        lengths += [int(value) if value else int(getattr(module, "original_max_seq_len", 0)) for value in given]
    return min((length for length in lengths if 0 < length < loaded.ref.max_positions), default=None)


def failure(error: Exception) -> str:
    """What went wrong, in short. Raises `ModelError` where it was the memory alone: another time the model may be right."""
    if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error):
        raise ModelError("the device ran out of memory while the model was checked; close other programs, or use another device") from error
    return f"{type(error).__name__}: {str(error)[:160]}"


def some_ids(loaded: LoadedModel, count: int, *, seed: int = 0) -> tuple[int, ...]:
    """Ordinary tokens by chance, after the start token where the model uses one."""
    special = set(loaded.tokenizer.all_special_ids)
    limit = min(loaded.ref.n_vocab, len(loaded.tokenizer))
    drawn = torch.randint(0, limit, (4 * count + 64,), generator=torch.Generator().manual_seed(seed)).tolist()
    ids = [token for token in drawn if token not in special] or drawn
    start = [loaded.tokenizer.bos_token_id] if loaded.tokenizer.bos_token_id is not None else []
    return tuple((start + ids)[:count])


def _texts(loaded: LoadedModel, changes: int | None) -> Iterator[_Text]:
    room = loaded.ref.max_positions - NEW - 1
    yield _Text(some_ids(loaded, min(SHORT, room)), "a short prompt")
    length = min(PIECE + BEYOND, room)
    if changes is not None and length <= changes < length + NEW:  # a text that grows across the change has two right answers
        length = changes + 1 if changes < room else changes - NEW
    if length > SHORT:
        yield _Text(some_ids(loaded, length, seed=1), f"a prompt of {length} tokens")
    spend = AFFORDABLE["cpu" if loaded.device.type == "cpu" else "other"]
    if changes is not None and changes >= length and changes + NEW < room and loaded.model.num_parameters() * changes < spend:
        yield _Text(some_ids(loaded, changes + NEW, seed=2), f"a prompt of {changes + NEW} tokens")


def _ways(changes: int | None) -> Iterator[Running]:
    """Ways of running a model, the cheapest first."""
    for piece in (PIECE, None):
        for positions in (False, True):
            yield Running(piece, positions, changes)
    yield Running(None, False, 0)
    yield Running(None, True, 0)


def _tolerance(loaded: LoadedModel, ids: Sequence[int]) -> float:
    """Nats by which rounding alone may move a log-probability.

    Seen in two plain passes of the same tokens, one of them longer; with coarse data types at least a step of theirs of the logits' range.
    """
    whole, part = plain_logprobs(loaded, ids), plain_logprobs(loaded, ids[:-3])
    taken = torch.tensor(ids[1:-3])[:, None]
    seen = float((whole[: len(taken)].gather(1, taken) - part[: len(taken)].gather(1, taken)).abs().mean())
    reach = float((whole.amax(-1) - whole.mean(-1)).mean())
    return max(FLOOR, ROUNDING * seen, torch.finfo(loaded.dtype).eps * reach)


def _difference(loaded: LoadedModel, text: _Text) -> _Difference:
    try:
        run = generate(loaded, text.ids, sampling=Sampling(max_new_tokens=NEW), record=False)
    except FAILS as error:
        return _Difference(float("inf"), float("inf"), False, failure(error))
    ids = run.prompt_ids + run.answer_ids
    plain_TV = plain_logprobs(loaded, ids[:-1])
    wanted = plain_TV.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    off = (torch.from_numpy(run.logprob_T[1:]) - wanted).abs()
    tail = max(0, min(PIECE, len(text.ids)) - 1)
    parts = [part for part in (off[:tail], off[tail:]) if len(part)]
    return _Difference(float(off.max()), max(float(part.mean()) for part in parts), _same_answer(plain_TV, run.prompt_ids, run.answer_ids))


def _same_answer(plain_TV: Tensor, prompt: Sequence[int], answer: Sequence[int]) -> bool:
    """Whether each token of the greedy answer is the plain pass's, near ties left aside."""
    rows = plain_TV[len(prompt) - 1 :]
    best = rows.topk(2, dim=-1)
    clear = best.values[:, 0] - best.values[:, 1] > FLOOR
    return bool((~clear | (best.indices[:, 0] == torch.tensor(list(answer)))).all())


def _right(found: _Difference, loaded: LoadedModel, tolerance: float) -> bool:
    if loaded.ref.dtype == "float32":
        return found.ids and found.largest <= tolerance
    return found.mean <= tolerance


def _finding(
    running: Running,
    differences: Sequence[_Difference],
    texts: Sequence[_Text],
    tried: dict[Running, list[_Difference]],
    changes: int | None,
) -> Finding:
    largest = max(difference.largest for difference in differences)
    lengths = " and ".join(str(len(text.ids)) for text in texts)
    agrees = (
        f"answers to prompts of {lengths} tokens are those of one pass of plain transformers (log-probabilities within {largest:.1g} nats)"
    )
    usual = Running(cached=running.cached)
    if running == Running():
        return Finding("answers", "right", f"in pieces and with its cache, {agrees}", largest)
    ways = []
    if changes is not None and running.cached == changes:
        ways.append(f"texts longer than {changes} tokens anew for every token, since its position code changes there")
    if running.cached == 0:
        ways.append("anew for every token, without a cache")
    elif running.piece is None:
        ways.append("prompts whole instead of in pieces")
    if running.positions:
        ways.append("each token told its position")
    wrong = tried.get(usual, [])
    why = ""
    if running != usual and wrong:
        last = wrong[-1]
        why = f"; the usual way {'fails' if last.error else f'is off by {last.largest:.2g} nats'} with {texts[len(wrong) - 1].where}"
    return Finding("answers", "otherwise", f"run {', '.join(ways)}, {agrees}{why}", largest)
