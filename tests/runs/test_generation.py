"""Generation: the same tokens as transformers' own, recorded exactly, replayed bit for bit."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from neurons.core.errors import Cancelled, InvalidInput, ModelError
from neurons.core.steers import Steer
from neurons.core.types import Message, NeuronSide, Sampling
from neurons.models.chat import encode_prompt
from neurons.runs.generation import Decoder, Generation, generate
from neurons.runs.hooks import run_forward
from tests.support.tiny_models import ARCHITECTURES, tiny_model

PROMPT = tuple(range(60, 90))


def same(a: Generation, b: Generation) -> bool:
    """Bit for bit: ids, activations and what the model thought."""
    arrays = ("acts_LTI", "topk_ids_TK", "topk_probs_TK", "rank_T", "logprob_T", "entropy_T")
    return a.answer_ids == b.answer_ids and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_greedy_matches_plain_generate(arch: str) -> None:
    loaded = tiny_model(arch)
    run = generate(loaded, PROMPT, sampling=Sampling(max_new_tokens=8))
    plain = loaded.model.generate(torch.tensor([PROMPT]), max_new_tokens=8, do_sample=False, eos_token_id=list(loaded.eos_ids))
    assert list(run.answer_ids) == plain[0, len(PROMPT) :].tolist()
    assert run.acts_LTI is not None
    assert run.acts_LTI.shape == (loaded.n_layers, len(PROMPT) + len(run.answer_ids), loaded.n_neurons)


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_default_model_repeats_bit_for_bit(default_model, temperature: float) -> None:
    prompt = encode_prompt(default_model, [Message("user", "Name a river in Peru and say where it ends.")]).ids
    sampling = Sampling(temperature=temperature, top_p=0.95, top_k=50, max_new_tokens=12, seed=5)
    first, second = (generate(default_model, prompt, sampling=sampling) for _ in range(2))
    assert same(first, second)
    assert same(first, generate(default_model, prompt, sampling=sampling, forced_ids=first.answer_ids))


def test_seed_changes_the_sample() -> None:
    loaded = tiny_model()
    runs = {generate(loaded, PROMPT, sampling=Sampling(temperature=1.5, max_new_tokens=10, seed=s)).answer_ids for s in range(4)}
    assert len(runs) == 4


def test_recorded_facts_agree_with_a_plain_forward(default_model) -> None:
    prompt = encode_prompt(default_model, [Message("user", "Say hello.")]).ids
    run = generate(default_model, prompt, sampling=Sampling(max_new_tokens=6))
    ids = run.prompt_ids + run.answer_ids
    logits_TV = run_forward(default_model, torch.tensor([ids])).logits[0]
    logp_TV = logits_TV.log_softmax(-1)
    taken = logp_TV[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
    np.testing.assert_allclose(run.logprob_T[1:], taken, atol=2e-3)
    np.testing.assert_array_equal(run.rank_T[1:], (logp_TV[:-1] > torch.tensor(taken)[:, None] + 1e-6).sum(-1).numpy())
    np.testing.assert_allclose(run.topk_probs_TK[-1], logp_TV[-2].exp().topk(10).values.numpy(), atol=1e-3)
    assert run.rank_T[0] == -1
    assert run.topk_ids_TK[0].tolist() == [-1] * 10


def test_recorded_activations_are_the_down_projections_inputs() -> None:
    loaded = tiny_model()
    run = generate(loaded, PROMPT, sampling=Sampling(max_new_tokens=4))
    seen: dict[int, torch.Tensor] = {}
    run_forward(loaded, torch.tensor([run.prompt_ids + run.answer_ids]), record=lambda layer, acts: seen.update({layer: acts[0].clone()}))
    assert run.acts_LTI is not None
    for layer, acts_TI in seen.items():
        np.testing.assert_allclose(run.acts_LTI[layer], acts_TI.numpy(), rtol=2e-3, atol=1e-4)


def test_long_prompt_in_chunks_is_exact_to_rounding() -> None:
    loaded = tiny_model("llama", max_position_embeddings=2048)
    prompt = [int(i) for i in np.random.default_rng(0).integers(0, 255, 1100)]
    run = generate(loaded, prompt, sampling=Sampling(max_new_tokens=2))
    logits = run_forward(loaded, torch.tensor([prompt])).logits[0]
    np.testing.assert_allclose(
        run.logprob_T[1:1100], logits.log_softmax(-1)[:-1].gather(1, torch.tensor(prompt[1:])[:, None])[:, 0], atol=1e-3
    )


def test_stop_keeps_the_answer_so_far() -> None:
    loaded = tiny_model()
    taken: list[int] = []

    def stop_after_three(token: int) -> None:
        taken.append(token)
        if len(taken) == 3:
            raise Cancelled("stopped")

    run = generate(loaded, PROMPT, sampling=Sampling(max_new_tokens=50), on_token=stop_after_three)
    assert run.finish_reason == "cancelled"
    assert list(run.answer_ids) == taken
    assert run.acts_LTI is not None
    assert run.acts_LTI.shape[1] == len(PROMPT) + 3


def test_another_session_does_not_change_the_answer() -> None:
    """A steered and an unsteered run on one model at once: each as if alone, and no hook is left."""
    loaded = tiny_model()
    sampling = Sampling(temperature=1.0, max_new_tokens=30, seed=1)
    steer = Steer(tuple(NeuronSide(1, i) for i in range(20)), "set", 1.0, values=(3.0,) * 20)
    alone = generate(loaded, PROMPT, sampling=sampling), generate(loaded, PROMPT, sampling=sampling, steers=[steer])
    assert alone[0].answer_ids != alone[1].answer_ids
    together: dict[int, Generation] = {}

    def run(number: int) -> None:
        together[number] = generate(loaded, PROMPT, sampling=sampling, steers=[steer] if number % 2 else ())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(together[number], alone[number % 2]) for number in range(4))
    assert not any(site.module._forward_pre_hooks for site in loaded.sites)


def test_interleaved_decoders_equal_separate_runs() -> None:
    loaded = tiny_model()
    sampling = Sampling(max_new_tokens=10)
    steer = Steer((NeuronSide(0, 3),), "add", 1.0, values=(4.0,))
    pair = [Decoder(loaded, PROMPT, sampling=sampling), Decoder(loaded, PROMPT, sampling=sampling, steers=[steer])]
    while not all(decoder.done for decoder in pair):
        for decoder in pair:
            decoder.step()
    assert same(pair[0].result(), generate(loaded, PROMPT, sampling=sampling))
    assert same(pair[1].result(), generate(loaded, PROMPT, sampling=sampling, steers=[steer]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 2.0}, "top_p"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -5}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_name_the_field(changes: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        generate(tiny_model(), PROMPT, sampling=Sampling(**changes))
    assert caught.value.field == field


def test_prompts_that_cannot_run_are_refused() -> None:
    loaded = tiny_model()
    with pytest.raises(InvalidInput, match="empty"):
        generate(loaded, [], sampling=Sampling())
    with pytest.raises(InvalidInput, match="512 positions"):
        generate(loaded, [65] * 512, sampling=Sampling())
    with pytest.raises(InvalidInput, match="token id 999"):
        generate(loaded, [999], sampling=Sampling())


def test_answer_ends_at_the_models_last_position() -> None:
    run = generate(tiny_model(max_position_embeddings=40), PROMPT, sampling=Sampling(max_new_tokens=50, temperature=1.0))
    assert run.finish_reason in ("context", "stop")
    assert len(run.prompt_ids + run.answer_ids) <= 40


def test_output_that_is_not_finite_is_an_error() -> None:
    loaded = tiny_model()
    with torch.no_grad():
        loaded.model.get_output_embeddings().weight[5] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        generate(loaded, PROMPT, sampling=Sampling(max_new_tokens=2))
