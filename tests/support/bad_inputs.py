"""The list of bad inputs: what is typed, linked to or uploaded, each with the ways in which it reaches Neuronscope."""

from __future__ import annotations

import json
from typing import Any

from neurons.core.steers import TokenScope
from neurons.core.types import NeuronSide, Sampling
from neurons.models.chat import encode_prompt
from neurons.runs.steering import parse_steers_text, resolve
from tests.support.bad_files import FILES, MODELS, TRACES, zip_of
from tests.support.bad_input import DEEP, DIGITS, HALF, App, Bad, Command, Engine


def tracing(*more: str) -> Command:
    return lambda place: ["trace", "Hello", "--model", place.model, "--max-new-tokens", "2", *more]


def _ask(text: str) -> Engine:
    from neurons.core.types import Message

    return lambda place: encode_prompt(place.loaded, [Message("user", text)])


PROMPTS = [
    Bad("prompt", "empty", _ask(""), lambda p: ["trace", "", "--model", p.model]),  # the app's field sends nothing
    Bad("prompt", "blank", _ask(" \n\t "), lambda p: ["trace", " \n\t ", "--model", p.model], App("trace", ask=" \n\t ")),
    Bad(
        "prompt",
        "longer than the model",
        _ask("a " * 600),
        lambda p: ["trace", "a " * 600, "--model", p.model],
        App("trace", ask="a " * 600),
    ),
    Bad("prompt", "half a surrogate pair", _ask(f"a{HALF}b"), lambda p: ["trace", f"a{HALF}b", "--model", p.model]),  # no browser sends it
    Bad(
        "prompt",
        "a typed role marker",
        _ask("<|im_start|>system"),
        tracing("--system", "<|im_end|>"),
        App("trace", ask="<|im_start|>system"),
        fine=True,
    ),
    Bad("prompt", "null characters", _ask("a\0b"), lambda p: ["trace", "a\0b", "--model", p.model, "--max-new-tokens", "2"], fine=True),
    Bad(
        "prompt",
        "zero-width and direction characters",
        _ask("a\u202e\u200bb"),
        lambda p: ["trace", "\u202e\u200b", "--model", p.model, "--max-new-tokens", "2"],
        fine=True,
    ),
    Bad("prompt", "not UTF-8 on standard input", None, lambda p: ["trace", "-", "--model", p.model], stdin=b"\xff\xfe\xff"),
    Bad("prompt", "nothing on standard input", None, lambda p: ["trace", "-", "--model", p.model], stdin=b""),
    Bad(
        "prompt",
        "a script tag",
        _ask("<script>alert(1)</script>"),
        lambda p: ["trace", "<script>", "--model", p.model, "--max-new-tokens", "2"],
        fine=True,
    ),
]


def _sampling(**given: Any) -> Engine:
    return lambda _place: Sampling(**given).check()


def _setting(what: str, option: str, value: str, name: str, given: Any) -> Bad:
    return Bad("setting", what, _sampling(**{name: given}), tracing(option, value))


SETTINGS = [
    _setting("temperature below 0", "--temperature", "-1", "temperature", -1.0),
    _setting("temperature NaN", "--temperature", "nan", "temperature", float("nan")),
    _setting("temperature infinite", "--temperature", "inf", "temperature", float("inf")),
    _setting("temperature 11", "--temperature", "11", "temperature", 11.0),
    Bad("setting", "temperature 1e-42", _sampling(temperature=1e-42), tracing("--temperature", "1e-42"), fine=True),
    _setting("top-p 0", "--top-p", "0", "top_p", 0.0),
    _setting("top-p 2", "--top-p", "2", "top_p", 2.0),
    _setting("top-p NaN", "--top-p", "nan", "top_p", float("nan")),
    _setting("top-k below 0", "--top-k", "-5", "top_k", -5),
    _setting("no new tokens", "--max-new-tokens", "0", "max_new_tokens", 0),
    _setting("a million new tokens", "--max-new-tokens", "1000000", "max_new_tokens", 1_000_000),
    _setting("seed below 0", "--seed", "-1", "seed", -1),
    _setting("seed past 64 bits", "--seed", str(2**64), "seed", 2**64),
    Bad("setting", "seed of 5,000 digits", None, tracing("--seed", DIGITS)),
    Bad("setting", "temperature as a word", None, tracing("--temperature", "hot")),
    Bad("setting", "an unknown option", None, tracing("--wobble", "1")),
    Bad("setting", "an unknown device", None, tracing("--device", "toaster")),
    Bad("setting", "a device that is not there", None, tracing("--device", "cuda:77")),
    Bad("setting", "an unknown data type", None, tracing("--dtype", "int7")),
    Bad("setting", "a port of 5,000 digits", None, lambda p: ["run", "--port", DIGITS, "--no-browser"]),
    Bad("setting", "port 0", None, lambda p: ["run", "--port", "0", "--no-browser"]),
    Bad("setting", "an address that is none", None, lambda p: ["run", "--address", "999.1.1.1", "--allow-host", "x", "--no-browser"]),
    Bad("setting", "an open address without host names", None, lambda p: ["run", "--address", "0.0.0.0", "--no-browser"]),
]


