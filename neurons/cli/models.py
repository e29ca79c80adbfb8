"""`neuronscope models`: what is on this machine, fetching, and what a model is, without loading it."""

from __future__ import annotations

from typing import Annotated

import typer

from neurons.cli.common import FAILED, Device, Dtype, Group, Json, emit, size, stderr_progress, table

_Spec = Annotated[str, typer.Argument(help='"default", a Hugging Face id, a model folder or a .gguf file.')]


def register(app: typer.Typer) -> None:
    """Add the group `models`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="List, fetch and describe models.")
    group.command("list")(list_models)
    group.command("fetch")(fetch)
    group.command("info")(info)
    group.command("check")(check)
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


def check(
    spec: _Spec = "default",
    again: Annotated[bool, typer.Option("--again", help="Check anew, whatever is kept of an earlier check.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Check that a model comes out here as its files say: weights, answers against plain transformers, neurons, methods, conversations.

    Every model is checked once, when it is first loaded. Exit status 1 where the model is refused.
    """
    from neurons.checking.check import check_spec

    with stderr_progress() as progress:
        found = check_spec(spec, device=device, dtype=dtype, again=again, progress=progress)
    rows = [(finding.status, finding.what, finding.said) for finding in found.findings]
    emit(found, as_json, lambda: f"{found.name} ({found.dtype or 'not loaded'})\n{table(('', 'what', 'found'), rows)}")
    if found.refusal:
        raise typer.Exit(FAILED)


def _fields(card: object) -> dict[str, object]:
    from neurons.cli.common import plain

    fields: dict[str, object] = plain(card)
    return fields
