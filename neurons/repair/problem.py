"""A repair made ready for a model: prompts as ids, unsteered answers, what is held out, and where each answer is decided."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.models.chat import decode, encode_prompt, encode_text, single_token
from neurons.models.loaded import LoadedModel
from neurons.repair.batch import Batcher, Plan, Row
from neurons.repair.fixed import mentions, why_not_fixed
from neurons.repair.neighbours import Neighbour, neighbours
from neurons.repair.regex_example import examples
from neurons.repair.spec import Control, RepairSpec, is_fixed, messages_of
from neurons.repair.steers import SCOPES

_NEAR = 8  # of the proposed controls are near questions, where so many are answered right
_ENDS = 50  # likeliest tokens among which one is looked for that ends the wanted text


@dataclass(frozen=True)
class Question:
    """A prompt with the unsteered greedy answer. Ids are without the batcher's prefix."""

    prompt: str
    ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    """With the end token, where the answer ended by itself."""
    answer: str
    begin: int = 0
    """How many of `ids` come before the question's own tokens."""

    @property
    def row(self) -> Row:
        return self.with_answer(())

    def with_answer(self, ids: Sequence[int]) -> Row:
        """The prompt with an answer, or with its beginning."""
        return Row((*self.ids, *ids), len(self.ids), self.begin)

    @property
    def answered(self) -> Row:
        """The prompt with the unsteered answer, less its last token, which nothing follows."""
        return self.with_answer(self.answer_ids[:-1])

    def answer_picks(self, head: int) -> list[int]:
        """Positions whose logits chose the answer's tokens, counted over prefix + row."""
        first = head + len(self.ids) - 1
        return list(range(first, first + len(self.answer_ids)))


@dataclass(frozen=True)
class Decision:
    """Where a question's answer is decided: the answer up to there should stay, then the wanted tokens should be chosen."""

    row: Row
    """Ends just before the last wanted token."""
    picks: tuple[int, ...]
    """Positions over prefix + row whose logits choose `chosen`."""
    chosen: tuple[int, ...]
    """The answer's own tokens before the decision, then the wanted ones."""
    turn: int
    """Where in `chosen` the answer should turn to the wanted text: what comes before is the answer's own."""
    wrong: int
    """The token that was chosen instead of the first wanted one (itself, where the answer is right)."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything the search needs, and the held-out questions that it never looks at."""

    spec: RepairSpec
    batcher: Batcher
    train: tuple[Question, ...]
    """The prompt first, then the paraphrases that are not held out."""
    heldout: tuple[Question, ...]
    controls: tuple[Question, ...]
    wanted_texts: tuple[str, ...]
    """Literal texts that satisfy the criterion."""
    near: int = 0
    """How many of the controls, the last ones, ask the same as the prompt of something else and are answered right."""

    @property
    def head(self) -> int:
        """Tokens of the prefix that every prompt shares: it ends where the question begins, or before."""
        return len(self.batcher.prefix)

    @property
    def scope(self) -> str:
        """The token scope of the steers that the search builds."""
        return SCOPES[self.batcher.tokens]


