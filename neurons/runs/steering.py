"""Steers: checked against a model, given their values, turned into edits, read from and written to JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.json_schema import models_json_schema

from neurons.core.errors import InvalidInput, InvalidSteer
from neurons.core.json_text import json_text
from neurons.core.outside_json import parse_json, read_json_file
from neurons.core.quantile_table import QuantileTable
from neurons.core.steers import MAX_STRENGTH, MODES, Fade, Steer, TokenScope, parse_ranges
from neurons.core.types import NEURON_PATTERN, ExpertSide, ModelRef, NeuronSide
from neurons.models.chat import EncodedPrompt
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import Counted, Edit, hooked

STEER_FORMAT = "neuronscope-steers"
STEER_VERSION = 1


def resolve(
    loaded: LoadedModel, steers: Sequence[Steer], *, quantiles: QuantileTable | None = None, prompt: EncodedPrompt | None = None
) -> tuple[Steer, ...]:
    """Check every steer against the model and fill in the values it needs, each neuron once. The result is what a trace records.

    With `prompt`, tokens that are named ("from question") are found there: what `generate` and the like need. Steers that change nothing
    by construction are dropped. Raises `InvalidSteer` for a neuron the model does not have, and where values are needed but `quantiles` is
    None.
    """
    resolved = []
    for steer in steers:
        steer = _numbered(loaded, steer.check())
        _check_neurons(loaded, steer)
        if steer.is_noop:
            continue
        if steer.needs_values and steer.values is None:
            if quantiles is None:
                raise InvalidSteer(f"steer {steer.name!r} needs the neurons' quantiles; give values, or mode scale", field="mode")
            steer = steer.with_values(quantiles.values(steer.neurons))
        resolved.append(steer.once())
    return tuple(resolved) if prompt is None else placed(resolved, prompt.question)


def placed(steers: Sequence[Steer], question: tuple[int, int] | None) -> tuple[Steer, ...]:
    """The steers with the question's place in one prompt. Raises `InvalidSteer` where one names a question and the prompt has none."""
    found = tuple(replace(steer, tokens=steer.tokens.at_question(question)) for steer in steers)
    unplaced = next((steer for steer in found if steer.tokens.is_unplaced), None)
    if unplaced is not None:
        raise InvalidSteer(
            f"the steer {unplaced.name!r} acts {unplaced.tokens.words}, but this prompt has no user turn; name its tokens otherwise",
            field="tokens",
        )
    return found


def unplaced(steers: Sequence[Steer]) -> tuple[Steer, ...]:
    """The steers as they are for any prompt: without the place that the question had in one."""
    return tuple(replace(steer, tokens=steer.tokens.at_question(None)) for steer in steers)


def positions_note(steers: Sequence[Steer]) -> str:
    """What a person must know who takes steers to other prompts: which of them count tokens instead of naming them. "" where none does."""
    counting = [steer for steer in steers if steer.tokens.kind == "ranges"]
    if not counting:
        return ""
    first = counting[0]
    return (
        f"the steer {first.name!r} acts {first.tokens.words}, whatever stands there in a prompt; "
        "'from question', 'question' or 'answer' name the tokens instead"
    )


def _numbered(loaded: LoadedModel, steer: Steer) -> Steer:
    """The steer with its neurons in the one form: see `LoadedModel.side`."""
    if not any(isinstance(side, ExpertSide) for side in steer.neurons):
        return steer
    try:
        return replace(steer, neurons=tuple(loaded.side(side) for side in steer.neurons))
    except InvalidInput as error:
        raise InvalidSteer(str(error), field="neurons") from error


def needs_quantiles(steers: Sequence[Steer]) -> bool:
    """Whether `resolve` will ask for quantiles."""
    return any(not s.is_noop and s.needs_values and s.values is None for s in steers)


def _check_neurons(loaded: LoadedModel, steer: Steer) -> None:
    for side in steer.neurons:
        if not 0 <= side.layer < loaded.n_layers:
            raise InvalidSteer(f"neuron {side}: {loaded.ref.name} has layers 0 to {loaded.n_layers - 1}", field="neurons")
        width = loaded.sites[side.layer].width
        if not 0 <= side.index < width:
            raise InvalidSteer(f"neuron {side}: layer {side.layer} of {loaded.ref.name} has neurons 0 to {width - 1}", field="neurons")