def steer_file(text: str, what: str) -> Bad:
    return Bad(
        "steer",
        what,
        lambda place: resolve(place.loaded, parse_steers_text(text)),
        lambda place: tracing("--steer", place.file("s.json", text))(place),
    )


def steer_json(**changes: Any) -> str:
    return json.dumps({"neurons": ["0:1"], "mode": "set", "strength": 0.5, "values": [1.0], **changes})


STEERS = [
    steer_file("", "an empty file"),
    steer_file("{", "a file cut off"),
    steer_file(DEEP, "nested 50,000 deep"),
    steer_file('{"neurons": ["0:1"], "strength": NaN}', "strength NaN"),
    steer_file('{"neurons": ["0:1"], "strength": 1e999}', "strength 1e999"),
    steer_file(f'{{"neurons": ["0:1"], "strength": {DIGITS}}}', "strength of 5,000 digits"),
    steer_file(steer_json(strength=1e30), "strength 1e30"),
    steer_file(steer_json(strength="strong"), "strength as a word"),
    steer_file(steer_json(mode="explode"), "an unknown mode"),
    steer_file(steer_json(neurons=["9:1"]), "a layer that the model lacks"),
    steer_file(steer_json(neurons=["0:4800"]), "a neuron that the model lacks"),
    steer_file(steer_json(neurons=[f"{DIGITS}:1"]), "a layer of 5,000 digits"),
    steer_file(steer_json(neurons=[[2**70, 1]]), "a layer past 64 bits"),
    steer_file(steer_json(neurons=[{"layer": -1, "index": 2}]), "a layer below 0"),
    steer_file(steer_json(neurons="0:1"), "neurons as a text"),
    steer_file(steer_json(neurons=[None]), "a neuron that is null"),
    steer_file(steer_json(neurons=[[0, 1, []]]), "a polarity that is a list"),
    steer_file(steer_json(neurons=[{"layer": 0, "index": 1, "polarity": {"a": 1}}]), "a polarity that is an object"),
    steer_file(steer_json(values=[1.0, 2.0]), "two values for one neuron"),
    steer_file(steer_json(values=[1e300]), "a value of 1e300"),
    steer_file(steer_json(values=["x"]), "a value as a word"),
    steer_file(steer_json(tokens="the third"), "tokens as words"),
    steer_file(steer_json(tokens=f"0:{DIGITS}"), "tokens past all numbers"),
    steer_file(steer_json(tokens=[[3, 1]]), "a token range that ends before it begins"),
    steer_file(steer_json(tokens=[[1]]), "a token range of one number"),
    steer_file(steer_json(tokens={"from": 1}), "tokens as an object"),
    steer_file(steer_json(name=f"half {HALF}"), "a name with half a surrogate pair"),
    steer_file(json.dumps({"format": "recipe", "version": 1, "steers": []}), "another program's file"),
    steer_file(json.dumps({"version": 10**30, "steers": []}), "a version past 64 bits"),
    steer_file("[1, 2, 3]", "a list of numbers"),
    steer_file("null", "null"),
    Bad("steer", "a file that is not there", None, tracing("--steer", "/nowhere/s.json")),
    Bad("steer", "a folder as a file", None, lambda p: tracing("--steer", str(p.folder))(p)),
    Bad("steer", "/dev/zero as a file", None, tracing("--steer", "/dev/zero")),
    Bad(
        "steer",
        "a neuron typed as a word",
        lambda p: NeuronSide.parse("seventeen"),
        lambda p: ["effect", p.trace_id, "--token", "5", "--neurons", "seventeen"],
    ),
    Bad("steer", "a scope typed as a word", lambda p: TokenScope.parse("everywhere")),
    Bad("steer", "a concept that is not there", None, tracing("--suppress", "no such concept")),
]


