"""More inputs that nobody should give: files of strangers with one value wrong, archives, model folders, links, pipes, devices, homes."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from neurons.prompts.files import Columns
from tests.support.bad_files import gguf, gguf_entry, import_of, model_file, prompt_file
from tests.support.bad_input import DEEP, DIGITS, HALF, Bad, Place
from tests.support.bad_inputs import steer_file, steer_json, tracing


def _command(kind: str, what: str, command: Callable[[Place], Sequence[str]], *, fine: bool = False, **env: str) -> Bad:
    return Bad(kind, what, None, command, fine=fine, env=env)


def _pipe(place: Place, name: str = "pipe") -> str:
    """A named pipe, at which a reader without a writer would wait for good."""
    path = Path(place.file("beside", b"")).parent / name
    os.mkfifo(path)
    return str(path)


def _loop(place: Place, name: str = "loop") -> str:
    """A link to itself."""
    path = Path(place.file("beside", b"")).parent / name
    path.symlink_to(path)
    return str(path)


def _link(place: Place, name: str = "link") -> str:
    """A link to a file that somebody wants to keep."""
    path = Path(place.file("kept.txt", b"keep me")).parent / name
    path.symlink_to(path.parent / "kept.txt")
    return str(path)


def _archive(*members: tuple[str, bytes], attributes: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            info.compress_type = method
            archive.writestr(info, data)
    return stream.getvalue()


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


EXPORT = b'{"format": "neuronscope-export", "version": 1, "traces": ["a"]}'
DEVICE, LINK = stat.S_IFCHR | 0o666, stat.S_IFLNK | 0o777
LOCKED = bytearray(_archive(("export.json", EXPORT)))
LOCKED[6] |= 1  # the flag of an encrypted member, in its own header and in the list
LOCKED[LOCKED.index(b"PK\x01\x02") + 8] |= 1
METHOD_99 = bytearray(_archive(("export.json", EXPORT)))
METHOD_99[8] = 99
METHOD_99[METHOD_99.index(b"PK\x01\x02") + 10] = 99

ARCHIVES = [
    import_of("an encrypted archive", bytes(LOCKED)),
    import_of("a compression nobody knows", bytes(METHOD_99)),
    import_of("a list of traces that is a number", _archive(("export.json", b'{"traces": 5}'))),
    import_of("a list that is null", _archive(("export.json", b"null"))),
    import_of("a list nested 50,000 deep", _archive(("export.json", DEEP.encode()))),
    import_of("a list with a number of 5,000 digits", _archive(("export.json", b'{"version": %s}' % DIGITS.encode()))),
    import_of("a list with half a surrogate pair", _archive(("export.json", b'{"format": "\\ud83d"}'))),
    import_of("the list twice", _patched(_archive(("export.json", EXPORT), ("export.jsom", EXPORT)), b"export.jsom", b"export.json")),
    import_of("a member that is a link", _archive(("export.json", EXPORT), ("a/trace.json", b"/etc/passwd"), attributes=LINK)),
    import_of("a member that is a device", _archive(("export.json", EXPORT), ("a/x", b""), attributes=DEVICE)),
    import_of("an absolute path", _archive(("export.json", EXPORT), ("/tmp/evil", b"x"))),
    import_of("a path of another system", _archive(("export.json", EXPORT), ("..\\..\\evil", b"x"))),
    import_of("a drive's name", _archive(("export.json", EXPORT), ("C:evil", b"x"))),
    import_of("a name of 5,000 characters", _archive(("export.json", EXPORT), ("a/" + "x" * 5000, b"x"))),
    import_of("20,000 members", _archive(("export.json", EXPORT), *((f"a/{n}", b"") for n in range(20_000)))),
    import_of("300 MB of zeros", _archive(("export.json", EXPORT), ("a/trace.json", b"\0" * 300_000_000), method=zipfile.ZIP_DEFLATED)),
    _command("trace", "import: a named pipe", lambda p: ["traces", "import", _pipe(p)]),
    _command("trace", "import: a link to itself", lambda p: ["traces", "import", _loop(p)]),
    _command("trace", "import: /dev/zero", lambda p: ["traces", "import", "/dev/zero"]),
    _command("trace", "import: a folder", lambda p: ["traces", "import", str(p.folder)]),
    _command("trace", "export onto a link", lambda p: ["traces", "export", p.trace_id, "--output", _link(p), "--force"]),
    _command("trace", "export onto a device, forced", lambda p: ["traces", "export", p.trace_id, "--output", "/dev/full", "--force"]),
    _command("trace", "export onto a named pipe", lambda p: ["traces", "export", p.trace_id, "--output", _pipe(p), "--force"]),
    _command("trace", "a report onto a link", lambda p: ["report", p.trace_id, "--out", _link(p, "r.html")]),
    _command("trace", "a note with half a surrogate pair", lambda p: ["traces", "note", p.trace_id, f"a{HALF}"]),
    _command("trace", "a note of 2,000,000 characters", lambda p: ["traces", "note", p.trace_id, "x" * 2_000_000]),
    _command("trace", "a tag of 5,000 characters", lambda p: ["traces", "tag", p.trace_id, "x" * 5_000]),
    _command("trace", "a tag with half a surrogate pair", lambda p: ["traces", "tag", p.trace_id, HALF]),
    _command("trace", "a day that no month has", lambda p: ["traces", "list", "--since", "2026-02-31"]),
    _command("trace", "tokens that end before they begin", lambda p: ["attribute", p.trace_id, "--token", "5", "--tokens", "4:2"]),
    _command("trace", "a metric that is none", lambda p: ["attribute", p.trace_id, "--token", "5", "--metric", "vibes"]),
    _command("trace", "an ablation that is none", lambda p: ["effect", p.trace_id, "--token", "5", "--ablation", "fire"]),
    _command("trace", "a walk of 99 steps", lambda p: ["paths", p.trace_id, "--token", "5", "--steps", "99"]),
    _command("trace", "a walk from the first layer's neuron 99999", lambda p: ["paths", p.trace_id, "--token", "5", "--neuron", "0:99999"]),
    _command("trace", "a strength that is no number", lambda p: ["sweep", "Hi", "--model", p.model, "--strengths", "0:1:nan"]),
]

STEERS = [
    steer_file(steer_json(strength=True), "strength true"),
    steer_file(steer_json(strength={"a": 1}), "a strength that is an object"),
    steer_file(steer_json(neurons=[[0]]), "a neuron of one number"),
    steer_file(steer_json(neurons=["0:1:2"]), "a neuron of three numbers"),
    steer_file(steer_json(neurons=[[0.5, 1]]), "half a layer"),
    steer_file(steer_json(neurons=[[True, 1]]), "a layer that is true"),
    steer_file(steer_json(values=[[1.0]]), "a value that is a list"),
    steer_file(steer_json(tokens=[["a", "b"]]), "a token range of words"),
    steer_file(steer_json(tokens=[[0, 2**70]]), "a token range past 64 bits"),
    steer_file(steer_json(tokens=1e308), "tokens as a number"),
    steer_file(steer_json(enabled="perhaps"), "a switch that is perhaps on"),
    steer_file(steer_json(fade=-5), "a fade below 0"),
    steer_file(steer_json(fade="soon"), "a fade as a word"),
    steer_file(steer_json(name="x" * 1_000_000), "a name of 1,000,000 characters"),
    steer_file("// note\n" + steer_json(), "a comment"),
    steer_file(steer_json() + steer_json(), "two files in one"),
    _command("steer", "UTF-16", lambda p: tracing("--steer", p.file("s.json", steer_json().encode("utf-16")))(p)),
    _command("steer", "a named pipe", lambda p: tracing("--steer", _pipe(p))(p)),
    _command("steer", "a link to itself", lambda p: tracing("--steer", _loop(p))(p)),
    _command("steer", "a name of 5,000 characters", lambda p: tracing("--steer", "x" * 5_000)(p)),
    _command("steer", "a name with half a surrogate pair", lambda p: tracing("--steer", f"{HALF}.json")(p)),
]

PROMPTS = [
    prompt_file("an old Excel file", "p.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600),
    prompt_file("a Parquet file named as CSV", "p.csv", b"PAR1" + b"\x15\0" * 300 + b"PAR1"),
    prompt_file("gzip", "p.jsonl", b"\x1f\x8b\x08\0" + bytes(range(200))),
    prompt_file("YAML that holds itself", "p.yaml", b"&a\n- *a\n"),
    prompt_file("YAML of a day that is none", "p.yaml", b"- prompt: 2026-99-99\n", listed=True),
    prompt_file("YAML of a number of 5,000 digits", "p.yaml", b"- prompt: " + DIGITS.encode(), listed=True),
    prompt_file("YAML of bytes that are none", "p.yaml", b'- prompt: !!binary "%%%"\n', listed=True),
    prompt_file("YAML nested 20,000 deep", "p.yaml", b"[" * 20_000),
    prompt_file("a CSV cell of 1,000,000 characters", "p.csv", b"prompt,expected\n" + b"x" * 1_000_000 + b",y\n", listed=True),
    prompt_file("a CSV of 5,000 columns", "p.csv", b",".join(b"c%d" % n for n in range(5_000)) + b"\n" + b"1," * 4_999 + b"1\n"),
    prompt_file(
        "messages that are null in one row",
        "p.jsonl",
        b'{"messages": [{"role": "user", "content": "x"}]}\n{"messages": null}\n',
        listed=True,
    ),
    prompt_file("promptfoo tests of nothing", "p.yaml", b"prompts: [null, 5]\ntests: [null, 7, {vars: 3}]\n"),
    prompt_file("BIG-bench scores of words", "p.json", b'{"examples": [{"input": "x", "target_scores": {"a": "b", "c": 1}}]}', listed=True),
    prompt_file(
        "a template with a width of a billion",
        "p.csv",
        b"a,b\n1,2\n",
        columns=Columns(template="{a:>999999999}"),
    ),
    _command("prompt file", "a named pipe", lambda p: ["prompts", "check", _pipe(p)]),
    _command("prompt file", "a link to itself", lambda p: ["prompts", "check", _loop(p)]),
    _command("prompt file", "/dev/zero", lambda p: ["prompts", "check", "/dev/zero"]),
    _command(
        "prompt file",
        "a set's name that leaves its folder",
        lambda p: ["prompts", "save", p.file("p.txt", b"a\n"), "../../evil"],
        fine=True,
    ),
    _command("prompt file", "a set's name of half a surrogate pair", lambda p: ["prompts", "save", p.file("p.txt", b"a\n"), HALF]),
]


NULL_MESSAGES = b'{"messages": [{"role": "user", "content": "x"}]}\n{"messages": null}\n'
SPIRAL = {"rope_type": "spiral", "factor": "x"}
REACHING = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
WORDS = b'{"eos_token_id": "x", "temperature": "hot"}'
OUTSIDE = b'{"weight_map": {"a": "../../x"}}'


def _folder(what: str, *, command: str = "info", files: dict[str, bytes] | None = None, **config: Any) -> Bad:
    """A tiny model's folder with some entries of its config.json changed, or files replaced."""

    def made(place: Place) -> list[str]:
        target = Path(place.file("beside", b"")).parent / "model"
        shutil.copytree(place.model, target)
        given = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**given, **config}))
        for name, data in (files or {}).items():
            (target / name).write_bytes(data)
        return ["models", "info", str(target)] if command == "info" else ["trace", "Hi", "--max-new-tokens", "2", "--model", str(target)]

    return _command("model", what, made)


