"""The five tours: prose of our own, and which measured facts stand under it. No number is written here; they come from data/tours.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

ActionKind = Literal["ask", "steer", "repair", "compare"]


@dataclass(frozen=True)
class Action:
    """Something to do with one press."""

    kind: ActionKind
    """ask: run a prompt and open its trace; steer: put a fact's steers on cards; repair, compare: fill that page in."""
    label: str
    fact: str
    """Where in the tour's facts its prompt or steers stand: a path such as "repair"."""


@dataclass(frozen=True)
class Show:
    """A fact to be drawn under a step's text."""

    kind: Literal["text", "table", "repair", "difference"]
    fact: str
    label: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    """For a table: (key, heading)."""


@dataclass(frozen=True)
class Step:
    """One thing to learn."""

    title: str
    text: str
    """Our own words, Markdown."""
    shows: tuple[Show, ...] = ()
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True)
class Tour:
    """A case from question to lesson."""

    id: str
    title: str
    about: str
    steps: tuple[Step, ...]


_DECISION = (
    Show("text", "decision.before", "The answer, up to the word that decides"),
    Show("text", "decision.p_wrong", "Probability of the wrong word there"),
    Show("text", "decision.p_right", "Probability of the right word there"),
    Show("text", "decision.rank_right", "Rank of the right word (0 is the most probable)"),
)
_ROWS = (("prompt", "Question"), ("right", "Right answer"), ("unsteered", "Unsteered"), ("steered", "Steered"))

