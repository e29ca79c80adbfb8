"""How far two runs of one prompt are apart, token by token, over the whole vocabulary: measured while both are at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurons.runs.generation import Decoder
from neurons.runs.kl import kl_divergence
from traces.tensors import KL_FROM_BASELINE, KL_TO_BASELINE

_UNKNOWN = -1.0


class RunningDivergence:
    """KL of a steered run's next-token distribution and its unsteered one's, as long as both have written the same."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._both: list[tuple[float, float]] = []
        self._parted = False

    def note(self, baseline: Decoder, steered: Decoder) -> None:
        """Look at the distributions that both took their newest token from; call it after every step of both."""
        if self._parted:
            return
        plain_ids, steered_ids = baseline.answer_ids, steered.answer_ids
        a_V, b_V = baseline.newest_logits, steered.newest_logits
        known = len(plain_ids) == len(steered_ids) == len(self._both) + 1
        if not known or a_V is None or b_V is None:
            self._parted = True
            return
        a_logp_V, b_logp_V = a_V.float().log_softmax(-1), b_V.float().log_softmax(-1)
        self._both.append((float(kl_divergence(a_logp_V, b_logp_V)), float(kl_divergence(b_logp_V, a_logp_V))))
        self._parted = plain_ids != steered_ids

    def arrays(self, tokens: int) -> dict[str, NDArray[np.float32]]:
        """Both directions as the arrays of the steered trace, shape (T,): nats, -1 where it is not known."""
        found = {KL_FROM_BASELINE: np.full(tokens, _UNKNOWN, np.float32), KL_TO_BASELINE: np.full(tokens, _UNKNOWN, np.float32)}
        for offset, pair in enumerate(self._both):
            place = self._prompt_tokens + offset
            if place < tokens:
                found[KL_FROM_BASELINE][place], found[KL_TO_BASELINE][place] = pair
        return found if self._both else {}