def _weights(header: object, *, size: int | None = None) -> dict[str, bytes]:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return {"model.safetensors": struct.pack("<Q", len(data) if size is None else size) + data + b"\0" * 64}


def _template(text: str) -> dict[str, bytes]:
    return {"chat_template.jinja": text.encode()}


MODELS = [
    _folder("a billion layers", num_hidden_layers=10**9),
    _folder("layers below 0", num_hidden_layers=-5),
    _folder("layers past 64 bits", num_hidden_layers=2**70),
    _folder("layers as a word", num_hidden_layers="many"),
    _folder("a hidden size of 0", hidden_size=0),
    _folder("a vocabulary of 10^15", vocab_size=10**15),
    _folder("no heads", num_attention_heads=0),
    _folder("a model type that nobody knows", model_type="wobble", architectures=["WobbleForCausalLM"]),
    _folder("architectures as a number", architectures=7, model_type=5),
    _folder(
        "rope settings of another world",
        command="trace",
        rope_scaling={"rope_type": "spiral", "factor": "x"},
        rope_parameters={"rope_type": "spiral"},
    ),
    _folder("a data type that is none", command="trace", dtype="float9", torch_dtype="float9"),
    _folder("a config that is a list", files={"config.json": b"[]"}),
    _folder("a config nested 50,000 deep", files={"config.json": DEEP.encode()}),
    _folder("a config with a number of 5,000 digits", files={"config.json": b'{"hidden_size": %s}' % DIGITS.encode()}),
    _folder("weights whose header is past the file", files=_weights(b"{}", size=2**62)),
    _folder("weights whose header is no JSON", files=_weights(b"{oops")),
    _folder("weights of a type that is none", files=_weights({"a": {"dtype": "F999", "shape": [2], "data_offsets": [0, 8]}})),
    _folder("weights of a shape below 0", files=_weights({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}})),
    _folder("weights with offsets that are words", files=_weights({"a": {"dtype": "F32", "shape": [2], "data_offsets": ["x", None]}})),
    _folder(
        "an index that leaves the folder",
        files={"model.safetensors": b"", "model.safetensors.index.json": OUTSIDE},
    ),
    _folder("a tokenizer that is an empty object", command="trace", files={"tokenizer.json": b"{}"}),
    _folder("a tokenizer nested 50,000 deep", command="trace", files={"tokenizer.json": DEEP.encode()}),
    _folder("a chat template that never ends", command="trace", files=_template("{% for i in range(10**12) %}x{% endfor %}")),
    _folder("a chat template that divides by zero", command="trace", files=_template("{{ 1 // 0 }}")),
    _folder("a chat template that reaches into objects", command="trace", files=_template(REACHING)),
    _folder(
        "generation settings as words", command="trace", files={"generation_config.json": b'{"eos_token_id": "x", "temperature": "hot"}'}
    ),
    model_file("a GGUF key of 2^40 bytes", "m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**40)),
    model_file("a GGUF list of 2^60 numbers", "m.gguf", gguf(gguf_entry("a", 9, struct.pack("<IQ", 4, 2**60)))),
    model_file("a GGUF list of lists of lists", "m.gguf", gguf(gguf_entry("a", 9, struct.pack("<IQ", 9, 1) * 500))),
    model_file("a GGUF version of 99", "m.gguf", b"GGUF" + struct.pack("<IQQ", 99, 0, 0) + b"\0" * 64),
    model_file("a GGUF alignment of 3", "m.gguf", gguf(gguf_entry("general.alignment", 4, struct.pack("<I", 3))) + b"\0" * 64),
    _command("model", "a named pipe", lambda p: ["models", "info", _pipe(p, "m.gguf")]),
    _command("model", "a link to itself", lambda p: ["models", "info", _loop(p, "m.gguf")]),
]


