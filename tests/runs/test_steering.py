"""Steers: exact where they act, without a trace elsewhere, strict about what they are given."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurons.atlas.quantiles import quantiles_for
from neurons.core.errors import Cancelled, InvalidFile, InvalidInput, InvalidSteer
from neurons.core.steers import Fade, Steer, TokenScope
from neurons.core.types import Message, ModelRef, NeuronSide, Sampling
from neurons.models.chat import decode, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.batched import SteeredPrompt, answers, logprobs
from neurons.runs.generation import generate
from neurons.runs.hooks import hooked, run_forward
from neurons.runs.steering import (
    compile_edits,
    dump_steers,
    load_steers,
    parse_steers,
    parse_steers_text,
    placed,
    positions_note,
    resolve,
    steered,
    unplaced,
)
from tests.support.tiny_models import ARCHITECTURES, tiny_model

IDS = torch.tensor([list(range(60, 80))])
NEURONS = (NeuronSide(1, 3), NeuronSide(1, 7, "-"), NeuronSide(2, 5))
VALUES = (2.0, -3.0, 1.5)


def recorded(loaded: LoadedModel, steers: list[Steer], prompt_tokens: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """(acts_LTI, logits_TV) of one steered pass."""
    acts: list[torch.Tensor] = []
    output = run_forward(
        loaded,
        IDS,
        edits=compile_edits(loaded, steers, prompt_tokens),
        record=lambda _layer, a: acts.append(torch.nn.functional.pad(a[0], (0, loaded.n_neurons - a.shape[2]))),
    )
    return torch.stack(acts), output.logits[0]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("mode", ["set", "scale", "add", "cap"])
def test_edit_is_exact_and_nothing_before_it_changes(arch: str, mode: str) -> None:
    loaded = tiny_model(arch)
    base, _ = recorded(loaded, [])
    acts, logits = recorded(loaded, [Steer(NEURONS, mode, 0.5, TokenScope("ranges", ((4, 6),)), values=VALUES)])
    for side, value in zip(NEURONS[:2], VALUES[:2], strict=True):
        old = base[1, 4:6, side.index]
        capped = old.clamp(max=0.5 * value) if side.polarity == "+" else old.clamp(min=0.5 * value)
        expected = {"set": torch.full_like(old, 0.5 * value), "scale": old * 0.5, "add": old + 0.5 * value, "cap": capped}[mode]
        assert torch.equal(acts[1, 4:6, side.index], expected)
    assert torch.equal(acts[0], base[0])
    assert torch.equal(acts[:, :4], base[:, :4])
    others = [i for i in range(loaded.sites[1].width) if i not in (3, 7)]
    assert torch.equal(acts[1][:, others], base[1][:, others])
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("arch", ["llama", "gpt2", "mixtral"])
def test_edit_adds_exactly_the_neurons_output_row(arch: str) -> None:
    """The residual after the edited layer changes by value times the neuron's output row (its first use of `output_rows`)."""
    loaded = tiny_model(arch)
    site = loaded.sites[0]
    owner = site.mlp if site.experts is not None else site.module
    outputs: list[torch.Tensor] = []
    steers: list[list[Steer]] = [[], [Steer((NeuronSide(0, 2),), "add", 1.0, values=(1.25,))]]
    for given in steers:
        handle = owner.register_forward_hook(lambda _m, _a, out: outputs.append(out.reshape(-1, out.shape[-1]).clone()))
        recorded(loaded, given)
        handle.remove()
    change = outputs[1] - outputs[0]
    row = site.output_rows()[2] * 1.25
    if site.experts is None:
        torch.testing.assert_close(change, row.expand_as(change), atol=1e-5, rtol=1e-4)
    else:  # only where the token is routed to the expert, by its routing weight
        routed = change.abs().amax(-1) > 1e-6
        assert 0 < int(routed.sum()) < len(change)
        torch.testing.assert_close(
            torch.nn.functional.normalize(change[routed]),
            torch.nn.functional.normalize(row[None]).expand(int(routed.sum()), -1),
            atol=1e-3,
            rtol=1e-3,
        )


@pytest.mark.parametrize(
    "steer",
    [
        Steer(NEURONS, "scale", 1.0),
        Steer((), "set", 0.0),
        Steer(NEURONS, "set", 0.0, enabled=False),
        Steer(NEURONS, "add", 0.0),
        Steer(NEURONS, "set", 0.0, TokenScope("ranges", ((400, 401),))),
    ],
)
def test_no_effect_by_construction_is_bit_identical(default_model, steer: Steer) -> None:
    prompt = tuple(default_model.tokenizer.encode("The sun rises in the"))
    plain = generate(default_model, prompt, sampling=Sampling(max_new_tokens=5))
    same = generate(default_model, prompt, sampling=Sampling(max_new_tokens=5), steers=resolve(default_model, [steer]))
    assert plain.answer_ids == same.answer_ids
    assert np.array_equal(plain.acts_LTI, same.acts_LTI)
    assert np.array_equal(plain.logprob_T, same.logprob_T)


