"""The logit lens: the last row is the model itself, every row is the residual through the model's own ending."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurons.core.errors import InvalidInput
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.models.layers import decoder_layers
from neurons.runs.hooks import run_forward
from neurons.runs.lens import logit_lens
from tests.support.tiny_models import ARCHITECTURES, tiny_model

IDS = tuple(int(i) for i in np.random.default_rng(5).integers(0, 255, 12))


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_the_last_layer_says_what_the_model_says(arch: str) -> None:
    loaded = tiny_model(arch)
    found = logit_lens(loaded, IDS, [1, 7, 12], k=4)
    probs_TV = torch.softmax(run_forward(loaded, torch.tensor([IDS])).logits[0].float(), -1)
    assert found.names == ("embedding", "layer 0", "layer 1", "layer 2")
    assert found.top_ids_RNK.shape == (4, 3, 4)
    for column, token in enumerate((1, 7, 12)):
        top = torch.topk(probs_TV[token - 1], 4)
        assert found.top_ids_RNK[-1, column].tolist() == top.indices.tolist()
        assert found.top_probs_RNK[-1, column] == pytest.approx(top.values.numpy(), abs=1e-5)
    assert found.target_ids == (IDS[1], IDS[7], -1)
    assert found.target_prob_RN[-1, 1] == pytest.approx(float(probs_TV[6, IDS[7]]), abs=1e-6)
    assert found.target_rank_RN[-1, 1] == int((probs_TV[6] > probs_TV[6, IDS[7]]).sum())
    assert np.isnan(found.target_prob_RN[:, 2]).all()
    assert (found.target_rank_RN[:, 2] == -1).all()
    assert not any("forward" in vars(module) for module in loaded.model.modules())


def test_middle_layers_by_hand_with_a_steer() -> None:
    loaded = tiny_model("llama")
    steer = Steer((NeuronSide(0, 4),), "scale", -3.0)
    residuals: list[torch.Tensor] = []
    handle = decoder_layers(loaded)[1].register_forward_hook(lambda _module, _args, output: residuals.append(output))
    found = logit_lens(loaded, IDS, [6], steers=(steer,))
    handle.remove()
    model = loaded.model
    logits_V = model.lm_head(model.model.norm(residuals[0][0, 5]))
    assert found.top_probs_RNK[2, 0] == pytest.approx(torch.softmax(logits_V, -1).topk(5).values.numpy(), abs=1e-6)
    assert found.top_probs_RNK[2, 0] != pytest.approx(logit_lens(loaded, IDS, [6]).top_probs_RNK[2, 0], abs=1e-6)


@pytest.mark.parametrize(("tokens", "k"), [([0], 5), ([13], 5), ([], 5), ([3], 0), ([3], 1000)])
def test_wrong_questions_are_refused(tokens: list[int], k: int) -> None:
    with pytest.raises(InvalidInput):
        logit_lens(tiny_model("llama"), IDS, tokens, k=k)