def _atlas(what: str, name: str, data: bytes | str) -> Bad:
    return _command("file", what, lambda p: ["atlas", "import", p.file(name, data), "--model", p.model])


def _description(layer: str) -> str:
    return f"layer,neuron,polarity,description\n{layer},1,+,a\n"


def _run_named(name: str) -> Callable[[Place], Sequence[str]]:
    return lambda p: ["prompts", "run", p.file("p.txt", b"a\n"), "--name", name, "--model", p.model, "--max-new-tokens", "1"]


FAR = "../../evil/" + "x" * 300
OTHER_DIGITS = "\u0663:\u0664"
ALL_NEURONS = '{"prompt": "a", "wanted": "b", "max_neurons": "all"}'

OTHERS = [
    _command("file", "a concept: a named pipe", lambda p: ["concept", "import", _pipe(p)]),
    _command("file", "a concept: /dev/zero", lambda p: ["concept", "import", "/dev/zero"]),
    _command("file", "a concept of a name that leaves its folder", lambda p: ["concept", "save", FAR, "--neurons", "0:1"]),
    _command("file", "a concept of a name with half a surrogate pair", lambda p: ["concept", "save", HALF, "--neurons", "0:1"]),
    _command(
        "file",
        "a concept of a neuron in other digits",
        lambda p: ["concept", "save", "digits", "--neurons", OTHER_DIGITS, "--model", p.model],
    ),
    _command(
        "file",
        "a repair with tokens as words",
        lambda p: ["repair", p.file("r.json", ALL_NEURONS)],
    ),
    _command("file", "a repair: a named pipe", lambda p: ["repair", _pipe(p)]),
    _command("file", "a lexicon with a number of 5,000 digits", lambda p: ["lexicon", "check", p.file("l.json", f"[{DIGITS}]")]),
    _command("file", "a lexicon: a named pipe", lambda p: ["lexicon", "check", _pipe(p)]),
    _command(
        "file",
        "an atlas whose manifest is a list",
        lambda p: ["atlas", "import", p.file("a.zip", _archive(("manifest.json", b"[]"))), "--model", p.model],
    ),
    _command(
        "file",
        "an atlas whose manifest is nested deeply",
        lambda p: ["atlas", "import", p.file("a.zip", _archive(("manifest.json", DEEP.encode()))), "--model", p.model],
    ),
    _command(
        "file",
        "an atlas that leaves its folder",
        lambda p: ["atlas", "import", p.file("a.zip", _archive(("manifest.json", b"{}"), ("../../evil", b"x"))), "--model", p.model],
    ),
    _command(
        "file",
        "an encrypted atlas",
        lambda p: ["atlas", "import", p.file("a.zip", _patched(bytes(LOCKED), b"export.json", b"manifest.js")), "--model", p.model],
    ),
    _command("file", "an atlas: a named pipe", lambda p: ["atlas", "import", _pipe(p, "a.zip"), "--model", p.model]),
    _command(
        "file",
        "descriptions with a layer as a word",
        lambda p: ["atlas", "import", p.file("d.csv", _description("x")), "--model", p.model],
    ),
    _command(
        "file",
        "descriptions with a layer of 5,000 digits",
        lambda p: ["atlas", "import", p.file("d.csv", _description(DIGITS)), "--model", p.model],
    ),
    _command(
        "file",
        "descriptions of a Parquet file that is none",
        lambda p: ["atlas", "import", p.file("d.parquet", b"PAR1xxxxPAR1"), "--model", p.model],
    ),
    _command("file", "a corpus that is a named pipe", lambda p: ["atlas", "build", "--corpus", _pipe(p), "--model", p.model]),
    _command("file", "a corpus that is empty", lambda p: ["atlas", "build", "--corpus", p.file("c.txt", b""), "--model", p.model]),
    _command("system", "a home below a file", lambda p: ["traces", "list"], NEURONSCOPE_HOME="/etc/passwd/home"),
    _command("system", "a home that is a file", lambda p: ["traces", "list"], NEURONSCOPE_HOME="/etc/passwd"),
    _command("system", "a home that is a device", lambda p: ["concept", "list"], NEURONSCOPE_HOME="/dev/null"),
    _command("system", "a home where nothing can be made", lambda p: ["prompts", "list"], NEURONSCOPE_HOME="/proc/home"),
    _command("system", "a home below a file, for an atlas", lambda p: ["atlas", "info"], NEURONSCOPE_HOME="/etc/passwd/home"),
    _command("system", "a home of 5,000 characters", lambda p: ["traces", "list"], NEURONSCOPE_HOME="/tmp/" + "x" * 5_000),
    _command("system", "a neuron past 64 bits", lambda p: ["neuron", f"0:{2**70}", "--model", p.model]),
    _command("system", "a search for half a surrogate pair", lambda p: ["search", HALF, "--model", p.model]),
    _command(
        "system",
        "a run's name that leaves its folder",
        _run_named("../../x" * 50),
    ),
    _command("system", "a port below 0", lambda p: ["run", "--port", "-1", "--no-browser"]),
    _command("system", "a host name of markup", lambda p: ["run", "--allow-host", "<b>", "--address", "0.0.0.0", "--no-browser"]),
]

MORE: tuple[Bad, ...] = (*ARCHIVES, *STEERS, *PROMPTS, *MODELS, *OTHERS)
