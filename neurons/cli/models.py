"""`neuronscope models`: what is on this machine, fetching, and what a model is, without loading it."""

from __future__ import annotations

from typing import Annotated

import typer

from neurons.cli.common import Device, Dtype, Group, Json, emit, size, stderr_progress, table

_Spec = Annotated[str, typer.Argument(help='"default", a Hugging Face id, a model folder or a .gguf file.')]


def register(app: typer.Typer) -> None:
    """Add the group `models`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="List, fetch and describe models.")
    group.command("list")(list_models)
    group.command("fetch")(fetch)
    group.command("info")(info)
    app.add_typer(group, name="models")


def list_models(as_json: Json = False) -> None:
    """List the models on this machine: the default, the hub's cache, folders and files loaded before."""
    from neurons.models.catalogue import cached_models

    cards = cached_models()
    rows = [(c.spec, c.kind, c.architecture, "yes" if c.cached else "no", size(c.disk_bytes) if c.disk_bytes else "") for c in cards]
    emit({"models": cards}, as_json, lambda: table(("model", "kind", "architecture", "here", "on disk"), rows))


def fetch(spec: _Spec = "default", as_json: Json = False) -> None:
    """Fetch a model into the cache (and convert the default), so that it loads without a network."""
    from neurons.models.catalogue import describe
    from neurons.models.load import find_source

    with stderr_progress() as progress:
        source = find_source(spec, progress=progress)
    card = describe(source.spec)
    emit({"path": source.path, **_fields(card)}, as_json, f"{card.name} is in {source.path} ({size(card.disk_bytes or 0)})")


def info(spec: _Spec = "default", device: Device = None, dtype: Dtype = None, as_json: Json = False) -> None:
    """Describe a model from its files, without loading it: architecture, neurons, data type, device, predicted memory."""
    from neurons.models.catalogue import describe

    card = describe(spec, device=device, dtype=dtype)
    emit(card, as_json, lambda: "\n".join(f"{name:18} {'' if value is None else value}" for name, value in _fields(card).items()))


def _fields(card: object) -> dict[str, object]:
    from neurons.cli.common import plain

    fields: dict[str, object] = plain(card)
    return fields
