"""The refined method: exact at the last token, the attention's closed form, what is left alone, and the other methods' rules."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurons.attribution import methods, refine
from neurons.attribution.ablation import Place
from neurons.attribution.attribute import METHODS, attribute, top_rows
from neurons.attribution.effect import EffectOptions, agreement, measure_effects
from neurons.attribution.metrics import METRICS, check_target, effect_from_latent, from_latent, latent_value, metric_value
from neurons.attribution.rules import backward_rules, halved
from neurons.attribution.single_token import attention_answers
from neurons.attribution.unembedding import make_unembedding
from neurons.core.errors import ModelError
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import AttributionRow, NeuronSide, TargetSpec
from neurons.models.layers import decoder_layers
from neurons.runs.attention_tap import AttentionCall, AttentionTap
from neurons.runs.hooks import run_forward
from neurons.runs.steering import compile_edits
from tests.support.tiny_models import ARCHITECTURES, tiny_model

IDS = tuple(int(i) for i in np.random.default_rng(7).integers(0, 255, 14))
TARGET = 11


def changed_entries(arch: str, target: TargetSpec, **options: Any) -> tuple[Any, Any, list[AttributionRow], list[float]]:
    """Refined and plain attribution, the rows that differ, and their measured effects."""
    loaded = tiny_model(arch)
    found = attribute(loaded, IDS, target, method="refined", **options)
    plain = attribute(loaded, IDS, target, method="logodds", **options)
    places = np.argwhere(found.attr_LTI != plain.attr_LTI)
    rows = [AttributionRow(int(i), int(n), int(t), "+", 0.0, float(found.attr_LTI[i, t, n])) for i, t, n in places]
    effects = [row.effect for row in measure_effects(loaded, IDS, target, rows, EffectOptions(**options)).rows]
    return found, plain, rows, effects


@pytest.mark.parametrize("method", ["refined", "grad"])
def test_a_kept_attribution_lets_go_of_its_model(method: str) -> None:
    loaded = tiny_model()
    found = attribute(loaded, IDS, TargetSpec(TARGET), method=method)
    gone = weakref.ref(loaded.model)
    plain = attribute(loaded, IDS, TargetSpec(TARGET), method="grad").attr_LTI
    del loaded
    gc.collect()
    assert gone() is None
    assert found.grad_LTI is not None
    np.testing.assert_allclose(found.grad_LTI, plain, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_at_the_last_token_it_is_the_measured_effect(arch: str) -> None:
    found, plain, rows, effects = changed_entries(arch, TargetSpec(TARGET, "logprob"))
    last = [n for n, row in enumerate(rows) if row.token == TARGET - 1]
    assert len(last) >= 5
    for n in last:
        assert rows[n].attribution == pytest.approx(effects[n], abs=2e-4 * max(1.0, np.abs(effects).max()))
    earlier = [n for n, row in enumerate(rows) if row.token < TARGET - 1]
    if arch == "gemma2":  # it writes its softmax out, so that its attention cannot be seen
        assert not earlier
        return
    assert found.refined > len(last)
    before = [plain.attr_LTI[rows[n].layer, rows[n].token, rows[n].index] for n in earlier]
    after = [rows[n].attribution for n in earlier]
    measured = [effects[n] for n in earlier]
    assert np.abs(np.subtract(after, measured)).sum() < np.abs(np.subtract(before, measured)).sum()


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_and_its_unit(metric: Any) -> None:
    _found, _plain, rows, effects = changed_entries("llama", TargetSpec(TARGET, metric, against_id=9))
    last = [n for n, row in enumerate(rows) if row.token == TARGET - 1]
    assert [rows[n].attribution for n in last] == pytest.approx([effects[n] for n in last], abs=1e-4 * np.abs(effects).max() + 1e-7)
    assert agreement([row.attribution for row in rows], effects).spearman > 0.9


def test_steers_hold_while_tokens_run_again() -> None:
    steers = (
        Steer((NeuronSide(1, 5), NeuronSide(2, 6)), "set", 2.0, TokenScope("prompt"), values=(1.5, 0.7)),
        Steer((NeuronSide(0, 3),), "scale", -1.5),
    )
    _found, _plain, rows, effects = changed_entries("qwen3", TargetSpec(TARGET, "logit"), steers=steers, prompt_tokens=6)
    last = [n for n, row in enumerate(rows) if row.token == TARGET - 1]
    assert [rows[n].attribution for n in last] == pytest.approx([effects[n] for n in last], abs=2e-4)
    assert agreement([row.attribution for row in rows], effects).spearman > 0.9


def test_entries_of_the_upper_layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("llama", num_hidden_layers=6)
    monkeypatch.setattr(refine, "LEAST", 3)
    monkeypatch.setattr(refine, "MAX_SCORES", 1)
    steer = Steer(tuple(NeuronSide(layer, index) for layer in (0, 1, 2) for index in range(48)), "scale", 1e-3)
    target = TargetSpec(TARGET, "logit")
    few = refine.refined(loaded, IDS[:TARGET], check_target(loaded, IDS, target), compile_edits(loaded, [steer], 6), budget=0.01)
    assert few.count == 3
    monkeypatch.undo()
    again = refine.refined(loaded, IDS[:TARGET], check_target(loaded, IDS, target), compile_edits(loaded, [steer], 6))
    assert again.count > few.count


def test_attention_answers_in_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    query, key, value, grad = random(1, 4, 9, 6), random(1, 2, 9, 6), random(1, 2, 9, 6), random(4, 9, 6)
    with AttentionTap(keep=True) as tap:
        out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    tokens_B, new_key, new_value = torch.tensor([0, 3, 8]), random(3, 2, 6) * 3, random(3, 2, 6)
    answer = attention_answers(tap.calls, grad.float()[None], tokens_B, torch.ones(1, 3, dtype=torch.bool), new_key[None], new_value[None])
    for row, token in enumerate(tokens_B.tolist()):
        changed_key, changed_value = key.clone(), value.clone()
        changed_key[0, :, token], changed_value[0, :, token] = new_key[row], new_value[row]
        changed = functional.scaled_dot_product_attention(query, changed_key, changed_value, is_causal=True, enable_gqa=True)
        expected = (grad[:, token + 1 :] * (changed - out)[0, :, token + 1 :]).sum()
        assert float(answer[row]) == pytest.approx(float(expected), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("masked", ["bool", "float", "causal"])
def test_the_pattern_is_what_attention_used(masked: str) -> None:
    query, key, value = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    allowed = torch.ones(5, 5, dtype=torch.bool).tril().triu(-2)
    options: dict[str, Any] = {"is_causal": True}
    if masked != "causal":
        options = {"attn_mask": (allowed if masked == "bool" else torch.zeros(5, 5).masked_fill(~allowed, -1e9))[None, None]}
    out = functional.scaled_dot_product_attention(query, key, value, **options)
    _scores, log_pattern = AttentionCall(query, key, value, out, options).log_pattern()
    assert torch.allclose(log_pattern.exp() @ value[0], out[0], atol=1e-5)


def test_a_model_that_cannot_be_run_a_token_at_a_time_keeps_its_gradient() -> None:
    loaded = tiny_model("llama")
    layer = decoder_layers(loaded)[1]
    handle = layer.register_forward_hook(lambda _module, _args, output: output + output.mean(1, keepdim=True))
    found = attribute(loaded, IDS, TargetSpec(TARGET, "logit"), method="refined")
    plain = attribute(loaded, IDS, TargetSpec(TARGET, "logit"), method="logodds")
    handle.remove()
    assert found.refined == 0
    assert np.allclose(found.attr_LTI, plain.attr_LTI, atol=1e-6)


def test_nothing_is_left_on_the_model() -> None:
    loaded = tiny_model("gpt_neox")
    for method in METHODS:
        attribute(loaded, IDS, TargetSpec(TARGET), method=method)
    assert not any("forward" in vars(module) for module in loaded.model.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in loaded.model.modules())


def test_the_budget_sets_how_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("llama")
    monkeypatch.setattr(refine, "LEAST", 1)
    counts = [refine.refined(loaded, IDS[:TARGET], TargetSpec(TARGET, "logit", 5), (), budget=budget).count for budget in (0, 0.5, 2)]
    assert 1 <= counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("metric", ["prob", "logprob"])
def test_few_columns_read_the_probability(metric: Any) -> None:
    loaded = tiny_model("granite", vocab_size=4000)
    target = TargetSpec(TARGET, metric, 17)
    hidden = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    hidden[1:] = hidden[0] + 0.1 * hidden[1:]
    logits = loaded.model.lm_head(hidden)
    unembedding = make_unembedding(loaded, logits[0], target)
    assert unembedding is not None
    assert unembedding.columns < 4000
    exact = latent_value(logits, target)
    assert unembedding.changes(unembedding(hidden)) == pytest.approx((exact[0] - exact[1:]).numpy(), abs=5e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_the_latent_gives_the_metric_back(metric: Any) -> None:
    logits = torch.randn(3, 50) * 4
    target = TargetSpec(5, metric, 7, 9)
    assert torch.allclose(from_latent(latent_value(logits, target), target), metric_value(logits, target), atol=1e-5)
    change = torch.tensor([0.0, 0.3])
    latent = latent_value(logits[:1], target)
    expected = from_latent(latent, target) - from_latent(latent - change, target)
    assert torch.allclose(effect_from_latent(float(latent), change, target), expected)


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_direct_is_the_projection_on_the_unembedding(arch: str) -> None:
    loaded = tiny_model(arch)
    found = attribute(loaded, IDS, TargetSpec(TARGET, "logit"), method="direct")
    assert np.abs(found.attr_LTI[:, :-1]).max() == 0
    assert np.abs(found.attr_LTI[:, -1]).max() > 0
    assert found.metric_value == pytest.approx(attribute(loaded, IDS, TargetSpec(TARGET, "logit"), method="grad").metric_value, abs=1e-5)
    if arch == "llama":
        residuals: list[torch.Tensor] = []
        handle = loaded.model.model.norm.register_forward_hook(lambda _module, args, _out: residuals.append(args[0].detach()[0, -1]))
        run_forward(loaded, torch.tensor([IDS[:TARGET]]))
        handle.remove()
        scale = loaded.model.model.norm.weight * torch.rsqrt(residuals[0].pow(2).mean() + loaded.model.config.rms_norm_eps)
        writes_LI = torch.stack([site.output_rows() @ (scale * loaded.model.lm_head.weight[IDS[TARGET]]) for site in loaded.sites])
        assert found.attr_LTI[:, -1] == pytest.approx(found.acts_LTI[:, -1] * writes_LI.detach().numpy(), abs=1e-4)


@pytest.mark.parametrize("method", ["frozen", "relp"])
def test_frozen_rules_make_the_model_a_sum(method: str) -> None:
    """With patterns and scales constant, what reaches the logit through the last layer's neurons is linear in them."""
    loaded = tiny_model("llama")
    target = TargetSpec(TARGET, "logit")
    found = attribute(loaded, IDS, target, method=method)
    grad = attribute(loaded, IDS, target, method="grad")
    direct = attribute(loaded, IDS, target, method="direct")
    assert found.metric_value == pytest.approx(grad.metric_value, abs=1e-5)
    assert found.attr_LTI[2] == pytest.approx(direct.attr_LTI[2], abs=1e-4)
    assert not np.allclose(found.attr_LTI[0], grad.attr_LTI[0], atol=1e-3)