def prepare(loaded: LoadedModel, spec: RepairSpec, *, progress: Progress = no_progress) -> Problem:
    """Run the unsteered model over everything and check what only the model can tell.

    Raises `InvalidInput` when the prompt is answered right already, when the wanted text has no tokens, and when a control with an
    expected answer is answered wrong.
    """
    progress(0, 3, "asking the unsteered model")
    close = neighbours((spec.prompt, *spec.paraphrases), seed=spec.seed) if spec.controls_proposed else ()
    asked_already = {one.prompt for one in close}
    spec = replace(spec, controls=tuple(c for c in spec.controls if c.prompt not in asked_already))
    prompts = [spec.prompt, *spec.paraphrases, *(c.prompt for c in spec.controls), *(one.prompt for one in close)]
    encoded = [encode_prompt(loaded, messages_of(spec, text)) for text in prompts]
    starts = [0 if one.question is None else one.question[0] for one in encoded]
    head = min(shared_prefix([one.ids for one in encoded]), *starts)
    batcher = Batcher(loaded, encoded[0].ids[:head], spec.tokens)
    rows = [Row(one.ids[head:], len(one.ids) - head, start - head) for one, start in zip(encoded, starts, strict=True)]
    questions = _ask(batcher, prompts[:1], rows[:1], spec.max_new_tokens)
    if is_fixed(spec, questions[0].answer):
        raise InvalidInput(f"the model already answers this right: {questions[0].answer.strip()!r}; nothing to repair", field="prompt")
    split = 1 + len(spec.paraphrases)
    progress(1, 3, "asking the unsteered model")
    questions += _ask(batcher, prompts[1:split], rows[1:split], spec.max_new_tokens)
    progress(2, 3, "asking the unsteered model")
    end = split + len(spec.controls)
    controls = _ask(batcher, prompts[split:end], rows[split:end], spec.control_tokens)
    for control, question in zip(spec.controls, controls, strict=True):
        if control.expected is not None and not control.expected.met(question.answer):
            said, lacks = question.answer.strip(), str(control.expected)
            raise InvalidInput(
                f"control {control.prompt!r} is answered wrong without any steer: {said!r} lacks {lacks!r}; "
                "remove it or expect what the model says",
                field="controls",
            )
    near = _right(_ask(batcher, prompts[end:], rows[end:], spec.control_tokens), close) if close else []
    kept = max(0, len(spec.controls) - len(near))
    spec = replace(spec, controls=(*spec.controls[:kept], *(Control(one.prompt, one.expected) for one, _ in near)))
    controls = [*controls[:kept], *(question for _, question in near)]
    order = list(range(1, split))
    random.Random(spec.seed).shuffle(order)
    seen = max(1, min(len(order) - 1, round(len(order) * (1 - spec.heldout))))
    train = [0, *sorted(order[:seen])]
    held = sorted(order[seen:])
    return Problem(
        spec,
        batcher,
        tuple(questions[i] for i in train),
        tuple(questions[i] for i in held),
        tuple(controls),
        _wanted_texts(loaded, spec),
        len(near),
    )


def _right(questions: Sequence[Question], close: Sequence[Neighbour]) -> list[tuple[Neighbour, Question]]:
    """The first few of some near questions that the unsteered model answers right."""
    good = [pair for pair in zip(close, questions, strict=True) if not why_not_fixed(pair[1].answer, pair[0].expected)]
    return good[:_NEAR]


def decide(problem: Problem, question: Question, answer_ids: Sequence[int], answer_plan: Plan) -> Decision:
    """Where `answer_ids` (given under `answer_plan`) should have turned to the wanted text.

    At the unwanted text where it is there, else at the place where the wanted text comes closest to being chosen.
    """
    loaded, batcher, head = problem.batcher.loaded, problem.batcher, problem.head
    answer = [i for i in answer_ids if i not in loaded.eos_ids]
    base = question.with_answer(answer)
    picks = list(range(head + len(question.ids) - 1, head + len(base.ids)))
    logits_TV = batcher.logits([base], [picks], [answer_plan])[0]
    place = _unwanted_at(loaded, problem.spec, answer)
    best: tuple[float, int, tuple[int, ...]] | None = None
    for t in [place] if place is not None else range(len(answer) + 1):
        for pieces in _wanted_pieces(loaded, problem.wanted_texts, answer, t):
            gap = float(logits_TV[t, pieces[0]] - logits_TV[t].max())
            if best is None or gap > best[0]:
                best = (gap, t, pieces)
    if best is None:
        raise InvalidInput(f"the wanted answer {str(problem.spec.wanted)!r} has no tokens in this model; write another", field="wanted")
    _, t, wanted = best
    chosen = (*answer[:t], *wanted)
    chosen = (*chosen, *_boundary(problem, question, chosen, answer_plan))
    return _decision(problem, question, chosen, t, int(logits_TV[t].argmax()))


def _boundary(problem: Problem, question: Question, chosen: Sequence[int], plan: Plan) -> tuple[int, ...]:
    """The token that has to end the wanted text, where it would be run on into another word ("W" into "Won"); else nothing."""
    loaded, spec, batcher = problem.batcher.loaded, problem.spec, problem.batcher
    row = question.with_answer(chosen)
    logits_V = batcher.logits([row], [[problem.head + len(row.ids) - 1]], [plan])[0][0]
    likely = torch.topk(logits_V, min(_ENDS, len(logits_V))).indices.tolist()
    good = [token for token in likely if is_fixed(spec, decode(loaded, (*chosen, token)))]
    return () if not good or good[0] == likely[0] else (good[0],)


