"""`neuronscope models`: what is on this machine, fetching, checking, and what a model is, without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurons.cli.common import FAILED, Device, Dtype, Group, Json, emit, size, stderr_progress, table
from neurons.core.errors import InvalidInput

_Spec = Annotated[str, typer.Argument(help='"default", a Hugging Face id, a model or adapter folder, or a .gguf file.')]
_Base = Annotated[
    str | None, typer.Option("--base", help="Of an adapter: the model it belongs to, kept for every load after this.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the group `models`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="List, fetch, describe, check and remove models.")
    group.command("list")(list_models)
    group.command("fetch")(fetch)
    group.command("info")(info)
    group.command("check")(check)
    group.command("remove")(remove)
    app.add_typer(group, name="models")


def list_models(as_json: Json = False) -> None:
    """List the models on this machine: the default, the hub's cache, folders and files loaded before, copies made of GGUF files."""
    from neurons.models.catalogue import cached_models
    from neurons.models.converted import kept

    cards, copies = cached_models(), kept()
    rows = [(c.spec, c.kind, c.architecture, "yes" if c.cached else "no", size(c.disk_bytes) if c.disk_bytes else "") for c in cards]
    found = table(("model", "kind", "architecture", "here", "on disk"), rows)
    if copies:
        made = [(copy.weights_hash[:12], copy.name, size(copy.disk_bytes), copy.source) for copy in copies]
        found += "\n\nConverted copies of GGUF files, which load in seconds (`models remove` takes one away):\n"
        found += table(("copy", "model", "on disk", "of the file"), made)
    emit({"models": cards, "converted": copies}, as_json, found)


def fetch(spec: _Spec = "default", as_json: Json = False) -> None:
    """Fetch a model into the cache (and convert the default), so that it loads without a network."""
    from neurons.models.catalogue import describe
    from neurons.models.load import find_source

    with stderr_progress() as progress:
        source = find_source(spec, progress=progress)
    card = describe(source.spec)
    emit({"path": source.path, **_fields(card)}, as_json, f"{card.name} is in {source.path} ({size(card.disk_bytes or 0)})")


def info(spec: _Spec = "default", base: _Base = None, device: Device = None, dtype: Dtype = None, as_json: Json = False) -> None:
    """Describe a model from its files, without loading it: architecture, neurons, data type, device, predicted memory.

    Exit status 1 where its files cannot be used; `problem` says why.
    """
    from neurons.models.catalogue import describe

    _take_base(spec, base)
    card = describe(spec, device=device, dtype=dtype)
    emit(card, as_json, lambda: "\n".join(f"{name:18} {'' if value is None else value}" for name, value in _fields(card).items()))
    if card.problem and (card.cached or card.kind != "default"):  # the default model is fetched when it is first used
        raise typer.Exit(FAILED)


def check(
    spec: _Spec = "default",
    base: _Base = None,
    again: Annotated[bool, typer.Option("--again", help="Check again, even where the result of an earlier check is kept.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Check that a model comes out here as its files say: weights, answers against plain transformers, neurons, methods, conversations.

    Every model is checked once, when it is first loaded. Exit status 1 where the model is refused.
    """
    from neurons.checking.check import check_spec

    _take_base(spec, base)
    with stderr_progress() as progress:
        found = check_spec(spec, device=device, dtype=dtype, again=again, progress=progress)
    rows = [(finding.status, finding.what, finding.said) for finding in found.findings]
    emit(found, as_json, lambda: f"{found.name} ({found.dtype or 'not loaded'})\n{table(('', 'what', 'found'), rows)}")
    if found.refusal:
        raise typer.Exit(FAILED)


def remove(
    copy: Annotated[str, typer.Argument(help="The first characters of the copy's name in `models list`, or the path of its GGUF file.")],
    as_json: Json = False,
) -> None:
    """Remove the converted copy of a GGUF file. The file itself stays; the next load converts it again."""
    from neurons.models import converted

    gone = converted.remove(copy)
    emit(gone, as_json, f"The copy of {gone.name} is removed ({size(gone.disk_bytes)}); {gone.source or 'its file'} stays")


def _take_base(spec: str, base: str | None) -> None:
    """Keep what is said to be the adapter's base, once it is found to be one. Raises `InvalidInput` for what is no adapter's folder."""
    from neurons.models.adapters import is_adapter, remember_base
    from neurons.models.load import find_source

    if base is None:
        return
    folder = Path(spec).expanduser().absolute()
    if not is_adapter(folder):
        raise InvalidInput(f"{spec[:200]} is no adapter's folder, so it has no base; leave --base out", field="base")
    remember_base(folder, find_source(base, fetch=False).spec)


def _fields(card: object) -> dict[str, object]:
    from neurons.core.json_text import plain

    fields: dict[str, object] = plain(card)
    return fields
