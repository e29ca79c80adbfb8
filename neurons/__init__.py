"""Neuronscope's engine: load a model, trace it, attribute, steer, all as plain typed results.

    import neurons
    model = neurons.load_model()
    trace, run = neurons.run_trace(model, "What is the capital of Turkey?")

Names are imported when first used, so that `import neurons` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from neurons.version import __version__

_PUBLIC = {
    "load_model": "neurons.models.load",
    "LoadedModel": "neurons.models.loaded",
    "encode_prompt": "neurons.models.chat",
    "encode_text": "neurons.models.chat",
    "decode": "neurons.models.chat",
    "generate": "neurons.generation",
    "Generation": "neurons.generation",
    "run_forward": "neurons.hooks",
    "hooked": "neurons.hooks",
    "steered": "neurons.steering",
    "resolve": "neurons.steering",
    "load_steers": "neurons.steering",
    "dump_steers": "neurons.steering",
    "quantiles_for": "neurons.quantiles",
    "run_trace": "neurons.tracing",
    "run_pair": "neurons.tracing",
    "replay": "neurons.replaying",
    "rank_activations": "neurons.activations",
    "attribute": "neurons.attribution",
    "top_rows": "neurons.attribution",
    "measure_effects": "neurons.effect",
    "upstream": "neurons.paths",
    "logit_lens": "neurons.lens",
    "open_atlas": "neurons.atlas.store",
    "AttributionRow": "neurons.types",
    "Message": "neurons.types",
    "NeuronSide": "neurons.types",
    "Sampling": "neurons.types",
    "Steer": "neurons.types",
    "TargetSpec": "neurons.types",
    "TokenScope": "neurons.types",
    "NeuronscopeError": "neurons.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neurons' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
