"""Causes by concept: what a concept's removal does to a token equals plain hooks, and random neurons stand beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.types import Message
from neurons.detectors.build import build_detectors
from neurons.detectors.causes import Asked, CauseSearch, ConceptCause, measure_causes
from neurons.detectors.store import Detectors
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from tests.detectors.test_build import SETTINGS
from tests.support.atlases import tiny_corpus
from tests.support.lexicons import letter_lexicon
from tests.support.tiny_models import ARCHITECTURES, tiny_model


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def made(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Detectors:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURONSCOPE_HOME", str(tmp_path_factory.mktemp("causes")))
        return build_detectors(loaded, letter_lexicon(), settings=SETTINGS, corpus=tiny_corpus())


def given(loaded: LoadedModel) -> tuple[tuple[int, ...], np.ndarray, list[int]]:
    """A question of planted letters: ids, activations, its own tokens."""
    prompt = encode_prompt(loaded, [Message("user", "efghefghefgh")])
    acts: list[torch.Tensor] = []
    run_forward(loaded, torch.tensor([prompt.ids]), record=lambda _layer, acts_BTI: acts.append(acts_BTI[0].clone()))
    segment = next(s for s in prompt.segments if s.role == "user" and not s.template)
    return prompt.ids, torch.stack(acts).numpy(), list(range(segment.start, segment.stop))


def causes(loaded: LoadedModel, made: Detectors, **named: object) -> tuple[ConceptCause, ...]:
    ids, acts_LTI, own = given(loaded)
    return measure_causes(loaded, made, Asked(ids, len(ids), acts_LTI, own, token_id=65), **named)  # type: ignore[arg-type]


def test_an_effect_is_what_plain_hooks_say(loaded: LoadedModel, made: Detectors) -> None:
    ids, acts_LTI, own = given(loaded)
    found = causes(loaded, made)
    assert found
    a = made.arrays
    for cause in found:
        wanted = acts_LTI.copy()
        for neuron, weight in zip(a.neuron_CK[cause.concept.number], a.weight_CK[cause.concept.number], strict=True):
            if neuron < 0:
                continue
            layer, index = divmod(int(neuron), loaded.n_neurons)
            usual = np.float32(a.mean_LI[layer, index])
            raised = (acts_LTI[layer, own, index] - usual) * weight > 0
            wanted[layer, np.array(own)[raised], index] = usual
        delta = torch.from_numpy(wanted - acts_LTI)
        with torch.no_grad():
            handles = [
                site.module.register_forward_pre_hook(lambda _module, args, site=site, delta=delta: (args[0] + delta[site.layer],))
                for site in loaded.sites
            ]
            logits_V = loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()
            for handle in handles:
                handle.remove()
            plain_V = loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()

        def odds(logits: torch.Tensor) -> float:
            p = float(torch.softmax(logits, 0)[65])
            return float(np.log(p / (1 - p)))

        assert cause.effect == pytest.approx(odds(plain_V) - odds(logits_V), abs=1e-4)
        assert cause.probability == pytest.approx(float(torch.softmax(plain_V, 0)[65]), abs=1e-6)
        assert cause.probability_without == pytest.approx(float(torch.softmax(logits_V, 0)[65]), abs=1e-6)
        others = torch.softmax(logits_V, 0)
        others[65] = 0
        assert cause.instead_id == int(others.argmax())


def test_rows_are_ordered_seeded_and_have_their_control(loaded: LoadedModel, made: Detectors) -> None:
    found = causes(loaded, made)
    assert [abs(c.effect) for c in found] == sorted((abs(c.effect) for c in found), reverse=True)
    assert found == causes(loaded, made)
    assert (found[0].random_low, found[0].random_high) != (causes(loaded, made, search=CauseSearch(seed=1))[0].random_low, 0)
    assert all(c.random_low <= c.random_high for c in found)
    assert all(c.is_cause == (c.effect < c.random_low or c.effect > c.random_high) for c in found)


def test_bad_targets_are_refused_and_a_stop_stops(loaded: LoadedModel, made: Detectors) -> None:
    ids, acts_LTI, own = given(loaded)
    with pytest.raises(InvalidInput, match="not in this text"):
        measure_causes(loaded, made, Asked(ids, len(ids), acts_LTI, own))
    with pytest.raises(InvalidInput, match="no word stands before"):
        measure_causes(loaded, made, Asked(ids, own[0], acts_LTI, own))

    def stop(done: int, total: int | None, message: str) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        causes(loaded, made, progress=stop)
    assert not [site for site in loaded.sites if site.module._forward_pre_hooks]


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_every_architecture_runs(arch: str, home: object) -> None:
    other = tiny_model(arch)
    detectors = build_detectors(other, letter_lexicon(), settings=SETTINGS, corpus=tiny_corpus())
    found = causes(other, detectors, search=CauseSearch(random=3))
    assert all(np.isfinite(c.effect) for c in found)
