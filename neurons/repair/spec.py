"""What a repair is asked to do, read from JSON or typed, and checked as far as that goes without the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from neurons.core.boundary import Boundary, checked
from neurons.core.errors import InvalidInput
from neurons.core.outside_json import read_json_file
from neurons.core.types import Message, NeuronSide
from neurons.repair.batch import Tokens
from neurons.repair.controls import propose_controls
from neurons.repair.fixed import why_not_fixed
from neurons.repair.paraphrases import template_paraphrases
from neurons.statistics.criteria import Criterion, parse_criterion

MIN_PARAPHRASES = 2
_MAX_PROMPTS = 500
_MAX_CHARACTERS = 20_000


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
    """What the answer must not name, but to deny it. None: the wanted text alone decides."""
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


def _number(value: Any) -> Any:
    """Numbers alone: a text or true and false are none, although the library would take them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return value


def _prompts(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("is not a list of prompts")
    if len(value) > _MAX_PROMPTS:
        raise ValueError(f"{len(value)} given; use at most {_MAX_PROMPTS}")
    return value


def _prompt(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("prompt")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is not a prompt; write a text")
    if len(value) > _MAX_CHARACTERS:
        raise ValueError(f"a prompt of {len(value)} characters; use at most {_MAX_CHARACTERS}")
    return value


def _criterion(value: Any, info: ValidationInfo) -> Criterion:
    return value if isinstance(value, Criterion) else parse_criterion(value, str(info.field_name))


def _optional_criterion(value: Any, info: ValidationInfo) -> Criterion | None:
    return None if value in (None, "") else _criterion(value, info)


def _side(value: Any) -> NeuronSide:
    return value if isinstance(value, NeuronSide) else NeuronSide.parse(str(value))


_Prompt = Annotated[str, BeforeValidator(_prompt)]
_Count = Annotated[int, BeforeValidator(_number)]


class _ControlJson(Boundary):
    """A control as people write it: a text, or an object with what its answer holds."""

    prompt: _Prompt
    expected: Annotated[Criterion | None, BeforeValidator(_optional_criterion)] = None

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping) else {"prompt": value}


class SpecJson(Boundary):
    """A repair as people write it and jobs keep it; null is the same as left out."""

    prompt: _Prompt
    wanted: Annotated[Criterion, BeforeValidator(_criterion)]
    unwanted: Annotated[Criterion | None, BeforeValidator(_optional_criterion)] = None
    paraphrases: Annotated[tuple[_Prompt, ...] | None, BeforeValidator(_prompts)] = None
    controls: Annotated[tuple[_ControlJson, ...] | None, BeforeValidator(_prompts)] = None
    heldout: Annotated[float, BeforeValidator(_number)] = RepairSpec.heldout
    max_neurons: _Count = RepairSpec.max_neurons
    max_new_tokens: _Count = RepairSpec.max_new_tokens
    control_tokens: _Count = RepairSpec.control_tokens
    seed: _Count = RepairSpec.seed
    system: str | None = None
    tokens: Tokens = RepairSpec.tokens
    within: Annotated[tuple[Annotated[NeuronSide, BeforeValidator(_side)], ...], Field(max_length=100_000)] = ()
    name: str = ""
    model: str = ""
    """Which model the command line loads."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        return {str(key): item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value

    def to_spec(self) -> RepairSpec:
        """The repair, with what was left out proposed. Raises `InvalidInput` whose `field` is what is wrong."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name not in ("model", "paraphrases", "controls")}
        paraphrases = template_paraphrases(self.prompt) if self.paraphrases is None else self.paraphrases
        controls = (
            tuple(Control(prompt) for prompt in propose_controls((self.prompt, *paraphrases)))
            if self.controls is None
            else tuple(Control(one.prompt, one.expected) for one in self.controls)
        )
        spec = RepairSpec(
            **given,
            paraphrases=paraphrases,
            controls=controls,
            paraphrases_proposed=self.paraphrases is None,
            controls_proposed=self.controls is None,
        )
        return check_spec(spec)


def parse_spec(data: Any) -> RepairSpec:
    """Read a repair from parsed JSON and check it. Raises `InvalidInput` whose `field` is what is wrong."""
    if not isinstance(data, Mapping):
        raise InvalidInput('a repair is a JSON object with "prompt" and "wanted"; see docs/repair.md', field="spec")
    if unknown := sorted(set(map(str, data)) - SpecJson.model_fields.keys()):
        raise InvalidInput(f"a repair has no {unknown[0]!r}; it has {', '.join(sorted(SpecJson.model_fields))}", field=unknown[0])
    return checked(SpecJson, data, what="a repair").to_spec()


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
    data = read_json_file(Path(path), field="spec")
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


def why_not(spec: RepairSpec, answer: str) -> str:
    """Why an answer does not count as fixed, in a few words; "" when it does. The rule is in `neurons.repair.fixed`."""
    return why_not_fixed(answer, spec.wanted, spec.unwanted)


def is_fixed(spec: RepairSpec, answer: str) -> bool:
    """Whether an answer counts as fixed."""
    return not why_not(spec, answer)


def _criterion_json(criterion: Criterion) -> Any:
    return criterion.text if criterion.kind == "contains" and not criterion.others else criterion.to_json()


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
