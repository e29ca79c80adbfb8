"""Whether conversations become the ids that the model's own template gives, at every turn; and what else of it is to be known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress
from neurons.core.types import Message
from neurons.models.chat import encode_prompt, token_text
from neurons.models.findings import Finding
from neurons.models.loaded import LoadedModel
from neurons.models.template import as_turns, template_source

TURNS = (
    ("user", "What is the capital of Turkey?"),
    ("assistant", "The capital of Turkey is Ankara."),
    ("user", "And of France?\n\nAnswer in one word."),
    ("assistant", "Paris"),
    ("user", "  Thank you. "),
)
SYSTEM = "Be concise."
_DATES = re.compile(r"strftime_now|datetime|date_string|current_date")
_DEFAULTS = (
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_new_tokens",
    "min_length",
    "exponential_decay_length_penalty",
    "sequence_bias",
    "guidance_scale",
    "num_beams",
)
"""Settings of a generation config that change what `generate` takes as the next token, whatever the sampling."""
_NEUTRAL: tuple[Any, ...] = (None, 0, 1, 1.0, [], {}, False)


def check_chat(loaded: LoadedModel, progress: Progress) -> list[Finding]:
    """The findings on the template, on where an answer ends and on settings of the model's that are not followed."""
    progress(0, None, "checking the model: conversations")
    findings = [*_conversations(loaded), *_ends(loaded), *_defaults(loaded)]
    if _DATES.search(template_source(loaded)):
        today = datetime.now(UTC).astimezone().date().isoformat()
        said = f"its chat template writes the day into the prompt ({today} today), so another day gives other ids; each trace keeps its own"
        findings.append(Finding("date", "note", said))
    return findings


def _conversations(loaded: LoadedModel) -> list[Finding]:
    if not loaded.has_chat_template:
        return [Finding("conversations", "note", "it has no chat template: it completes plain text, turns are joined by line breaks")]
    turns = [Message(role, text) for role, text in TURNS]  # type: ignore[arg-type]
    findings: list[Finding] = []
    whole, stop = True, 1
    for system in ((), (Message("system", SYSTEM),)):
        before: list[int] = []
        for stop in range(1, len(turns) + 1, 2):
            messages = [*system, *turns[:stop]]
            name = f"turn {stop // 2 + 1}{' with a system text' if system else ''}"
            try:
                got, wanted = encode_prompt(loaded, messages).ids, _templated(loaded, messages)
            except InvalidInput as error:
                findings.append(Finding("conversations", "note", f"{name}: {error}"))
                break
            if list(got) != wanted:
                at = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
                said = f"{name}: the prompt's ids are not those of its chat template from token {at} on ({len(got)} ids for {len(wanted)})"
                return [Finding("conversations", "refused", said, float(at))]
            whole = whole and wanted[: len(before)] == before
            before = wanted
    said = f"the ids of {stop // 2 + 1} turns are its chat template's, at every turn"
    findings.insert(0, Finding("conversations", "right", said))
    if not whole:
        said = (
            "its chat template rewrites earlier turns (thoughts left out, a text moved): a later turn does not begin with the earlier ones"
        )
        findings.append(Finding("later turns", "note", said))
    return findings


def _templated(loaded: LoadedModel, messages: Sequence[Message]) -> list[int]:
    tokenizer: Any = loaded.tokenizer
    encoded = tokenizer.apply_chat_template(as_turns(loaded, messages), add_generation_prompt=True, tokenize=True, return_dict=True)
    return [int(token) for token in encoded["input_ids"]]


def _ends(loaded: LoadedModel) -> list[Finding]:
    if not loaded.eos_ids:
        return [Finding("ends", "note", "it names no token that ends an answer: every answer goes on to the most tokens allowed")]
    names = ", ".join(repr(token_text(loaded, token)) for token in sorted(loaded.eos_ids))
    return [Finding("ends", "right", f"an answer ends at {names}")]


def _defaults(loaded: LoadedModel) -> list[Finding]:
    """Settings that `generate` would follow and our loop does not."""
    config: Any = loaded.model.generation_config
    asked = {name: value for name in _DEFAULTS if (value := getattr(config, name, None)) not in _NEUTRAL} if config else {}
    if not asked:
        return []
    shown = ", ".join(f"{name} {str(value)[:40]}" for name, value in asked.items())
    return [Finding("generation config", "note", f"its files ask for {shown}, which is not followed here: tokens are taken as they come")]