def compile_edits(loaded: LoadedModel, steers: Sequence[Steer], prompt_tokens: int) -> tuple[Edit, ...]:
    """Resolved steers as edits, one for each steer and layer, in the order of the steers."""
    edits = []
    for steer in steers:
        if steer.is_noop:
            continue
        if steer.needs_values and steer.values is None:
            raise InvalidSteer(f"steer {steer.name!r} has no values yet; call resolve() first", field="mode")
        if steer.tokens.is_unplaced:
            raise InvalidSteer(
                f"steer {steer.name!r} acts {steer.tokens.words}, but where that is was not said; call resolve() with the encoded prompt",
                field="tokens",
            )
        steer = _numbered(loaded, steer).once()
        values = steer.values or (0.0,) * len(steer.neurons)
        by_layer: dict[int, list[tuple[int, float, bool]]] = {}
        for side, value in zip(steer.neurons, values, strict=True):
            by_layer.setdefault(side.layer, []).append((side.index, steer.strength * value, side.polarity == "+"))
        for layer, rows in sorted(by_layer.items()):
            index_K, value_K, positive_K = zip(*rows, strict=True)
            edits.append(
                Edit(
                    layer=layer,
                    index_K=torch.tensor(index_K, dtype=torch.long, device=loaded.device),
                    mode=steer.mode,
                    strength=steer.strength,
                    value_K=torch.tensor(value_K, dtype=torch.float32, device=loaded.device),
                    positive_K=torch.tensor(positive_K, dtype=torch.bool, device=loaded.device),
                    scope=steer.tokens,
                    prompt_tokens=prompt_tokens,
                    fade=steer.fade,
                )
            )
    return tuple(edits)


@contextmanager
def steered(
    loaded: LoadedModel,
    steers: Sequence[Steer],
    *,
    prompt_tokens: int | None = None,
    prompt: EncodedPrompt | None = None,
    start: int | None = None,
) -> Iterator[None]:
    """For notebooks: every pass of `loaded.model` in the block is steered, `loaded.model.generate` included. Holds the model's lock.

    The prompt's end is told by `prompt` (which also says where the question stands) or `prompt_tokens`. Positions count over the cache
    that a pass is given, so that they are the same with and without one; `start` puts the first token of every pass elsewhere.
    Raises `InvalidInput` in a pass with padding, where a position is another token in every row: "all" alone is clear there.
    """
    if prompt is not None:
        steers, prompt_tokens = placed(steers, prompt.question), len(prompt.ids)
    if prompt_tokens is None:
        raise InvalidInput("say where the prompt ends: give prompt=encode_prompt(...) or prompt_tokens=", field="prompt_tokens")
    edits = compile_edits(loaded, steers, prompt_tokens)
    everywhere = all(edit.scope.kind == "all" and edit.fade is None for edit in edits)
    with hooked(loaded, edits=edits, start=start if start is not None else Counted(padding=everywhere)):
        yield


_COUNT = {"type": "integer", "minimum": 0}
_SIDES: list[Any] = ["+", "-", "pos", "neg", "positive", "negative", 1, -1]
_NEURON = {
    "description": "A neuron's side: layer and index, and + (else meant) or -. Within an expert: 0:e2/35-.",
    "anyOf": [
        {"type": "string", "pattern": NEURON_PATTERN},
        {"type": "array", "prefixItems": [_COUNT, _COUNT, {"enum": _SIDES}], "minItems": 2, "maxItems": 3},
        {
            "type": "object",
            "properties": {"layer": _COUNT, "index": _COUNT, "polarity": {"enum": _SIDES}},
            "required": ["layer", "index"],
        },
    ],
    "examples": ["17:803-", [17, 803], {"layer": 17, "index": 803, "polarity": "-"}],
}
_PAIR = {"type": "array", "prefixItems": [_COUNT, _COUNT], "minItems": 2, "maxItems": 2}
_TOKENS = {
    "description": "Where it acts: by name, which means the same under every prompt, or by positions from 0 over prompt and answer.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": _PAIR, "minItems": 1}],
    "examples": ["all", "prompt", "question", "from question", "answer", "question,answer", "3:9,12:14", [[3, 9]]],
}
_STRENGTH: dict[str, Any] = {"minimum": -MAX_STRENGTH, "maximum": MAX_STRENGTH}


MAX_NAME = 1000
"""Characters of a steer's name in a file."""


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("use a number, not true or false")
    return value


_Number = Annotated[float, BeforeValidator(_no_switch)]
"""A number; JSON's true is none, though Python takes it for 1."""


