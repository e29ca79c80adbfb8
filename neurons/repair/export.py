"""A repair handed on: a steer file, a Python script that needs transformers alone, a report page that can be sent to a colleague."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.json_text import json_text
from neurons.core.steers import Steer
from neurons.core.types import ModelRef
from neurons.core.version import __version__
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.repair.result import RepairResult, result_to_json
from neurons.repair.saved import SavedRepair, read_repair
from neurons.repair.spec import RepairSpec, messages_of
from neurons.repair.steers import ACTIONS, acts_on, known, told
from neurons.runs.steering import dump_steers
from neurons.storage.templates import render


def steer_file(steers: tuple[Steer, ...], ref: ModelRef) -> str:
    """The steers as the text of a steer file, which the app and every command read."""
    return json_text(dump_steers(steers, ref), indent=2) + "\n"


def python_script(loaded: LoadedModel, spec: RepairSpec, steers: tuple[Steer, ...]) -> str:
    """A Python file that shows the fix with plain transformers: the same ids, hooks and greedy choice, nothing of ours imported.

    Raises `InvalidInput` for a mixture of experts, whose neurons are no module's input in plain transformers.
    """
    if any(site.experts is not None for site in loaded.sites):
        raise InvalidInput(
            "a mixture of experts cannot be steered by plain transformers hooks; export the steer file instead", field="export"
        )
    prompts = [spec.prompt, *spec.paraphrases]
    encoded = [encode_prompt(loaded, messages_of(spec, prompt)) for prompt in prompts]
    rows = [(prompt, list(one.ids), one.question) for prompt, one in zip(prompts, encoded, strict=True)]
    edits: list[dict[str, Any]] = []
    for steer in (given.once() for given in steers):
        values = steer.values or (0.0,) * len(steer.neurons)
        for side, value in zip(steer.neurons, values, strict=True):
            edits.append(
                {
                    "module": loaded.sites[side.layer].name,
                    "channel": side.index,
                    "mode": steer.mode,
                    "strength": steer.strength,
                    "value": steer.strength * value,
                    "tokens": str(steer.tokens),
                    **({"side": side.polarity} if steer.mode == "cap" else {}),
                    **({"fade": (steer.fade.after, steer.fade.to)} if steer.fade is not None else {}),
                }
            )
    return render(
        "neurons.repair",
        "script.py.j2",
        autoescape=False,
        version=__version__,
        model=repr(str(loaded.model.name_or_path or loaded.ref.id)),
        dtype=loaded.ref.dtype,
        about=repr(f"{loaded.ref.name}, weights {loaded.ref.weights_hash[:16]}"),
        edits="[\n" + "".join(f"    {edit!r},\n" for edit in edits) + "]",
        prompts="[\n" + "".join(f"    {row!r},\n" for row in rows) + "]",
        new_tokens=spec.max_new_tokens,
        eos=sorted(loaded.eos_ids),
    )


def report_html(result: RepairResult, *, about_neurons: Mapping[str, str] | None = None) -> str:
    """One HTML page without scripts or links: what was asked, what was found, what it is worth. All text is escaped.

    `about_neurons` maps a side, such as "17:803+", to its description, where the caller has any.
    """
    return report_html_of(read_repair(result_to_json(result)), about_neurons=about_neurons)


def report_html_of(data: SavedRepair, *, about_neurons: Mapping[str, str] | None = None) -> str:
    """The same from the result as an experiment keeps it."""
    steers = data.steers
    return render(
        "neurons.repair",
        "report.html.j2",
        autoescape=True,
        r=data,
        model=data.model,
        version=__version__,
        actions=[(f"{side.layer}:{side.index}", what, known(side, about_neurons or {})) for s in steers for side, what in told(s)],
        acts_on=acts_on(steers, data.spec.tokens),
        actions_mean=ACTIONS,
        plot=_plot(data),
    )


def _plot(data: SavedRepair) -> list[dict[str, Any]]:
    """The Pareto points in the coordinates of a 560 x 260 picture."""
    points = data.pareto
    most = max((p.neurons for p in points), default=1)
    return [
        {
            **p.model_dump(exclude={"steers"}),
            "x": 50 + 490 * p.neurons / max(1, most),
            "y": 220 - 200 * p.turned / max(1, p.questions),
            "share": p.unchanged / max(1, p.controls),
        }
        for p in points
    ]
