"""Detectors of a tiny model: what is planted is found, what is not is not; batches with a kept beginning equal plain passes; jobs go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from neurons.core.errors import Cancelled, InvalidInput, StoreError
from neurons.core.types import Message
from neurons.detectors.build import DetectorSettings, build_detectors, job_worker
from neurons.detectors.collect import Texts, collect_features
from neurons.detectors.features import encode_texts, text_means
from neurons.detectors.fit import FitSettings
from neurons.detectors.store import Detectors, detectors_folder, open_detectors
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from neurons.storage.jobs import JobRunner
from neurons.storage.manifest import MANIFEST
from tests.support.atlases import tiny_corpus
from tests.support.lexicons import letter_lexicon
from tests.support.tiny_models import ARCHITECTURES, tiny_model

SETTINGS = DetectorSettings(FitSettings(neurons=20), corpus_tokens=3000)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def made(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Detectors:
    return build_detectors(loaded, letter_lexicon(), settings=SETTINGS, folder=tmp_path_factory.mktemp("made"), corpus=tiny_corpus())


def acts_of(loaded: LoadedModel, text: str) -> tuple[np.ndarray, list[int]]:
    """Activations of a text as the user's message, and the positions of its own tokens."""
    prompt = encode_prompt(loaded, [Message("user", text)])
    kept: list[torch.Tensor] = []
    run_forward(loaded, torch.tensor([prompt.ids]), record=lambda _layer, acts_BTI: kept.append(acts_BTI[0].clone()))
    own = next(s for s in reversed(prompt.segments) if s.role == "user" and not s.template)
    return torch.stack(kept).numpy(), list(range(own.start, own.stop))


def test_planted_concepts_are_found_and_others_are_not(made: Detectors) -> None:
    assert made.found[:6].all()
    assert not made.found[6:].any()
    rates = [made.rates(n) for n in range(len(made))]
    assert all(rate.auroc > 0.9 and rate.auroc_near > 0.8 and rate.q < 0.01 for rate in rates[:6])
    assert np.mean([rate.auroc_shuffled for rate in rates]) < 0.6


def test_a_new_text_shows_its_concept_first(loaded: LoadedModel, made: Detectors) -> None:
    for number, text in ((0, "abcdabdcadbcab"), (3, "mnopnmpomnopom")):
        acts_LTI, own = acts_of(loaded, text)
        best = made.active(acts_LTI, own, 3)[0]
        assert best.number == number
        assert best.rarity > 5
        assert {position for position, _ in best.tokens} <= set(own)
        assert sum(share for _, share in best.neurons) <= 1 + 1e-6
        sides = dict(made.sides(number))
        assert all(side in sides for side, _ in best.neurons)


def test_what_is_not_found_is_never_active(loaded: LoadedModel, made: Detectors) -> None:
    acts_LTI, own = acts_of(loaded, "qzjxkvbwpyqzjx")
    assert all(made.found[row.number] for row in made.active(acts_LTI, own, len(made)))


def test_a_texts_score_is_its_tokens_mean(loaded: LoadedModel, made: Detectors) -> None:
    acts_LTI, own = acts_of(loaded, "efghefgh")
    score_TC = made.score(acts_LTI, own)
    assert score_TC.shape == (len(own), len(made))
    together = made.active(acts_LTI, own, len(made))
    assert together
    assert [row.strength for row in together] == pytest.approx([score_TC.mean(0)[row.number] for row in together], abs=1e-4)
    a = made.arrays
    by_hand = acts_LTI.transpose(1, 0, 2).reshape(acts_LTI.shape[1], -1)[own][:, a.neuron_CK[2]] @ a.weight_CK[2] + a.bias_C[2]
    assert np.allclose(score_TC[:, 2], by_hand, atol=1e-4)


def test_rarity_is_what_the_corpus_says(loaded: LoadedModel, made: Detectors) -> None:
    a = made.arrays
    scores = np.stack([a.tail_3CQ[0, :, q] for q in (0, 2, 5)])
    rarity = made.rarity(scores, tokens=1)
    assert np.allclose(rarity, np.array([2, 10, 100])[:, None], rtol=0.02)
    assert (made.rarity(np.full((1, len(made)), -1e6), tokens=1) == 1).all()
    assert (made.rarity(scores + 1, tokens=1) >= rarity).all()