class _FadeJson(BaseModel):
    """With mode add: how a steer lets go."""

    model_config = ConfigDict(extra="forbid", title="Fade")
    after: int = Field(description="Tokens of the answer after which it lets go", json_schema_extra={"minimum": 0, "maximum": 1_000_000})
    to: _Number = Field(description="What is left of its strength then", json_schema_extra={"minimum": 0, "maximum": 1})


class _SteerJson(BaseModel):
    """One steer: what is done to which neurons, on which tokens."""

    model_config = ConfigDict(extra="forbid", title="Steer")
    neurons: list[Annotated[Any, WithJsonSchema(_NEURON)]]
    mode: str = Field(
        "set",
        description="set: the activation becomes strength x value. scale: activation x strength. add: activation + strength x value. "
        "cap: no further its way than strength x value",
        json_schema_extra={"enum": list(MODES)},
    )
    strength: _Number = Field(0.0, description="What values or activations are multiplied by", json_schema_extra=_STRENGTH)
    tokens: Annotated[Any, WithJsonSchema(_TOKENS)] = "all"
    name: str = Field("", description="What to call it; shown on its card and in traces", max_length=MAX_NAME)
    enabled: bool = Field(True, description="A steer that is off is kept and does nothing")
    polarity: str | None = Field(
        None,
        description="The side of every neuron that has none of its own",
        json_schema_extra={"enum": [*_SIDES[:6], None]},
    )
    values: list[_Number] | None = Field(
        None, description="A value for every neuron, in units of its activation; null takes the quantile of its side from the model's atlas"
    )
    fade: _FadeJson | None = None

    def to_steer(self) -> Steer:
        if self.polarity is not None:
            _read_polarity(self.polarity)  # wrong where no neuron asks for it, too
        neurons = tuple(_read_neuron(item, self.polarity) for item in self.neurons)
        values = None if self.values is None else tuple(self.values)
        fade = None if self.fade is None else Fade(self.fade.after, self.fade.to)
        return Steer(neurons, self.mode, self.strength, _read_scope(self.tokens), self.name, self.enabled, values, fade).check()  # type: ignore[arg-type]


class _SteerFile(BaseModel):
    """The file: what wrote it, for which model, and the steers."""

    model_config = ConfigDict(extra="ignore", title="Steer file")
    format: str = Field(STEER_FORMAT, json_schema_extra={"const": STEER_FORMAT})
    version: int = Field(STEER_VERSION, json_schema_extra={"maximum": STEER_VERSION})
    model: dict[str, Any] = Field(
        default_factory=dict,
        description="The model that it was made for: id, name, architecture, weights_hash, n_layers, n_neurons. A model of another "
        "architecture or shape refuses it",
    )
    steers: list[_SteerJson]


def steer_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what `parse_steers` reads: a file's object, a single steer, or a bare list of steers."""
    _, schema = models_json_schema([(_SteerFile, "validation"), (_SteerJson, "validation")], ref_template="#/$defs/{model}")
    named = (
        json_text(schema["$defs"], ascii_only=True)
        .replace("_SteerFile", "SteerFile")
        .replace("_SteerJson", "Steer")
        .replace("_FadeJson", "Fade")
    )
    one = {"$ref": "#/$defs/Steer"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Neuronscope steers",
        "anyOf": [{"$ref": "#/$defs/SteerFile"}, one, {"type": "array", "items": one}],
        "$defs": json.loads(named),
    }


def parse_steers(data: Any, *, ref: ModelRef | None = None) -> tuple[Steer, ...]:
    """Steers from parsed JSON: the file's object, a bare list, or a single steer. Raises `InvalidSteer` saying where it is wrong.

    With `ref`, a file saved for another architecture or shape is refused.
    """
    if isinstance(data, list):
        data = {"steers": data}
    elif isinstance(data, Mapping) and "neurons" in data:
        data = {"steers": [data]}
    try:
        parsed = _SteerFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidSteer(f"not a steer file: {place}: {first['msg']}", field="steer") from error
    if parsed.format != STEER_FORMAT or parsed.version > STEER_VERSION:
        raise InvalidSteer(f"not a steer file this version reads: format {parsed.format!r}, version {parsed.version}", field="steer")
    if ref is not None:
        _check_model(parsed.model, ref)
    return tuple(item.to_steer() for item in parsed.steers)