TOURS = (
    Tour(
        "capital",
        "Fix a wrong capital",
        "A wrong fact, the neurons that speak for it, a careless fix that breaks something else, and one that holds.",
        (
            Step(
                "The wrong answer",
                "Ask the model for the capital of Turkey. It names the largest city instead.",
                (Show("text", "prompt", "Question"), Show("text", "unsteered", "The model says")),
                (Action("ask", "Ask it and open the trace", "prompt"),),
            ),
            Step(
                "Where it is decided",
                "The answer is decided at one token. The right word is there, close behind the wrong one. In the trace, select the wrong "
                "word and look at its neurons with the contrast metric: they are the ones below.",
                (
                    *_DECISION,
                    Show(
                        "table",
                        "decision.neurons",
                        "Neurons by their share in right minus wrong",
                        (("neuron", "Neuron"), ("token", "At token"), ("attribution", "Attribution (logits)")),
                    ),
                ),
            ),
            Step(
                "The careless fix",
                "Switch off the neurons that speak most for the wrong word. A few may do, more do it for sure. But ask for another capital "
                "as well: what was right may be wrong now. A fix without a look at other questions is worth nothing.",
                (
                    Show("text", "canada", "Canada, unsteered"),
                    Show(
                        "table", "careless", "Neurons switched off", (("neurons", "How many"), ("turkey", "Turkey"), ("canada", "Canada"))
                    ),
                ),
            ),
            Step(
                "The search",
                "The Repair page looks for the smallest steer that brings the right word in half of the wordings and leaves the controls "
                "alone, word for word. Then it is tried on the other half, which the search never saw.",
                (Show("repair", "repair"), Show("text", "canada_fixed", "Canada under the fix")),
                (
                    Action("repair", "Fill in the Repair page", "repair"),
                    Action("steer", "Put the steer on cards", "repair"),
                ),
            ),
        ),
    ),
    Tour(
        "siblings",
        "A riddle about siblings",
        "A fix that makes one question right, and statistics that say it learned nothing.",
        (
            Step(
                "The riddle",
                "Alice has two sisters and a brother. The brother's sisters are Alice's sisters and Alice herself. The model repeats the "
                "number it has read.",
                (Show("text", "prompt", "Question"), Show("text", "unsteered", "The model says")),
                (Action("ask", "Ask it and follow the neurons", "prompt"),),
            ),
            Step(
                "A fix",
                "The search looks for neurons that bring the right number, in several wordings of this same riddle.",
                (Show("repair", "repair"),),
                (Action("steer", "Put the steer on cards", "repair"),),
            ),
            Step(
                "Another riddle",
                "Now the same riddle with other names and other numbers. If the fix had taught the model to count, these would be right "
                "too. Read the steered column.",
                (Show("table", "variants.rows", "Variants, each with its own right answer", _ROWS),),
            ),
            Step(
                "What the statistics say",
                "Over the variants, the share of right answers with and without the fix, and what is left when chance is allowed for. A "
                "fix of one question is a fact about that question. The Statistics page makes this table for any steer and any prompts.",
                (Show("difference", "variants"),),
                (Action("compare", "Measure it yourself", "variants"),),
            ),
        ),
    ),
    Tour(
        "numbers",
        "Comparing 9.9 and 9.11",
        "One wrong answer looks like bad arithmetic. Eight pairs in both orders say more about what the model does.",
        (
            Step(
                "The wrong answer",
                "Asked which of the two numbers is bigger, the model gives the wrong one.",
                (Show("text", "prompt", "Question"), Show("text", "answers.0.answer", "The model says")),
                (Action("ask", "Ask it and open the trace", "prompt"),),
            ),
            Step(
                "Is it about numbers?",
                "Ask about eight pairs, each in both orders, before you believe a story about decimals. Compare what is said with which "
                "number came last in the question.",
                (
                    Show(
                        "table", "answers", "Both orders", (("prompt", "Question"), ("right", "Right answer"), ("answer", "The model says"))
                    ),
                ),
            ),
            Step(
                "A search for a fix",
                "The search looks for neurons that bring the right number, in several wordings of the same question. It only calls it a "
                "fix when the wordings turn and the controls stay word for word; else it shows the best there is.",
                (Show("repair", "repair"),),
                (Action("repair", "Fill in the Repair page", "repair"), Action("steer", "Put the steer on cards", "repair")),
            ),
            Step(
                "And the other pairs?",
                "The same steer on the pairs it was not made for. The difference and its interval say whether anything is left of it.",
                (Show("difference", "variants"), Show("table", "variants.rows", "Other pairs", _ROWS)),
                (Action("compare", "Measure it yourself", "variants"),),
            ),
        ),
    ),
    Tour(
        "story",
        "Steer a story",
        "Neurons found from a few sentences about the sea, pushed while a story of something else is told; and how much is too much.",
        (
            Step(
                "A concept from examples",
                "Each neuron's mean activation over sentences about the sea, less its mean over neutral ones: the neurons that differ "
                "most, weighted by how much they write, are pushed by that difference. The strength counts in steps of it: one step moves "
                "the means as far as the sentences themselves do.",
                (
                    Show("text", "examples", "The sentences"),
                    Show("text", "neurons", "Neurons"),
                    Show("text", "strongest", "The strongest of them"),
                ),
            ),
            Step(
                "At the answer's tokens",
                "The neurons are pushed while the answer is written, and only there: the question is read undisturbed. Too little does "
                "nothing, too much breaks the text: the repetition says so before the eye does.",
                (
                    Show("text", "prompt", "Prompt"),
                    Show(
                        "table",
                        "runs",
                        "Words of the sea in each story",
                        (
                            ("tokens", "Steered tokens"),
                            ("strength", "Strength"),
                            ("words", "Sea words"),
                            ("repetition", "Repetition"),
                            ("text", "Story"),
                        ),
                    ),
                ),
                (Action("ask", "Tell the story unsteered", "prompt"), Action("steer", "Put the concept on a card", "steer")),
            ),
        ),
    ),
    Tour(
        "knew",
        "What the model knew but did not say",
        "Asked one way it names the wrong city, asked another way the right one. The right word was there all along.",
        (
            Step(
                "Two wordings",
                "The same question in two wordings gets two answers.",
                (
                    Show("text", "prompt", "Asked"),
                    Show("text", "unsteered", "The model says"),
                    Show("text", "other", "Asked otherwise"),
                    Show("text", "other_answer", "The model says"),
                ),
                (Action("ask", "Ask it and open the trace", "prompt"), Action("ask", "Ask it otherwise", "other")),
            ),
            Step(
                "The word it did not say",
                "In the first answer, look at the token that decides: the last table of the Pictures tab shows what each layer would "
                "say. The right city stands among the candidates.",
                (
                    *_DECISION,
                    Show(
                        "table",
                        "decision.lens",
                        "What each layer would say",
                        (("row", "After"), ("top", "Most probable token"), ("probability", "Probability")),
                    ),
                ),
            ),
            Step(
                "Bring it out",
                "A few neurons let the right word win, in wordings the search never saw too. Whether that counts as a fix depends "
                "on the controls: read below how many of them changed, and what the verdict is.",
                (Show("repair", "repair"),),
                (Action("steer", "Put the steer on cards", "repair"), Action("repair", "Fill in the Repair page", "repair")),
            ),
        ),
    ),
)


@cache
def facts() -> Mapping[str, Any]:
    """Everything that was measured, by tour."""
    found: dict[str, Any] = json.loads((files("neurons.tours") / "data" / "tours.json").read_text(encoding="utf-8"))
    return found


def fact(tour: str, path: str) -> Any:
    """One fact by its path, such as "decision.p_right"; None where it is not there."""
    value: Any = facts().get(tour, {})
    for part in path.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping):
            value = value.get(part)
        else:
            return None
    return value
