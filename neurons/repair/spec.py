"""What a repair is asked to do, read from JSON or typed, and checked as far as that goes without the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurons.core.errors import InvalidFile, InvalidInput
from neurons.core.types import Message, NeuronSide
from neurons.repair.batch import Tokens
from neurons.repair.controls import propose_controls
from neurons.repair.paraphrases import template_paraphrases
from neurons.statistics.criteria import Criterion, fixed, parse_criterion

MIN_PARAPHRASES = 2
_MAX_PROMPTS = 500
_MAX_CHARACTERS = 20_000
_KEYS = frozenset(  # "model" is read by the command line
    (
        "prompt",
        "wanted",
        "unwanted",
        "paraphrases",
        "controls",
        "heldout",
        "max_neurons",
        "max_new_tokens",
        "control_tokens",
        "seed",
        "system",
        "tokens",
        "within",
        "name",
        "model",
    )
)


@dataclass(frozen=True)
class Control:
    """A prompt whose answer should stay as it is."""

    prompt: str
    expected: Criterion | None = None
    """What the unsteered answer must hold. Checked before the search: a control that is wrong already guards nothing."""


@dataclass(frozen=True)
class RepairSpec:
    """One wrong answer and what is wanted instead."""

    prompt: str
    wanted: Criterion
    unwanted: Criterion | None = None
    """What must not come before the wanted text. None: the wanted text alone decides."""
    paraphrases: tuple[str, ...] = ()
    """Other ways to ask; part of them is held out."""
    controls: tuple[Control, ...] = ()
    heldout: float = 0.5
    """Share of the paraphrases that the search never sees; at least one is held out and one is not."""
    max_neurons: int = 20
    max_new_tokens: int = 20
    """Length of the questions' answers in which the wanted text is looked for."""
    control_tokens: int = 12
    """Length of the controls' answers, every token of which should stay."""
    seed: int = 0
    """Which paraphrases are held out, and the draws of the random baselines."""
    system: str | None = None
    """System prompt of every run; None is the model's own."""
    tokens: Tokens = "question"
    """Which tokens the steer may act on: the question's and the answer's, or the answer's alone."""
    within: tuple[NeuronSide, ...] = ()
    """Only these neurons may be used (a concept's or a cluster's); empty: any."""
    name: str = ""
    paraphrases_proposed: bool = False
    """The paraphrases came from the built-in templates."""
    controls_proposed: bool = False
    """The controls are the built-in everyday prompts."""


def parse_spec(data: Any) -> RepairSpec:
    """Read a repair from parsed JSON and check it. Raises `InvalidInput` whose `field` is what is wrong."""
    if not isinstance(data, Mapping):
        raise InvalidInput('a repair is a JSON object with "prompt" and "wanted"; see docs/repair.md', field="spec")
    unknown = sorted(set(map(str, data)) - _KEYS)
    if unknown:
        raise InvalidInput(f"a repair has no {unknown[0]!r}; it has {', '.join(sorted(_KEYS))}", field=unknown[0])
    for key in ("prompt", "wanted"):
        if key not in data:
            raise InvalidInput(f'a repair needs "{key}"', field=key)
    prompt = _prompt(data["prompt"], "prompt")
    wanted = parse_criterion(data["wanted"], "wanted")
    unwanted = None if data.get("unwanted") in (None, "") else parse_criterion(data["unwanted"], "unwanted")
    given = data.get("paraphrases")
    paraphrases = (
        tuple(_prompt(item, "paraphrases") for item in _list(given, "paraphrases")) if given is not None else template_paraphrases(prompt)
    )
    listed = data.get("controls")
    proposed = propose_controls((prompt, *paraphrases)) if listed is None else ()
    controls = tuple(_control(item) for item in (proposed if listed is None else _list(listed, "controls")))
    system = data.get("system")
    if system is not None and not isinstance(system, str):
        raise InvalidInput("system is not a text", field="system")
    tokens = data.get("tokens", "question")
    if tokens not in ("question", "answer"):
        raise InvalidInput(f'tokens is {tokens!r}; use "question" (the question and the answer) or "answer"', field="tokens")
    within = tuple(NeuronSide.parse(str(item)) for item in _list(data.get("within") or [], "within", most=100_000))
    spec = RepairSpec(
        prompt=prompt,
        wanted=wanted,
        unwanted=unwanted,
        paraphrases=paraphrases,
        controls=controls,
        heldout=_number(data, "heldout", RepairSpec.heldout),
        max_neurons=int(_number(data, "max_neurons", RepairSpec.max_neurons)),
        max_new_tokens=int(_number(data, "max_new_tokens", RepairSpec.max_new_tokens)),
        control_tokens=int(_number(data, "control_tokens", RepairSpec.control_tokens)),
        seed=int(_number(data, "seed", 0)),
        system=system,
        tokens=tokens,
        within=within,
        name=str(data.get("name", "")),
        paraphrases_proposed=given is None,
        controls_proposed=listed is None,
    )
    return check_spec(spec)


