"""A plan of the search as steers: what is saved, exported and run by the real `generate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neurons.core.steers import Steer, TokenScope
from neurons.core.types import NeuronSide
from neurons.repair.batch import Neuron, Plan, Tokens

ACTS_ON: Mapping[str, str] = {"question": "question and answer", "answer": "answer only"}
"""A repair's `tokens` in words."""
SCOPES: Mapping[Tokens, str] = {"question": "from question", "answer": "answer"}
"""The token scope of the steers that a repair with these `tokens` makes."""
ACTIONS = (
    "Scale multiplies the neuron's own activation: 0 switches it off, above 1 amplifies it, below 0 turns it round. "
    "Add changes it by the same amount at every token."
)
"""What the words of `told` mean."""


def plan_to_steers(plan: Plan, scope: str, *, name: str = "repair") -> tuple[Steer, ...]:
    """One steer for each multiplier, weakest first. Actions that add something become a steer of their own."""
    by_mul: dict[float, list[Neuron]] = {}
    for neuron, action in sorted(plan.items()):
        if action.mul != 1:
            by_mul.setdefault(action.mul, []).append(neuron)
    tokens = TokenScope.parse(scope)
    steers = [
        Steer(tuple(NeuronSide(*n) for n in neurons), "scale", mul, tokens, f"{name}: {_words(mul)}")
        for mul, neurons in sorted(by_mul.items())
    ]
    added = [(neuron, action.add) for neuron, action in sorted(plan.items()) if action.add != 0]
    if added:
        sides = tuple(NeuronSide(layer, index, "+" if value > 0 else "-") for (layer, index), value in added)
        steers.append(Steer(sides, "add", 1.0, tokens, f"{name}: add", values=tuple(value for _, value in added)))
    return tuple(steers)


def acts_on(steers: Sequence[Steer], tokens: str) -> str:
    """Where a repair's steers act, as they say it themselves; `tokens` is the repair's own word, where there is no steer."""
    return "; ".join(dict.fromkeys(steer.tokens.words for steer in steers)) or TokenScope.parse(SCOPES[tokens]).words  # type: ignore[index]


def told(steer: Steer) -> list[tuple[NeuronSide, str]]:
    """What a steer does to each of its neurons, in words: "scale x0.5", "add +1.25"."""
    if steer.mode == "cap":
        words = {"+": "at most", "-": "at least"}
        values = steer.values or (0.0,) * len(steer.neurons)
        return [(s, f"{words[s.polarity]} {steer.strength * value:.4g}") for s, value in zip(steer.neurons, values, strict=True)]
    if not steer.values:
        return [(side, f"{steer.mode} x{steer.strength:g}") for side in steer.neurons]
    return [(side, f"{steer.mode} {steer.strength * value:+.4g}") for side, value in zip(steer.neurons, steer.values, strict=True)]


def known(side: NeuronSide, about: Mapping[str, str]) -> str:
    """What is known of a neuron's two sides, from descriptions by side ("17:803+"): an action changes both."""
    said = ((word, about.get(f"{side.layer}:{side.index}{sign}")) for word, sign in (("positive", "+"), ("negative", "-")))
    return "; ".join(f"{word}: {text}" for word, text in said if text)


def _words(mul: float) -> str:
    if mul == 0:
        return "off"
    return f"{'amplify' if mul > 1 else 'weaken' if mul > 0 else 'reverse'} x{mul:g}"
