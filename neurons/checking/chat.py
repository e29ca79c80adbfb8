"""Whether conversations become the ids that the model's own template gives, at every turn; and what else of it is to be known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress
from neurons.core.types import Message, Sampling
from neurons.models.chat import embedding_rows, encode_prompt, token_text
from neurons.models.findings import Finding
from neurons.models.loaded import LoadedModel
from neurons.models.template import as_turns, template_source
from neurons.runs.followed import ignored_by, offered_by

TURNS = (
    ("user", "What is the capital of Turkey?"),
    ("assistant", "The capital of Turkey is Ankara."),
    ("user", "And of France?\n\nAnswer in one word."),
    ("assistant", "Paris"),
    ("user", "  Thank you. "),
)
SYSTEM = "Be concise."
_DATES = re.compile(r"strftime_now|datetime|date_string|current_date")


def check_vocabulary(loaded: LoadedModel) -> Finding:
    """Whether the weights have a row for every token of the tokenizer: of its ends and template always, of the others as it may be."""
    rows, known = embedding_rows(loaded), len(loaded.tokenizer)
    special = {loaded.tokenizer.bos_token_id, *loaded.eos_ids} - {None}
    if outside := sorted(token for token in special if token >= rows):
        names = ", ".join(map(str, outside))
        said = f"its tokenizer's tokens {names} have no row in its weights ({rows} rows): it is another model's tokenizer"
        return Finding("vocabulary", "refused", said)
    if known > rows:
        said = f"{known - rows} of its tokenizer's {known} tokens have no row in its weights: a text that holds one is refused"
        return Finding("vocabulary", "note", said)
    return Finding("vocabulary", "right", f"its weights have a row for each of the tokenizer's {known} tokens")


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
    """Settings that `generate` would follow and our loop does not, unless it is told to."""
    ignored = ignored_by(loaded, Sampling())
    if not ignored:
        return []
    offered = ", ".join(name for name, _ in offered_by(loaded))
    told = f" unless it is asked for (--penalties, or the settings of the Trace page): {offered}" if offered else ""
    return [Finding("generation config", "note", f"{ignored}{told}")]