def settled(problem: Problem, question: Question, answer_ids: Sequence[int]) -> Decision | None:
    """The decision of an answer that is right: its wanted text should stay where it is. None where it is wrong."""
    loaded, spec = problem.batcher.loaded, problem.spec
    if not is_fixed(spec, decode(loaded, answer_ids)):
        return None
    texts = [decode(loaded, answer_ids[: t + 1]) for t in range(len(answer_ids))]
    end = next((t for t, text in enumerate(texts) if is_fixed(spec, text)), None)
    if end is None:
        return None
    start = mentions(texts[end], spec.wanted)[0][0][0]
    turn = next(t for t, text in enumerate(texts) if len(text) > start)
    return _decision(problem, question, tuple(answer_ids[: end + 1]), turn, answer_ids[turn])


def _decision(problem: Problem, question: Question, chosen: tuple[int, ...], turn: int, wrong: int) -> Decision:
    first = problem.head + len(question.ids) - 1
    row = question.with_answer(chosen[:-1])
    return Decision(row, tuple(range(first, first + len(chosen))), chosen, turn, wrong)


def margins(logits_PV: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
    """Logit of each chosen token minus the largest other: positive where greedy decoding takes it. Shape (P,)."""
    chosen_P = torch.tensor(list(chosen), device=logits_PV.device)[:, None]
    others = logits_PV.scatter(1, chosen_P, float("-inf"))
    return logits_PV.gather(1, chosen_P)[:, 0] - others.amax(1)


def shared_prefix(encoded: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps at least one of its own."""
    shortest = min(len(ids) for ids in encoded) - 1
    length = 0
    while length < shortest and all(ids[length] == encoded[0][length] for ids in encoded):
        length += 1
    return length


def _ask(batcher: Batcher, prompts: Sequence[str], rows: Sequence[Row], new_tokens: int) -> list[Question]:
    answers = batcher.generate(rows, new_tokens)
    return [Question(p, r.ids, a, decode(batcher.loaded, a), r.begin) for p, r, a in zip(prompts, rows, answers, strict=True)]


def _wanted_texts(loaded: LoadedModel, spec: RepairSpec) -> tuple[str, ...]:
    wanted = spec.wanted
    if wanted.kind == "token":
        single_token(loaded, wanted.text)
    if wanted.kind != "regex":
        return (wanted.text.strip(),)
    found = examples(wanted.text)
    if not found:
        raise InvalidInput(
            f"no example text was found for the regular expression {wanted.text!r}; write a simpler one, such as A|B", field="wanted"
        )
    return found


def _unwanted_at(loaded: LoadedModel, spec: RepairSpec, answer: Sequence[int]) -> int | None:
    """The token of the answer in which the unwanted text begins."""
    if spec.unwanted is None:
        return None
    named, _ = mentions(decode(loaded, answer), spec.unwanted)
    if not named:
        return None
    start = named[0][0]
    return next((t for t in range(len(answer)) if len(decode(loaded, answer[: t + 1])) > start), None)


def _wanted_pieces(loaded: LoadedModel, texts: Sequence[str], answer: Sequence[int], t: int) -> list[tuple[int, ...]]:
    """The wanted texts as the tokens that would go at place t of the answer: with the case and the space that fit there."""
    before = decode(loaded, answer[:t])
    replaced = decode(loaded, answer[: t + 1])[len(before) :] if t < len(answer) else ""
    space = replaced[:1].isspace() if replaced.strip() else bool(before) and before[-1:].isalnum()
    if re.search(r"\w$", before) and not space:
        return []  # inside a word
    found = []
    for text in texts:
        for form in dict.fromkeys((text, text[:1].upper() + text[1:], text[:1].lower() + text[1:])):
            ids = encode_text(loaded, (" " if space else "") + form, bos=False)
            if ids:
                found.append(ids)
    return found