def test_refusals(loaded: LoadedModel, made: Detectors) -> None:
    acts_LTI, _ = acts_of(loaded, "efgh")
    with pytest.raises(InvalidInput, match="no token is left"):
        made.active(acts_LTI, [], 3)
    with pytest.raises(InvalidInput, match="choose tokens from 0 to"):
        made.active(acts_LTI, [999], 3)
    with pytest.raises(InvalidInput, match="not of tiny llama"):
        made.score(acts_LTI[:, :, :-1])
    with pytest.raises(InvalidInput, match="at least 3 concepts"):
        build_detectors(loaded, letter_lexicon(planted=2, unplanted=0))


def test_saved_ones_open_again_and_damage_is_told(loaded: LoadedModel, made: Detectors, home: Path) -> None:
    assert open_detectors(loaded.ref) is None
    build_detectors(loaded, letter_lexicon(), settings=SETTINGS, corpus=tiny_corpus())
    folder = detectors_folder(loaded.ref)
    opened = open_detectors(loaded.ref)
    assert opened is not None
    assert opened.names == made.names
    assert np.array_equal(opened.arrays.weight_CK, made.arrays.weight_CK)
    assert not (folder / "work").exists()
    near = open_detectors(tiny_model(seed=3).ref)
    assert near is not None
    assert "other weights" in near.note_for(tiny_model(seed=3).ref)
    assert open_detectors(tiny_model("gpt2").ref) is None
    told = json.loads((folder / MANIFEST).read_text())
    ((name, entry),) = told.pop("files").items()
    del told["sha256"]
    sealed = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_text(json.dumps({**told, "version": 1, "file": {"name": name, **entry}}))
    of_the_first_version = open_detectors(loaded.ref)
    assert of_the_first_version is not None
    assert np.array_equal(of_the_first_version.arrays.weight_CK, made.arrays.weight_CK)
    (folder / MANIFEST).write_bytes(sealed.replace(b'"found": ', b'"found": 1', 1))
    with pytest.raises(StoreError, match="checksum"):
        open_detectors(loaded.ref)
    (folder / MANIFEST).write_bytes(sealed)
    file = next(folder.glob("detectors-*.zarr.zip"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="atlas concepts"):
        open_detectors(loaded.ref)


def test_a_stopped_job_goes_on(loaded: LoadedModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurons.detectors.collect.CHUNK", 32)
    texts = Texts.of(letter_lexicon())
    seen = []

    def stop(done: int, total: int | None, message: str) -> None:
        seen.append(done)
        if done > 60:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        collect_features(loaded, texts, home / "work", fingerprint="f", progress=stop)
    passes = []
    original = text_means
    monkeypatch.setattr("neurons.detectors.collect.text_means", lambda *given: passes.append(1) or original(*given))
    features = collect_features(loaded, texts, home / "work", fingerprint="f")
    assert len(passes) == -(-len(texts.texts) // 32) - 2
    whole = collect_features(loaded, texts, home / "other", fingerprint="f")
    assert torch.equal(features.layer(1, np.arange(9)), whole.layer(1, np.arange(9)))
    collect_features(loaded, texts, home / "work", fingerprint="another lexicon")
    assert len(passes) == 3 * -(-len(texts.texts) // 32) - 2


def test_it_runs_as_a_job(loaded: LoadedModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurons.detectors.build.load_lexicon", letter_lexicon)
    monkeypatch.setattr("neurons.detectors.build.calibration_corpus", lambda *_given, **_named: tiny_corpus())
    runner = JobRunner()
    runner.register("detectors", job_worker(lambda _params, _progress: loaded))
    job = runner.wait(runner.start("detectors", {"model": "tiny"}, title="concepts").id, timeout=120)
    runner.close()
    assert job.state == "done", job.message
    assert job.result == {"concepts": 8, "found": 6}


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_batches_after_a_kept_beginning_equal_plain_passes(arch: str) -> None:
    loaded = tiny_model(arch)
    texts = ["a quick one", "and a text that is rather longer than it", "mid length text"]
    means_NLI = text_means(loaded, encode_texts(loaded, texts), {})
    for text, means_LI in zip(texts, means_NLI, strict=True):
        acts_LTI, own = acts_of(loaded, text)
        width = acts_LTI.shape[2]
        assert torch.allclose(means_LI[:, :width], torch.from_numpy(acts_LTI[:, own]).mean(1), atol=2e-4), text