def test_scopes_cover_what_they_say() -> None:
    def covered(text: str) -> list[int]:
        return [t for t in range(8) if TokenScope.parse(text).covers(t, 5)]

    assert covered("all") == list(range(8))
    assert covered("prompt") == [0, 1, 2, 3, 4]
    assert covered("answer") == [5, 6, 7]
    assert covered("1:3, 6") == [1, 2, 6]
    assert covered("2,answer") == [2, 5, 6, 7]
    assert [str(TokenScope.parse(text)) for text in ("From_Question", "question, answer", "1:3,answer")] == [
        "from question",
        "question,answer",
        "1:3,answer",
    ]
    with pytest.raises(InvalidInput, match="5:5"):
        TokenScope.parse("5:5")


def test_named_scopes_are_found_in_every_prompt() -> None:
    loaded = tiny_model()
    asked = Steer(NEURONS, "set", 1.0, TokenScope.parse("question,answer"), values=VALUES)
    turns = [Message("user", "Who are you?"), Message("assistant", "I"), Message("user", "why")]
    for system in (None, "Be concise."):
        prompt = encode_prompt(loaded, turns if system is None else [Message("system", system), *turns])
        assert prompt.question is not None
        assert decode(loaded, prompt.ids[slice(*prompt.question)]) == "why"
        (on_question,), (onwards,) = (
            resolve(loaded, [replace(asked, tokens=TokenScope.parse(text))], prompt=prompt) for text in ("question,answer", "from-question")
        )
        total = len(prompt.ids)
        after = [total, total + 1]
        assert [t for t in range(total + 2) if on_question.tokens.covers(t, total)] == [*range(*prompt.question), *after]
        assert [t for t in range(total + 2) if onwards.tokens.covers(t, total)] == list(range(prompt.question[0], total + 2))
        assert unplaced([on_question]) == (asked,)
        assert "question" in on_question.tokens.words
    with pytest.raises(InvalidSteer, match="encoded prompt"):
        generate(loaded, prompt.ids, sampling=Sampling(max_new_tokens=1), steers=[asked])
    with pytest.raises(InvalidSteer, match="no user turn"):
        placed([asked], None)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("scope", ["answer", "prompt", "question", "from question", "2:4,answer", "all"])