LINKS = [
    Bad("link", "?token= that is a word", None, None, App("trace", {"trace": "LAST", "token": "five"}), fine=True),
    Bad("link", "?token= past 64 bits", None, None, App("trace", {"trace": "LAST", "token": str(2**70)}), fine=True),
    Bad("link", "?token= of 5,000 digits", None, None, App("trace", {"trace": "LAST", "token": DIGITS}), fine=True),
    Bad("link", "?token= that ends before it begins", None, None, App("trace", {"trace": "LAST", "token": "9-3"}), fine=True),
    Bad("link", "?token= below 0", None, None, App("trace", {"trace": "LAST", "token": "-7"}), fine=True),
    Bad("link", "?view= that is none", None, None, App("trace", {"trace": "LAST", "view": "x-ray"}), fine=True),
    Bad("link", "?trace= of markup", None, None, App("trace", {"trace": "<img src=x onerror=alert(1)>"})),
    Bad("link", "?trace= of half a surrogate pair", None, None, App("trace", {"trace": f"a{HALF}"})),
    Bad("link", "compare: traces that are none", None, None, App("compare", {"a": "x", "b": "y"})),
    Bad("link", "compare: one trace with itself", None, None, App("compare", {"a": "LAST", "b": "LAST"}), fine=True),
    Bad("link", "neurons: a neuron that the model lacks", None, None, App("neurons", {"neuron": "99:99"}), fine=True),
    Bad("link", "neurons: a neuron of 5,000 digits", None, None, App("neurons", {"neuron": f"{DIGITS}:1"}), fine=True),
    Bad("link", "neurons: a neuron that is a word", None, None, App("neurons", {"neuron": "seven"}), fine=True),
    Bad("link", "concepts: a concept that is none", None, None, App("concepts", {"concept": "../../x"}), fine=True),
    Bad("link", "prompts: a job that is none", None, None, App("prompts", {"job": "zzz"}), fine=True),
    Bad("link", "repair: a job that is none", None, None, App("repair", {"job": "../../x"}), fine=True),
    Bad("link", "statistics: a job that is none", None, None, App("experiments", {"job": "x" * 5_000}), fine=True),
    Bad("link", "tours: a tour that is none", None, None, App("tours", {"tour": "none"}), fine=True),
    Bad("link", "atlas: an atlas that is none", None, None, App("atlas", {"atlas": "none"}), fine=True),
]

OTHERS = [
    Bad(
        "file",
        "a concept file that is a list of numbers",
        None,
        lambda p: ["concept", "import", p.file("c.json", "[1, 2]")],
    ),
    Bad(
        "file",
        "a concept file nested deeply",
        None,
        lambda p: ["concept", "import", p.file("c.json", DEEP)],
    ),
    Bad(
        "file",
        "a concept with a neuron of 5,000 digits",
        None,
        lambda p: ["concept", "import", p.file("c.json", json.dumps({"neurons": [f"{DIGITS}:1"]}))],
    ),
    Bad(
        "file",
        "a concept with numbers past all",
        None,
        lambda p: ["concept", "import", p.file("c.json", f'{{"neurons": ["0:1"], "similarity": {{"0:1": {DIGITS}}}}}')],
    ),
    Bad("file", "a lexicon that is a list", None, lambda p: ["lexicon", "check", p.file("l.json", "[]")]),
    Bad("file", "a lexicon nested deeply", None, lambda p: ["lexicon", "check", p.file("l.json", DEEP)]),
    Bad("file", "a repair that is a list", None, lambda p: ["repair", p.file("r.json", "[]")]),
    Bad(
        "file",
        "a repair with numbers past all",
        None,
        lambda p: ["repair", p.file("r.json", f'{{"prompt": "a", "wanted": "b", "seed": {DIGITS}}}')],
    ),
    Bad("file", "a repair of lists", None, lambda p: ["repair", p.file("r.json", '{"prompt": [], "wanted": [], "paraphrases": 3}')]),
    Bad("file", "an atlas that is no zip", None, lambda p: ["atlas", "import", p.file("a.zip", b"hello"), "--model", p.model]),
    Bad("file", "an atlas zip of others", None, lambda p: ["atlas", "import", p.file("a.zip", zip_of("x", b"y")), "--model", p.model]),
    Bad(
        "file",
        "descriptions with numbers past all",
        None,
        lambda p: ["atlas", "import", p.file("d.jsonl", f'{{"layer": {DIGITS}, "index": 1, "description": "x"}}'), "--model", p.model],
    ),
    Bad("system", "a shard that is none", None, lambda p: ["atlas", "collect", "--corpus", "x", "--shard", "9/3", "--model", p.model]),
    Bad(
        "system",
        "a shard of 5,000 digits",
        None,
        lambda p: ["atlas", "collect", "--corpus", "x", "--shard", f"0/{DIGITS}", "--model", p.model],
    ),
    Bad("system", "layers of 5,000 digits", None, lambda p: ["search", "court", "--layers", DIGITS, "--model", p.model]),
    Bad("system", "a command that is none", None, lambda p: ["frobnicate"]),
    Bad("system", "a command without its argument", None, lambda p: ["trace"]),
    Bad("system", "a job that is none", None, lambda p: ["prompts", "show", "zzz"]),
    Bad("system", "a job that leaves its folder", None, lambda p: ["prompts", "show", "../../etc"]),
    Bad(
        "system",
        "a statistic of files that are not there",
        None,
        lambda p: ["stats", "/nowhere.txt", "--model", p.model, "--suppress", "x"],
    ),
]

KNOWN: tuple[Bad, ...] = (*PROMPTS, *SETTINGS, *STEERS, *FILES, *TRACES, *MODELS, *LINKS, *OTHERS)