def _check_model(saved: Mapping[str, Any], ref: ModelRef) -> None:
    """A steer for another model's neurons means nothing here. Layers that gained neurons since kept the numbers of those they had."""
    before = saved.get("n_neurons")
    fits = saved.get("architecture") == ref.architecture and saved.get("n_layers") == ref.n_layers
    if fits and isinstance(before, int) and 0 < before < ref.n_neurons:
        if saved.get("weights_hash") == ref.weights_hash:
            return
        raise InvalidSteer(
            f"this steer was saved when {saved.get('name', 'its model')} counted {before:,} neurons in its widest layer; {ref.name} has "
            f"{ref.n_neurons:,}. Shared and routed experts count as neurons since, after those that were there, which keep their numbers: "
            f'if it is the same model, write "n_neurons": {ref.n_neurons} into the file',
            field="steer",
        )
    for key, ours in (("architecture", ref.architecture), ("n_layers", ref.n_layers), ("n_neurons", ref.n_neurons)):
        if key in saved and saved[key] != ours:
            raise InvalidSteer(
                f"this steer was saved for {saved.get('name', 'another model')} ({key} {saved[key]}), not {ref.name} ({ours}); "
                "load that model first",
                field="steer",
            )


def dump_steers(steers: Sequence[Steer], ref: ModelRef) -> dict[str, Any]:
    """The steers as the JSON object that `parse_steers` reads."""
    model = {key: getattr(ref, key) for key in ("id", "name", "architecture", "weights_hash", "n_layers", "n_neurons")}
    return {"format": STEER_FORMAT, "version": STEER_VERSION, "model": model, "steers": [steer_to_json(s) for s in steers]}


def steer_to_json(steer: Steer) -> dict[str, Any]:
    """One steer as a JSON object."""
    return {
        "name": steer.name,
        "neurons": [str(side) for side in steer.neurons],
        "mode": steer.mode,
        "strength": steer.strength,
        "tokens": str(steer.tokens),
        "enabled": steer.enabled,
        "values": None if steer.values is None else list(steer.values),
        **({} if steer.fade is None else {"fade": {"after": steer.fade.after, "to": steer.fade.to}}),
    }


def load_steers(path: str | Path, *, ref: ModelRef | None = None) -> tuple[Steer, ...]:
    """Read a steer file. Raises `InvalidFile` when it cannot be read as JSON, `InvalidSteer` when it is no steer."""
    return parse_steers(read_json_file(Path(path), field="steer"), ref=ref)


def parse_steers_text(text: str, *, name: str = "the steer file", ref: ModelRef | None = None) -> tuple[Steer, ...]:
    """Read steers from the text of a JSON file. NaN and infinity are refused."""
    return parse_steers(parse_json(text, what=name, field="steer"), ref=ref)


def _read_neuron(item: Any, polarity: str | None) -> NeuronSide:
    """A neuron from a string, a pair or an object; `polarity` is the steer's own where the neuron has none."""
    if isinstance(item, str):
        side = NeuronSide.parse(item, experts=True)
        given = item.rstrip()[-1:] in "+-"
    elif isinstance(item, list | tuple) and len(item) in (2, 3) and all(_is_count(part) for part in item[:2]):
        side = NeuronSide(item[0], item[1], _read_polarity(item[2]) if len(item) == 3 else "+")
        given = len(item) == 3
    elif isinstance(item, Mapping) and _is_count(item.get("layer")) and _is_count(item.get("index")):
        given = "polarity" in item
        side = NeuronSide(item["layer"], item["index"], _read_polarity(item.get("polarity", "+")))
    else:
        raise InvalidSteer(f"{item!r} is not a neuron; write '17:803', [17, 803] or {{'layer': 17, 'index': 803}}", field="neurons")
    return side if given or polarity is None else replace(side, polarity=_read_polarity(polarity))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read_polarity(value: Any) -> Any:
    names = {"+": "+", "-": "-", "pos": "+", "neg": "-", "positive": "+", "negative": "-", 1: "+", -1: "-"}
    if isinstance(value, list | dict) or value not in names:
        raise InvalidSteer(f"polarity is {value!r}; use '+' or '-'", field="polarity")
    return names[value]


def _read_scope(value: Any) -> TokenScope:
    """Token scope from "all", "answer", "3:9" or a list of pairs."""
    try:
        if isinstance(value, str):
            return TokenScope.parse(value)
        if isinstance(value, list) and value:
            return TokenScope("ranges", parse_ranges(",".join(f"{a}:{b}" for a, b in value)))
    except (InvalidInput, TypeError, ValueError) as error:
        raise InvalidSteer(f"tokens: {error}", field="tokens") from error
    raise InvalidSteer(
        f"tokens is {value!r}; use 'all', 'prompt', 'question', 'from question', 'answer' or ranges such as '3:9'", field="tokens"
    )