@pytest.mark.parametrize("arch", ["llama", "gpt2", "gemma2", "mixtral"])
def test_steered_generate_equals_plain_hooks(arch: str, scope: str, use_cache: bool) -> None:
    """transformers' own generate in `steered`, against hooks that see the whole text at every step and need no count."""
    loaded = tiny_model(arch)
    prompt = encode_prompt(loaded, [Message("user", "Tell me")])
    assert prompt.question is not None
    first, last = prompt.question
    steer = Steer((NeuronSide(1, 3), NeuronSide(2, 5)), "set", 1.0, TokenScope.parse(scope), values=(6.0, -5.0))
    ids, total = list(prompt.ids), len(prompt.ids)
    with steered(loaded, resolve(loaded, [steer]), prompt=prompt):
        given = {"attention_mask": torch.ones(1, total, dtype=torch.long), "max_new_tokens": 6, "do_sample": False, "use_cache": use_cache}
        got = loaded.model.generate(torch.tensor([ids]), **given, eos_token_id=None)[0].tolist()
    where = {
        "answer": lambda t: t >= total,
        "prompt": lambda t: t < total,
        "question": lambda t: first <= t < last,
        "from question": lambda t: t >= first,
        "2:4,answer": lambda t: t in (2, 3) or t >= total,
        "all": lambda t: True,
    }[scope]

    def hook(channel: int, value: float):
        def write(_module, args):
            acts = args[0].clone()
            rows = acts.view(-1, acts.shape[-1])
            for t in filter(where, range(len(rows))):
                rows[t, channel] = value
            return (acts, *args[1:])

        return write

    handles = [loaded.sites[n].module.register_forward_pre_hook(hook(c, v)) for n, c, v in ((1, 3, 6.0), (2, 5, -5.0))]
    for _ in range(6):
        ids.append(int(loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    for handle in handles:
        handle.remove()
    assert got == ids


FADING = Steer((NeuronSide(1, 3), NeuronSide(2, 5)), "add", 1.0, TokenScope("all"), values=(6.0, -5.0), fade=Fade(2, 0.25))
CAPPING = Steer((NeuronSide(1, 3), NeuronSide(2, 5, "-")), "cap", 1.0, TokenScope("all"), values=(-0.2, 0.3))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("steer", [FADING, CAPPING], ids=["fading", "capping"])
@pytest.mark.parametrize("arch", ["llama", "gpt2", "mixtral"])
def test_fading_and_capping_equal_plain_hooks(arch: str, steer: Steer, use_cache: bool) -> None:
    loaded = tiny_model(arch)
    prompt = encode_prompt(loaded, [Message("user", "Tell me")])
    ids, total = list(prompt.ids), len(prompt.ids)
    with steered(loaded, resolve(loaded, [steer]), prompt=prompt):
        given = {"attention_mask": torch.ones(1, total, dtype=torch.long), "max_new_tokens": 6, "do_sample": False, "use_cache": use_cache}
        got = loaded.model.generate(torch.tensor([ids]), **given, eos_token_id=None)[0].tolist()
    ours = generate(loaded, prompt.ids, sampling=Sampling(max_new_tokens=6), steers=[steer], forced_ids=got[total:])

    def hook(channel: int, value: float, positive: bool):
        def write(_module, args):
            acts = args[0].clone()
            rows = acts.view(-1, acts.shape[-1])
            for t in range(len(rows)):
                if steer.mode == "add":
                    rows[t, channel] += value if t < total + 2 else value * 0.25
                else:
                    rows[t, channel] = min(rows[t, channel], value) if positive else max(rows[t, channel], value)
            return (acts, *args[1:])

        return write

    seen: list[torch.Tensor] = []
    handles = [
        loaded.sites[side.layer].module.register_forward_pre_hook(hook(side.index, value, side.polarity == "+"))
        for side, value in zip(steer.neurons, steer.values, strict=True)
    ]
    keep = loaded.sites[1].module.register_forward_pre_hook(lambda _m, args: seen.append(args[0].reshape(-1, args[0].shape[-1])[:, 3]))
    handles.append(keep)
    for _ in range(6):
        ids.append(int(loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    loaded.model(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    assert got == ids
    np.testing.assert_allclose(ours.acts_LTI[1, :, 3], seen[-1].numpy(), atol=2e-3)


def test_batched_answers_and_scores_are_those_of_single_runs() -> None:
    """Rows of different lengths, each with steers of its own, some with several."""
    loaded = tiny_model()
    talks = ["Tell me", "Tell me more of it", "a", "Who are you?"]
    steers = [(FADING,), (CAPPING, replace(FADING, tokens=TokenScope("from question"))), (), (Steer(NEURONS, "set", 0.5, values=VALUES),)]
    prompts = [encode_prompt(loaded, [Message("user", text)]) for text in talks]
    rows = [SteeredPrompt(p.ids, resolve(loaded, s, prompt=p)) for p, s in zip(prompts, steers, strict=True)]
    given = answers(loaded, rows, new_tokens=6)
    alone = [generate(loaded, row.ids, sampling=Sampling(max_new_tokens=6), steers=row.steers) for row in rows]
    assert given == [run.answer_ids for run in alone]
    assert len(set(given)) == len(given)
    scores = logprobs(loaded, rows, given)
    np.testing.assert_allclose(scores, [run.logprob_T[len(run.prompt_ids) :].mean() for run in alone], atol=1e-3)

    def stop(done: int, total: int | None, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        answers(loaded, rows, new_tokens=6, progress=stop)
    assert not any(site.module._forward_pre_hooks for site in loaded.sites)


def test_padded_batches_are_steered_everywhere_or_refused() -> None:
    loaded = tiny_model()
    ids, mask = torch.tensor([[258, 70, 71], [72, 73, 74]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    with steered(loaded, [Steer(NEURONS, "set", 1.0, values=VALUES)], prompt_tokens=3):
        loaded.model(ids, attention_mask=mask)
    with (
        steered(loaded, [Steer(NEURONS, "set", 1.0, TokenScope("answer"), values=VALUES)], prompt_tokens=3),
        pytest.raises(InvalidInput, match="padded"),
    ):
        loaded.model(ids, attention_mask=mask)
    with pytest.raises(InvalidInput, match="where the prompt ends"), steered(loaded, []):
        pass


@pytest.mark.parametrize("steer", [FADING, Steer(NEURONS, "add", 1.0, TokenScope("answer"), values=VALUES)])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_padding_is_seen_whatever_the_cache_makes_of_the_mask(steer: Steer, cache: str) -> None:
    """A fade counts tokens of the answer, so that it is no clearer in a padded batch than a scope; a static cache has masks of its own."""
    loaded = tiny_model()
    ids, mask = torch.tensor([[258, 70, 71], [72, 73, 74]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    everywhere = replace(steer, tokens=TokenScope("all"))
    how = {"max_new_tokens": 4, "do_sample": False, "cache_implementation": cache, "pad_token_id": 258, "eos_token_id": None}
    with steered(loaded, [everywhere if steer.fade else steer], prompt_tokens=3):
        with pytest.raises(InvalidInput, match="padded"):
            loaded.model.generate(ids, attention_mask=mask, **how)
        loaded.model.generate(ids[1:], attention_mask=mask[1:], **how)


@pytest.mark.parametrize("mode", ["set", "add", "scale"])
@pytest.mark.parametrize("values", [(2.0, -3.0), (3.0, -2.0), (2.0, -2.0)])
def test_both_sides_of_a_neuron_are_one_in_any_order(mode: str, values: tuple[float, float]) -> None:
    loaded = tiny_model()
    plus, minus, other = NeuronSide(1, 3), NeuronSide(1, 3, "-"), NeuronSide(2, 5)
    one = Steer((plus, minus, other), mode, 0.5, values=(*values, 1.5))
    two = Steer((other, minus, plus), mode, 0.5, values=(1.5, *values[::-1]))
    stronger = max(values, key=lambda v: (abs(v), v))
    alone = Steer((plus, other), mode, 0.5, values=(stronger, 1.5))
    runs = [recorded(loaded, [steer]) for steer in (one, two, alone)]
    for acts, logits in runs[:2]:
        assert torch.equal(acts, runs[2][0])
        assert torch.equal(logits, runs[2][1])
    assert one.size == two.size == 2
    (applied,) = resolve(loaded, [one])
    assert len(applied.neurons) == one.size


def test_answer_scope_acts_on_answer_tokens_only() -> None:
    loaded = tiny_model()
    prompt = IDS[0].tolist()
    run = generate(
        loaded,
        prompt,
        sampling=Sampling(max_new_tokens=5),
        steers=[Steer((NeuronSide(1, 3),), "set", 1.0, TokenScope("answer"), values=(9.0,))],
    )
    assert run.acts_LTI is not None
    assert (run.acts_LTI[1, len(prompt) :, 3] == 9.0).all()
    assert not (run.acts_LTI[1, : len(prompt), 3] == 9.0).any()


def test_hooks_come_off_when_the_block_fails() -> None:
    loaded = tiny_model()
    with pytest.raises(RuntimeError, match="inside"), hooked(loaded, record=lambda _layer, _acts: None):
        raise RuntimeError("inside")
    with pytest.raises(ZeroDivisionError):
        run_forward(loaded, IDS, record=lambda _layer, _acts: 1 // 0)
    assert not any(site.module._forward_pre_hooks for site in loaded.sites)
    assert loaded.lock.acquire(blocking=False)


def test_steered_context_for_notebooks() -> None:
    loaded = tiny_model()
    plain = loaded.model(IDS).logits
    with steered(loaded, [Steer(NEURONS, "set", 1.0, values=VALUES)], prompt_tokens=20):
        assert not torch.equal(loaded.model(IDS).logits, plain)
    assert torch.equal(loaded.model(IDS).logits, plain)


@pytest.mark.parametrize(
    ("steer", "message"),
    [
        (Steer((NeuronSide(9, 0),)), "layers 0 to 2"),
        (Steer((NeuronSide(0, 48),)), "neurons 0 to 47"),
        (Steer(NEURONS, "set", float("nan")), "strength is nan"),
        (Steer(NEURONS, "set", 1e30), "strength is 1e"),
        (Steer(NEURONS, "multiply"), "use set, scale, add or cap"),  # type: ignore[arg-type]
        (Steer(NEURONS, "set", 1.0, values=VALUES, fade=Fade()), "mode set cannot fade"),
        (Steer(NEURONS, "add", 1.0, values=VALUES, fade=Fade(3, float("nan"))), "cannot fade to nan"),
        (Steer(NEURONS, "add", 1.0, values=(1.0,)), "3 neurons but 1 values"),
        (Steer(NEURONS, "add", 1.0), "needs the neurons' quantiles"),
    ],
)
def test_bad_steers_are_refused_before_anything_runs(steer: Steer, message: str) -> None:
    with pytest.raises(InvalidSteer, match=message):
        resolve(tiny_model(), [steer])


def test_quantiles_calibrate_any_model_and_fill_values(home) -> None:
    loaded = tiny_model()
    table = quantiles_for(loaded)
    assert table.tokens > 5000
    assert (table.extreme_2LI[0] >= 0).all()
    assert (table.extreme_2LI[1] <= 0).all()
    again = quantiles_for(loaded)
    assert np.array_equal(again.extreme_2LI, table.extreme_2LI)
    (steer,) = resolve(loaded, [Steer(NEURONS, "set", 0.5)], quantiles=table)
    assert steer.values == (table.extreme_2LI[0, 1, 3], table.extreme_2LI[1, 1, 7], table.extreme_2LI[0, 2, 5])


def test_file_round_trip_keeps_every_field(tmp_path) -> None:
    loaded = tiny_model()
    steers = (
        Steer(NEURONS, "set", 0.75, TokenScope("ranges", ((3, 9), (12, 14)), with_answer=True), "mine", False, VALUES),
        Steer(NEURONS[:1], "scale", 0.0, TokenScope("answer")),
        Steer(NEURONS, "cap", 1.0, values=VALUES),
        Steer(NEURONS, "add", 1.5, values=VALUES, fade=Fade(12, 0.5)),
    )
    path = tmp_path / "steer.json"
    path.write_text(json.dumps(dump_steers(steers, loaded.ref)), encoding="utf-8")
    assert load_steers(path, ref=loaded.ref) == steers
    assert "3:9, 12:14 counted from the prompt's start" in positions_note(steers)
    assert positions_note(steers[1:]) == ""
    assert [("fade" in one) for one in dump_steers(steers, loaded.ref)["steers"]] == [False, False, False, True]  # else as before


@pytest.mark.parametrize(
    ("data", "neurons"),
    [
        ([{"neurons": ["1:3-"]}], (NeuronSide(1, 3, "-"),)),
        ({"neurons": [[1, 3]], "polarity": "-"}, (NeuronSide(1, 3, "-"),)),
        ({"steers": [{"neurons": [{"layer": 1, "index": 3}]}]}, (NeuronSide(1, 3),)),
        ({"steers": [{"neurons": ["L1:N3"], "tokens": [[2, 4]]}]}, (NeuronSide(1, 3),)),
    ],
)
def test_lenient_forms_people_write(data, neurons) -> None:
    assert parse_steers(data)[0].neurons == neurons


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", InvalidFile, "not JSON"),
        ("[{}]", InvalidSteer, "neurons"),
        ('[{"neurons": ["x"]}]', InvalidSteer, "layer:index"),
        ('[{"neurons": ["1:2"], "strength": NaN}]', InvalidFile, "NaN"),
        ('[{"neurons": ["1:2"], "strengh": 2}]', InvalidSteer, "strengh"),
        ('[{"neurons": ["1:2"], "tokens": "9:3"}]', InvalidSteer, "token range"),
        ('[{"neurons": [[1, -2]]}]', InvalidSteer, "not a neuron"),
        ('{"format": "other", "steers": []}', InvalidSteer, "not a steer file"),
        ('{"model": {"architecture": "GPT2LMHeadModel", "name": "gpt2"}, "steers": []}', InvalidSteer, "saved for gpt2"),
        ("[" * 20000, InvalidFile, "not JSON"),
    ],
)
def test_bad_files_say_what_is_wrong(text: str, error: type[InvalidInput], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_steers_text(text, ref=tiny_model().ref)


def test_a_file_of_a_model_that_gained_neurons(gqa_ref: ModelRef) -> None:
    """Experts became neurons: the same weights take an older file; of others it says what changed and what to do."""
    steer = Steer((NeuronSide(0, 1),), "scale", 2.0)
    old = dump_steers([steer], replace(gqa_ref, n_neurons=gqa_ref.n_neurons // 2))
    assert parse_steers(old, ref=gqa_ref)[0].neurons == steer.neurons
    old["model"]["weights_hash"] = "f" * 64
    with pytest.raises(InvalidSteer, match=rf'keep their numbers.*"n_neurons": {gqa_ref.n_neurons} into the file'):
        parse_steers(old, ref=gqa_ref)
    old["model"]["n_neurons"] = gqa_ref.n_neurons * 2
    with pytest.raises(InvalidSteer, match="load that model first"):
        parse_steers(old, ref=gqa_ref)


@pytest.fixture
def gqa_ref() -> ModelRef:
    return tiny_model().ref
