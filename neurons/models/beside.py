"""Models loaded beside the server's own, within a budget of memory: a trace of another model is run without switching everybody."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable

from neurons.core.errors import ModelError
from neurons.models.loaded import LoadedModel

BUDGET_VARIABLE = "NEURONSCOPE_BESIDE_GB"
BUDGET_GB = 4.0


class Beside:
    """The models loaded beside the server's own, by weights hash, the one used last at the end. Each has its own lock, so its own queue."""

    def __init__(self, *, budget: Callable[[], float] | None = None) -> None:
        """`budget` says how many bytes of weights may be held."""
        self._budget = budget or budget_bytes
        self._guard = threading.Lock()
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()

    def find(self, weights_hash: str) -> LoadedModel | None:
        """The model with these weights, now the one used last; None where it is not loaded."""
        with self._guard:
            found = self._models.get(weights_hash)
            if found is not None:
                self._models.move_to_end(weights_hash)
            return found

    def take(self, loaded: LoadedModel) -> None:
        """Hold a model; those used longest ago go until all fit. Raises `ModelError` where it alone is more than the budget."""
        size, budget = weight_bytes(loaded), self._budget()
        if size > budget:
            raise ModelError(
                f"{loaded.ref.name} takes {size / 1e9:.2f} GB, more than the {budget / 1e9:g} GB for models beside the server's own; "
                f"set {BUDGET_VARIABLE} to a larger number, or load it for everybody on the Models page"
            )
        with self._guard:
            self._models[loaded.ref.weights_hash] = loaded
            self._models.move_to_end(loaded.ref.weights_hash)
            while sum(map(weight_bytes, self._models.values())) > budget:
                self._models.popitem(last=False)

    def drop(self, weights_hash: str) -> None:
        """Let go of a model; what is running on it ends first."""
        with self._guard:
            self._models.pop(weights_hash, None)

    def all(self) -> tuple[LoadedModel, ...]:
        """The models, the one used longest ago first."""
        with self._guard:
            return tuple(self._models.values())


def weight_bytes(loaded: LoadedModel) -> int:
    """Bytes that a model's weights take in memory, shared ones counted once."""
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*loaded.model.parameters(), *loaded.model.buffers())}
    return sum(held.values())


def budget_bytes() -> float:
    """The budget of the environment, else the built-in one. Raises `ModelError` where it is no number of gigabytes."""
    text = os.environ.get(BUDGET_VARIABLE, "").strip()
    try:
        gigabytes = float(text) if text else BUDGET_GB
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise ModelError(f"{BUDGET_VARIABLE} is {text!r}; write a number of gigabytes, such as 4")
    return gigabytes * 1e9