def test_relp_conserves_what_flows_through_a_gated_layer() -> None:
    """With its rules, input times gradient sums up to the MLP's own output, which has no bias."""
    loaded = tiny_model("llama", num_hidden_layers=1)
    mlp: Any = decoder_layers(loaded)[0].mlp
    x = torch.randn(1, 3, 32, requires_grad=True)
    direction = torch.randn(32)
    with backward_rules(loaded, "relp"):
        run_forward(loaded, torch.tensor([IDS]))  # the rules want to see every attention they freeze
        handle = mlp.down_proj.register_forward_pre_hook(lambda _module, args: (halved(loaded)(loaded.sites[0].parts[0], args[0]),))
        total = (mlp(x) @ direction).sum()
        handle.remove()
    (gradient,) = torch.autograd.grad(total, x)
    assert float((gradient * x.detach()).sum()) == pytest.approx(float(total.detach()), rel=1e-4)


def test_attention_that_cannot_be_frozen_is_said_so() -> None:
    with pytest.raises(ModelError, match="cannot be frozen"), backward_rules(tiny_model("llama"), "frozen"):
        pass


def test_integrated_gradients_add_up_or_say_that_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("llama")
    for metric in ("prob", "logprob", "logit"):
        found = attribute(loaded, IDS, TargetSpec(TARGET, metric), method="ig")
        assert found.gap is not None
        assert found.gap <= methods.IG_GAP
        assert found.convergence.startswith("converged")
        output = run_forward(loaded, torch.tensor([IDS[:TARGET]]), replace=lambda part, acts_BTI: acts_BTI * 0.001)
        assert output.logits is not None
        logits_V = output.logits[0, -1].float()
        empty = {"prob": logits_V.softmax(-1), "logprob": logits_V.log_softmax(-1), "logit": logits_V}[metric][IDS[TARGET]]
        assert found.attr_LTI.sum() == pytest.approx(found.metric_value - float(empty), rel=methods.IG_GAP + 1e-3)
    monkeypatch.setattr(methods, "IG_GAP", 0.0)
    monkeypatch.setattr(methods, "IG_MAX_STEPS", 8)
    short = attribute(loaded, IDS, TargetSpec(TARGET, "prob"), method="ig")
    assert short.steps == 8
    assert dataclasses.replace(short, gap=0.5).convergence.startswith("not converged: after 8 steps the sum still misses 50%")
    assert attribute(loaded, IDS, TargetSpec(TARGET), method="grad").convergence == ""


def test_integrated_gradients_are_finite() -> None:
    loaded = tiny_model("llama")
    found = attribute(loaded, IDS, TargetSpec(TARGET, "logit"), method="ig")
    assert found.attr_LTI.shape == (3, TARGET, 48)
    assert np.isfinite(found.attr_LTI).all()
    assert top_rows(found, 1).rows[0].attribution != 0


def test_places_are_measured_at_the_same_value() -> None:
    """Guards the exams of bench/faithfulness.py: an entry's effect does not depend on what else is in the batch."""
    loaded = tiny_model("llama")
    one = measure_effects(loaded, IDS, TargetSpec(TARGET, "logit"), [Place(1, 2, 3)]).rows[0].effect
    many = measure_effects(loaded, IDS, TargetSpec(TARGET, "logit"), [Place(layer, 2, 3) for layer in range(3)]).rows[1].effect
    assert one == pytest.approx(many, abs=1e-5)
