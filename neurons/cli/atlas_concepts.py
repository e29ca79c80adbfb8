"""`neuronscope atlas concepts`: find the neurons of every named concept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cli.common import Device, Dtype, Json, Model, emit, load, stderr_progress

if TYPE_CHECKING:
    from neurons.detectors.store import Detectors

_Folder = Annotated[Path | None, typer.Option(help="Where they are written. [default: the model's own place]", show_default=False)]


def register(group: typer.Typer) -> None:
    """Add the command to the group `atlas`."""
    group.command("concepts")(concepts)


def concepts(
    model: Model = "default",
    tokens: Annotated[int, typer.Option(help="Tokens of ordinary text to calibrate on.", min=2_000)] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the shuffled labels.")] = 0,
    folder: _Folder = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Find which neurons mean each named concept of the lexicon, and how sure that is. Stopped or killed, it goes on when started again."""
    from neurons.detectors.build import DetectorSettings, build_detectors

    loaded = load(model, device=device, dtype=dtype, quiet=as_json)
    with stderr_progress(quiet=as_json) as progress:
        settings = DetectorSettings(corpus_tokens=tokens, seed=seed)
        made = build_detectors(loaded, settings=settings, folder=folder, progress=progress)
    emit(summary(made), as_json, lambda: human(made))


def summary(made: Detectors) -> dict[str, object]:
    """What was found, as JSON."""
    rates = [made.rates(number) for number in range(len(made))]
    return {
        "model": made.ref.name,
        "concepts": len(made),
        "found": int(made.found.sum()),
        "corpus_tokens": made.corpus_tokens,
        "rows": [
            {"key": label.key, "name": label.name, "field": label.field, **vars(rate)}
            for label, rate in zip(made.labels, rates, strict=True)
        ],
    }


def human(made: Detectors) -> str:
    """What was found, for a reader."""
    import numpy as np

    a = made.arrays
    lost = [label.name for label, found in zip(made.labels, made.found, strict=True) if not found]
    lines = [
        f"{made.ref.name}: {int(made.found.sum())} of {len(made)} concepts found",
        f"held-out AUROC, median: {np.nanmedian(a.auroc_C):.3f}",
        f"against near misses {np.nanmedian(a.auroc_near_C):.3f}, labels shuffled {np.nanmedian(a.auroc_shuffled_C):.3f}",
        f"calibrated on {made.corpus_tokens:,} tokens",
    ]
    if lost:
        lines.append("not found: " + ", ".join(lost))
    return "\n".join(lines)