def check_spec(spec: RepairSpec) -> RepairSpec:
    """Return self, or raise `InvalidInput`: everything that can be seen to be wrong without the model."""
    spec.wanted.check("wanted")
    if spec.unwanted is not None:
        spec.unwanted.check("unwanted")
        same = spec.unwanted.text.strip().casefold() == spec.wanted.text.strip().casefold()
        if same or (
            spec.unwanted.kind != "regex"
            and spec.wanted.find(spec.unwanted.text) is not None
            and len(spec.unwanted.text) == len(spec.wanted.text)
        ):
            raise InvalidInput(f"wanted and unwanted are the same ({spec.wanted}); say what the answer should be instead", field="unwanted")
        if spec.wanted.kind != "regex" and spec.unwanted.find(spec.wanted.text) == 0:
            raise InvalidInput(
                f"unwanted ({spec.unwanted}) matches the wanted text ({spec.wanted}) itself; make it narrower", field="unwanted"
            )
    _check_prompts([spec.prompt, *spec.paraphrases], "paraphrases", "the prompt")
    _check_prompts([control.prompt for control in spec.controls], "controls", "a control")
    if len(spec.paraphrases) < MIN_PARAPHRASES:
        raise InvalidInput(
            f"{len(spec.paraphrases)} paraphrases given, {MIN_PARAPHRASES} needed: one to search with, one to hold out", field="paraphrases"
        )
    if not spec.controls:
        raise InvalidInput(
            "no controls given: a fix without a check of what else it changes is worth nothing; leave them out to use ours",
            field="controls",
        )
    asked = {_key(text) for text in (spec.prompt, *spec.paraphrases)}
    for control in spec.controls:
        if _key(control.prompt) in asked:
            raise InvalidInput(f"{control.prompt!r} is a control and is to change too; take it from one list", field="controls")
    for key, value, low, high in (
        ("heldout", spec.heldout, 0.0, 1.0),
        ("max_neurons", spec.max_neurons, 1, 500),
        ("max_new_tokens", spec.max_new_tokens, 1, 256),
        ("control_tokens", spec.control_tokens, 1, 256),
        ("seed", spec.seed, 0, 2**63 - 1),
    ):
        if not (math.isfinite(value) and low <= value <= high):
            raise InvalidInput(f"{key} is {value}; use a number from {low} to {high}", field=key)
    return spec


def load_spec(path: str | Path) -> tuple[RepairSpec, dict[str, Any]]:
    """Read a spec file: the repair, and the raw object (for its "model" and "steer"). Raises `InvalidFile` when it is no JSON."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"cannot read {path}: {error}", field="spec") from error
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidFile(f"{path} is not JSON: {error}", field="spec") from error
    return parse_spec(data), data


def spec_to_json(spec: RepairSpec) -> dict[str, Any]:
    """The object that `parse_spec` reads back."""
    return {
        "name": spec.name,
        "prompt": spec.prompt,
        "wanted": _criterion_json(spec.wanted),
        "unwanted": None if spec.unwanted is None else _criterion_json(spec.unwanted),
        "paraphrases": list(spec.paraphrases),
        "controls": [
            c.prompt if c.expected is None else {"prompt": c.prompt, "expected": _criterion_json(c.expected)} for c in spec.controls
        ],
        "heldout": spec.heldout,
        "max_neurons": spec.max_neurons,
        "max_new_tokens": spec.max_new_tokens,
        "control_tokens": spec.control_tokens,
        "seed": spec.seed,
        "system": spec.system,
        "tokens": spec.tokens,
        "within": [str(side) for side in spec.within],
    }


def messages_of(spec: RepairSpec, prompt: str) -> tuple[Message, ...]:
    """One of a repair's prompts as the conversation that is run."""
    return (Message("user", prompt),) if spec.system is None else (Message("system", spec.system), Message("user", prompt))


def is_fixed(spec: RepairSpec, answer: str) -> bool:
    """Whether an answer counts as fixed: the wanted text is there and the unwanted one does not come before it."""
    return fixed(answer, spec.wanted, spec.unwanted)


def _criterion_json(criterion: Criterion) -> Any:
    return criterion.text if criterion.kind == "contains" else {criterion.kind: criterion.text}


def _control(item: Any) -> Control:
    if isinstance(item, Mapping):
        if unknown := sorted(set(map(str, item)) - {"prompt", "expected"}):
            raise InvalidInput(f"a control has no {unknown[0]!r}; it has prompt and expected (what its answer holds)", field="controls")
        expected = item.get("expected")
        return Control(_prompt(item.get("prompt"), "controls"), None if expected is None else parse_criterion(expected, "controls"))
    return Control(_prompt(item, "controls"))


def _prompt(value: Any, field: str) -> str:
    if isinstance(value, Mapping):
        value = value.get("prompt")
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{field}: {value!r} is not a prompt; write a text", field=field)
    if len(value) > _MAX_CHARACTERS:
        raise InvalidInput(f"{field}: a prompt of {len(value)} characters; use at most {_MAX_CHARACTERS}", field=field)
    return value


def _list(value: Any, field: str, *, most: int = _MAX_PROMPTS) -> Sequence[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"{field} is not a list of prompts", field=field)
    if len(value) > most:
        raise InvalidInput(f"{len(value)} {field} given; use at most {most}", field=field)
    return value


def _check_prompts(prompts: Sequence[str], field: str, what: str) -> None:
    seen: dict[str, str] = {}
    for text in prompts:
        if not text.strip():
            raise InvalidInput(f"{field}: one of them is empty; remove it", field=field)
        if (key := _key(text)) in seen:
            raise InvalidInput(f"{field}: {text!r} is there twice (or repeats {what}); remove one", field=field)
        seen[key] = text


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def _number(data: Mapping[str, Any], key: str, default: float) -> float:
    value = data.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{key} is {value!r}; use a number", field=key)
    return float(value)
