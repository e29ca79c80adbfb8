"""Neuronscope's engine: load a model, trace it, attribute, steer, all as plain typed results.

    import neurons
    model = neurons.load_model()
    trace, run = neurons.run_trace(model, "What is the capital of Turkey?")

Names are imported when first used, so that `import neurons` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from neurons.core.version import __version__

_PUBLIC = {
    "load_model": "neurons.checking.load",
    "LoadedModel": "neurons.models.loaded",
    "encode_prompt": "neurons.models.chat",
    "encode_text": "neurons.models.chat",
    "decode": "neurons.models.chat",
    "generate": "neurons.runs.generation",
    "Generation": "neurons.runs.generation",
    "run_forward": "neurons.runs.hooks",
    "hooked": "neurons.runs.hooks",
    "steered": "neurons.runs.steering",
    "resolve": "neurons.runs.steering",
    "load_steers": "neurons.runs.steering",
    "dump_steers": "neurons.runs.steering",
    "quantiles_for": "neurons.atlas.quantiles",
    "run_trace": "neurons.tracing.record",
    "run_pair": "neurons.tracing.record",
    "RunOptions": "neurons.tracing.record",
    "replay": "neurons.tracing.replay",
    "rank_activations": "neurons.tracing.ranking",
    "attribute": "neurons.attribution.attribute",
    "top_rows": "neurons.attribution.attribute",
    "measure_effects": "neurons.attribution.effect",
    "upstream": "neurons.attribution.paths",
    "logit_lens": "neurons.runs.lens",
    "open_atlas": "neurons.atlas.store",
    "AttributionRow": "neurons.core.types",
    "Message": "neurons.core.types",
    "NeuronSide": "neurons.core.types",
    "Sampling": "neurons.core.types",
    "Steer": "neurons.core.steers",
    "TargetSpec": "neurons.core.types",
    "TokenScope": "neurons.core.steers",
    "NeuronscopeError": "neurons.core.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neurons' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
