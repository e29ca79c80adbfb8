"""What may be asked of a repair: criteria, wordings, controls, and the errors that name their field."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neurons.core.errors import EndpointError, InvalidInput
from neurons.describing.endpoint import Endpoint
from neurons.repair.controls import builtin_controls, propose_controls
from neurons.repair.paraphrases import template_paraphrases
from neurons.repair.regex_example import examples
from neurons.repair.rewording import endpoint_paraphrases
from neurons.repair.spec import load_spec, parse_spec, spec_to_json
from neurons.statistics.criteria import Criterion, parse_criterion
from tests.support.endpoint_server import Reply, chat_reply, serving
from tests.support.repairs import GOOD


def test_a_criterion_is_met_by_whole_words_alone() -> None:
    assert not Criterion("9.1").met("9.11 is larger")
    assert not Criterion("9").met("9.9 is larger")
    assert Criterion("9.9").met("It is 9.9.")


@pytest.mark.parametrize(
    ("value", "field"),
    [("", "wanted"), ({"regex": "("}, "wanted"), ({"regex": "a*"}, "wanted"), ({"nope": "x"}, "wanted"), (["x"], "wanted")],
)
def test_bad_criteria_name_their_field(value: object, field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_criterion(value, field)
    assert error.value.field == field


def test_examples_of_a_regular_expression() -> None:
    assert examples(r"(?i)\b(no|not)\b") == ("no", "not")
    assert examples(r"Ankara|Angora") == ("Ankara", "Angora")
    assert examples(r"\d{2}")[0].isdigit()
    assert examples(r"\b(?:is|equals):?\s+9\.9(?!\.?\d)") == ("is 9.9", "equals 9.9")
    assert examples(r"(a|(?P<x>b|c)d){2}|[]x]y|colou?r{3,}") == ("aa", "bdbd", "cdcd", "]y", "colorrr")
    assert examples("(") == examples(r"(a)\1(?") == ()
    assert examples("日本|東京") == ("日本", "東京")
    assert all(re.search(pattern, text) for pattern in (r"[^a-z]9", r"\w+\.[A-Z]", r"\$5|\\n") for text in examples(pattern))


ENDLESS = r"(.|[^Z]|[^Q]|[\s\S]|[^J])+ZZZ"


def test_an_expression_that_would_try_for_ever_is_given_up_in_time() -> None:
    """In a process of its own: where the library does not give up, nothing in this one could end it."""
    code = f"""
from neurons.core.errors import InvalidInput
from neurons.statistics.criteria import Criterion
hard = (({ENDLESS!r}, "x" * 60 + "ZZ"), (r"(a|a)+$x", "a" * 60), (r"(\\w+\\s?)*\\.$", "word " * 30 + "!"))
for pattern, text in hard:
    try:
        print(Criterion(pattern, "regex").check().met(text))
    except InvalidInput as error:
        print("given up:", "takes longer" in str(error))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert len(ran.stdout.splitlines()) == 3
    assert "given up: True" in ran.stdout
    assert "given up: False" not in ran.stdout


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"unwanted": "ankara"}, "unwanted"),
        ({"wanted": ""}, "wanted"),
        ({"wanted": {"regex": "["}}, "wanted"),
        ({"paraphrases": ["a?", "  "]}, "paraphrases"),
        ({"paraphrases": ["a?", "A?"]}, "paraphrases"),
        ({"paraphrases": ["a?", "What is the capital of turkey?"]}, "paraphrases"),
        ({"paraphrases": ["a?"]}, "paraphrases"),
        ({"paraphrases": "a?"}, "paraphrases"),
        ({"controls": []}, "controls"),
        ({"controls": ["a?"]}, "controls"),
        ({"controls": ["d?", "d?"]}, "controls"),
        ({"controls": [{"prompt": "d?", "answer": "e"}]}, "controls"),
        ({"prompt": ""}, "prompt"),
        ({"heldout": 2}, "heldout"),
        ({"max_neurons": 0}, "max_neurons"),
        ({"tokens": "some"}, "tokens"),
        ({"typo": 1}, "typo"),
        ({"max_neurons": "20"}, "max_neurons"),
        ({"max_neurons": 2.5}, "max_neurons"),
        ({"seed": True}, "seed"),
        ({"system": 5}, "system"),
        ({"within": ["nowhere"]}, "neurons"),
        ({"paraphrases": ["a?"] * 501}, "paraphrases"),
    ],
)
def test_bad_specs_name_their_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_spec({**GOOD, **change})
    assert error.value.field == field


def _wordings(request: dict[str, Any], _number: int) -> Reply:
    """What the test asks for by the model's name."""
    content = {"good": '1. Name it.\n- "Say it!"\n\nWhat is it?\nName it.', "empty": ""}.get(request["model"])
    return (500, "broken") if content is None else chat_reply(content)


def test_paraphrases_from_an_endpoint() -> None:
    with serving(_wordings) as server:
        assert endpoint_paraphrases(Endpoint(server.url, "good", attempts=1), "What is it?") == ("Name it.", "Say it!")
        for model in ("empty", "broken"):
            with pytest.raises(EndpointError):
                endpoint_paraphrases(Endpoint(server.url, model, attempts=1), "What is it?")
    with pytest.raises(EndpointError):
        endpoint_paraphrases(Endpoint(server.url, "good", attempts=1), "What is it?")


def test_specs_round_trip_and_propose() -> None:
    spec = parse_spec({**GOOD, "within": ["1:2", "0:3-"], "tokens": "answer", "controls": [{"prompt": "d?", "expected": {"regex": "D"}}]})
    assert parse_spec(json.loads(json.dumps(spec_to_json(spec)))) == spec
    several = parse_spec({**GOOD, "wanted": {"contains": ["Ankara", "Angora"]}, "unwanted": {"regex": ["Istan.ul", "Izmir"]}})
    assert parse_spec(json.loads(json.dumps(spec_to_json(several)))) == several
    proposed = parse_spec({"prompt": "What is the capital of Turkey?", "wanted": "Ankara"})
    assert proposed.paraphrases_proposed
    assert proposed.controls_proposed
    assert len(proposed.paraphrases) == 10
    assert len(proposed.controls) == 20
    assert len(set(builtin_controls())) == len(builtin_controls()) >= 60
    assert "Tell me the capital of Turkey." in template_paraphrases("What is the capital of Turkey?")


def test_proposed_controls_do_not_ask_what_is_to_change() -> None:
    wordings = ["The capital city of France is", "What is the capital of France?"]
    spec = parse_spec({"prompt": "Name the capital of France.", "wanted": "Lyon", "paraphrases": wordings})
    controls = [control.prompt for control in spec.controls]
    assert len(controls) == 20
    assert "What is the capital of France?" not in controls
    assert "What is the capital of Japan?" in controls
    assert propose_controls(["Bees make what?", "anything"])[:20] == tuple(c for c in builtin_controls() if c != "What do bees make?")[:20]


def test_unreadable_spec_files(tmp_path: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[1]", b'{"prompt": NaN}'):
        file = tmp_path / "spec.json"
        file.write_bytes(content)
        with pytest.raises(InvalidInput):
            load_spec(file)
