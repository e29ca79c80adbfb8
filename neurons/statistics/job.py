"""A comparison as a background job, and as the plain JSON values that a job or an experiment keeps of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from neurons.core.boundary import checked
from neurons.core.json_text import json_text
from neurons.core.progress import Progress
from neurons.core.steers import Steer
from neurons.core.types import Message, Sampling
from neurons.models.loaded import LoadedModel
from neurons.runs.steering import parse_steers, steer_to_json
from neurons.statistics.comparison import ComparisonSpec, Conversation, measure
from neurons.statistics.criteria import Criterion, parse_criterion
from neurons.storage.job_parameters import JobParameters
from neurons.storage.jobs import JobContext

JOB_KIND = "statistics"


def _conversation(value: Any) -> Any:
    """A conversation as it is written, its criterion read."""
    if not isinstance(value, Mapping) or value.get("expected") is None:
        return value
    return {**value, "expected": parse_criterion(dict(value["expected"]), "expected")}


def _criterion(value: Any, info: ValidationInfo) -> Any:
    return parse_criterion(dict(value), str(info.field_name)) if isinstance(value, Mapping) else value


def _steers(value: Any) -> Any:
    return parse_steers(value) if isinstance(value, list) else value


class ComparisonParameters(JobParameters):
    """What a job of kind `JOB_KIND` is started with."""

    prompts: tuple[Annotated[Conversation, BeforeValidator(_conversation)], ...]
    steers: Annotated[tuple[Steer, ...], BeforeValidator(_steers)]
    criterion: Annotated[Criterion | None, BeforeValidator(_criterion)] = None
    token: str | None = None
    seeds: int
    random_sets: int
    sampling: Sampling
    name: str = ""

    def to_spec(self) -> ComparisonSpec:
        """The comparison, checked. Raises `InvalidInput`."""
        return ComparisonSpec(
            self.prompts, self.steers, self.criterion, self.token, self.seeds, self.random_sets, self.sampling, self.name
        ).check()


def spec_to_json(spec: ComparisonSpec) -> dict[str, Any]:
    """The parameters of a job."""
    criterion = spec.criterion
    return {
        "prompts": [_conversation_json(p) for p in spec.prompts],
        "steers": [steer_to_json(s) for s in spec.steers],
        "criterion": None if criterion is None else criterion.to_json(),
        "token": spec.token,
        "seeds": spec.seeds,
        "random_sets": spec.random_sets,
        "sampling": spec.sampling.to_json(),
        "name": spec.name,
    }


def spec_from_json(data: Mapping[str, Any]) -> ComparisonSpec:
    """Read the parameters back. Raises `InvalidInput` that names what is wrong with them."""
    return checked(ComparisonParameters, dict(data), what="a comparison").to_spec()


def job_worker(load: Callable[[JobParameters, Progress], LoadedModel]) -> Callable[[JobContext], Mapping[str, Any]]:
    """How jobs of kind `JOB_KIND` are done. `load` gives the model for a job's parameters."""

    def work(context: JobContext) -> Mapping[str, Any]:
        params = context.parameters(ComparisonParameters)
        spec = params.to_spec()
        measure(load(params, context.progress), spec, done=context.rows, on_row=context.add_row, progress=context.progress)
        return {}

    return work


def differing(params: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """In what two jobs' parameters differ: to go on with one under the other's would mix their rows."""
    names = ("prompts", "steers", "criterion", "token", "seeds", "random_sets", "sampling", "model", "precision")
    given = json.loads(json_text(other, ascii_only=True))
    return tuple(name.replace("_", " ") for name in names if name in params and params[name] != given.get(name))


def _conversation_json(conversation: Conversation) -> dict[str, Any]:
    messages = [_message_json(m) for m in conversation.messages]
    expected = conversation.expected
    return {"id": conversation.id, "messages": messages, "expected": None if expected is None else expected.to_json()}


def _message_json(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}
