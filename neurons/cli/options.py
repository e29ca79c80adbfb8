"""Options that several commands share, as one dataclass: a command takes it as a parameter, its help lists the fields as options.

    @takes_options
    def ask(prompt: PromptText, chosen: SamplingOptions = SamplingOptions(max_new_tokens=32)) -> None: ...

The fields stand where the parameter stands; their defaults are the values of the parameter's default.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class LeavingOut:
    """Beside a dataclass in `Annotated`: fields that are no options of this command; they keep their defaults."""

    names: tuple[str, ...]


def leaving_out(*names: str) -> LeavingOut:
    """For `Annotated[Options, leaving_out("field")]`."""
    return LeavingOut(names)


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter that is a dataclass taken apart into options, for typer, which knows no such thing itself."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Any, tuple[str, ...]]] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind, left_out = _options_class(hints[parameter.name])
        if kind is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        own = get_type_hints(kind, include_extras=True)
        names = tuple(field.name for field in dataclasses.fields(kind) if field.name not in left_out)
        groups[parameter.name] = (kind, names)
        parameters += [
            inspect.Parameter(name, parameter.kind, default=getattr(parameter.default, name), annotation=own[name]) for name in names
        ]

    def flat(**given: Any) -> None:
        made = {group: kind(**{name: given.pop(name) for name in names}) for group, (kind, names) in groups.items()}
        command(**given, **made)

    flat.__name__, flat.__doc__, flat.__module__ = command.__name__, command.__doc__, command.__module__
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat


def _options_class(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """(the dataclass that a parameter is of, or None; the fields that it leaves out)."""
    notes: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *notes_ = get_args(hint)
        notes = tuple(notes_)
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return None, ()
    return hint, tuple(name for note in notes if isinstance(note, LeavingOut) for name in note.names)
