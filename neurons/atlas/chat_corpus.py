"""Conversations that the model writes itself, in its own chat format: the corpus's chat part, always labelled so.

Batched sampling with a fixed seed. Finished conversations are appended to a JSONL file, so a stopped run goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from neurons.atlas.chat_prompts import draw_prompts
from neurons.core.errors import InvalidFile, InvalidInput
from neurons.core.json_text import json_text
from neurons.core.progress import Progress, no_progress
from neurons.core.types import Message
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.storage.files import write_atomic


@dataclass(frozen=True)
class ChatSettings:
    """How the conversations are drawn."""

    conversations: int = 800
    max_new_tokens: int = 160
    temperature: float = 0.8
    top_p: float = 0.95
    batch: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Conversation:
    """One generated conversation."""

    number: int
    category: str
    ids: tuple[int, ...]
    """The whole conversation in the model's chat format, the answer's end marker included where the model wrote it."""
    prefix: int
    """Leading tokens that every conversation shares (the template's own system turn)."""


def generate_conversations(loaded: LoadedModel, path: Path, settings: ChatSettings, *, progress: Progress = no_progress) -> int:
    """Write `settings.conversations` conversations to `path` (JSONL), going on after those it holds. Returns how many it holds.

    Raises `InvalidInput` for a model without a chat template.
    """
    if not loaded.has_chat_template:
        raise InvalidInput(f"{loaded.ref.name} has no chat template; build the corpus without chat", field="chat")
    prompts = draw_prompts(settings.conversations, seed=settings.seed)
    done = _count_whole_lines(path)
    prefix = _shared_prefix(loaded)
    while done < settings.conversations:
        batch = prompts[done : done + settings.batch]
        first = [encode_prompt(loaded, messages).ids for _, messages, _ in batch]
        answers = _sample(loaded, first, settings, seed=settings.seed * 1_000_003 + done)
        whole = [prompt + answer for prompt, answer in zip(first, answers, strict=True)]
        second = [n for n, (_, _, follow_up) in enumerate(batch) if follow_up and len(answers[n]) < settings.max_new_tokens]
        if second:
            turns = [(*batch[n][1], Message("assistant", "", token_ids=answers[n]), Message("user", batch[n][2] or "")) for n in second]
            longer = [encode_prompt(loaded, messages).ids for messages in turns]
            more = _sample(loaded, longer, settings, seed=settings.seed * 1_000_003 + done + 1)
            for n, prompt, answer in zip(second, longer, more, strict=True):
                whole[n] = prompt + answer
        with path.open("a", encoding="utf-8") as file:
            for n, ids in enumerate(whole):
                own_system = batch[n][1][0].role == "system"
                record = {"number": done + n, "category": batch[n][0], "prefix": 0 if own_system else prefix, "ids": list(ids)}
                file.write(json_text(record) + "\n")
        done += len(batch)
        progress(done, settings.conversations, "conversations written by the model itself")
    return done


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a JSONL file. Raises `InvalidFile` naming the line that is damaged."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record: dict[str, Any] = json.loads(line)
                yield Conversation(int(record["number"]), str(record["category"]), tuple(map(int, record["ids"])), int(record["prefix"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidFile(f"{path.name}, line {number}, is no conversation; delete the file to generate it again") from error


def _count_whole_lines(path: Path) -> int:
    """How many whole lines the file holds; a cut-off last line is removed."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        write_atomic(path, whole)
    return whole.count(b"\n")


def _shared_prefix(loaded: LoadedModel) -> int:
    """How many leading tokens two conversations without a system message of their own share: the template's system turn."""
    one = encode_prompt(loaded, (Message("user", "a"),)).ids
    two = encode_prompt(loaded, (Message("user", "Zebra 7"),)).ids
    shared = 0
    while shared < min(len(one), len(two)) and one[shared] == two[shared]:
        shared += 1
    return shared


def _sample(loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], settings: ChatSettings, *, seed: int) -> list[tuple[int, ...]]:
    """One sampled answer per prompt, its end marker included. The same seed draws the same answers."""
    loaded.check_batches("a corpus of conversations", max(map(len, prompts)) + settings.max_new_tokens)
    pad, width = min(loaded.eos_ids, default=0), max(map(len, prompts))
    ids_BT = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts], device=loaded.device)
    mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=loaded.device)
    draw = _Draw(settings, loaded.eos_ids, width, torch.Generator(device="cpu").manual_seed(seed))
    config = cast(Any, GenerationConfig)(
        do_sample=False,  # `draw` samples, from a generator of its own: other threads use the global one
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=sorted(loaded.eos_ids) or None,
        pad_token_id=pad,
    )
    with loaded.lock, torch.inference_mode():
        out_BT: Any = cast(Any, loaded.model).generate(
            ids_BT, attention_mask=mask_BT, generation_config=config, logits_processor=LogitsProcessorList([draw])
        )
    return [_ended(ids, loaded.eos_ids) for ids in out_BT[:, width:].tolist()]


def _ended(ids: Sequence[int], eos_ids: Collection[int]) -> tuple[int, ...]:
    """The ids up to the first end marker, that included: padding follows it."""
    stop = next((n + 1 for n, token in enumerate(ids) if token in eos_ids), len(ids))
    return tuple(ids[:stop])


class _Draw(LogitsProcessor):
    """Nucleus sampling as a processor of logits: the drawn token of each row alone stays possible. Rows that have ended draw nothing."""

    def __init__(self, settings: ChatSettings, eos_ids: Collection[int], prompt_tokens: int, generator: torch.Generator) -> None:
        self._settings, self._generator, self._prompt_tokens = settings, generator, prompt_tokens
        self._eos_E = torch.tensor(sorted(eos_ids), dtype=torch.long)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(B, V) logits to (B, V): 0 at the drawn token, minus infinity elsewhere."""
        answered_BT = input_ids[:, self._prompt_tokens :].cpu()
        going_R = (~torch.isin(answered_BT, self._eos_E).any(1)).nonzero()[:, 0]
        drawn_R = _draw(scores[going_R.to(scores.device)].float().cpu(), self._settings, self._generator)
        chosen_BV = torch.full_like(scores, -torch.inf)
        chosen_BV[:, 0] = 0.0  # a row that has ended is padded, whatever stands here
        chosen_BV[going_R, 0] = -torch.inf
        chosen_BV[going_R, drawn_R.to(scores.device)] = 0.0
        return cast(torch.FloatTensor, chosen_BV)


def _draw(logits_BV: torch.Tensor, settings: ChatSettings, generator: torch.Generator) -> torch.Tensor:
    """Nucleus sampling of one token per row: (B,) int64."""
    values_BK, ids_BK = (logits_BV / settings.temperature).topk(min(256, logits_BV.shape[1]), dim=-1)
    probs_BK = values_BK.softmax(-1)
    probs_BK = probs_BK.masked_fill(probs_BK.cumsum(-1) - probs_BK >= settings.top_p, 0.0)
    return ids_BK.gather(1, torch.multinomial(probs_BK, 1, generator=generator))[:, 0]
