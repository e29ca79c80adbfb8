"""Bad files: of prompts, of traces, of models."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

from neurons.prompts.files import Columns, load_file
from tests.support.bad_input import DEEP, DIGITS, HALF, App, Bad


def prompt_file(what: str, name: str, data: bytes, *, listed: bool = False, **given: Any) -> Bad:
    """`listed`: its rows are told one by one, and the others are asked."""
    return Bad(
        "prompt file",
        what,
        lambda _place: load_file(data, name=name, **given),
        lambda place: ["prompts", "check", place.file(name, data)],
        App("prompts", files={"prompts.file": (name, data)}),
        fine=listed,
    )


def zip_of(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, data)
    return stream.getvalue()


FILES = [
    prompt_file("empty", "p.txt", b""),
    prompt_file("binary", "p.txt", b"\0\1\2\3" * 100),
    prompt_file("a zip named as text", "p.csv", zip_of("a", b"b")),
    prompt_file("JSON cut off", "p.json", b'[{"prompt": "a'),
    prompt_file("JSON nested 50,000 deep", "p.json", DEEP.encode()),
    prompt_file("a JSON number of 5,000 digits", "p.json", b'[{"prompt": %s}]' % DIGITS.encode()),
    prompt_file("JSON of numbers alone", "p.json", b"[1, 2, 3]"),
    prompt_file("a JSON prompt with half a surrogate pair", "p.json", b'[{"prompt": "\\ud83d"}]'),
    prompt_file("JSONL whose every line is wrong", "p.jsonl", b"{oops\n" * 50),
    prompt_file("JSONL of 20,000 wrong lines", "p.jsonl", b'{"prompt": "a"}\n' + b"{oops\n" * 20_000),
    prompt_file("YAML that is none", "p.yaml", b"a: [1, 2\nb: }"),
    prompt_file("YAML that builds objects", "p.yaml", b"!!python/object/apply:os.system ['true']"),
    prompt_file(
        "YAML of nine lives (billion laughs)",
        "p.yaml",
        b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (n + 1, n + 1, *[n] * 8) for n in range(97, 108)),
    ),
    prompt_file("CSV with a quote that is not closed", "p.csv", b'prompt,expected\n"What,a\nb,c\n', listed=True),
    prompt_file("CSV with more cells than columns", "p.csv", b"prompt,expected\na,b,c,d,e\n", listed=True),
    prompt_file("CSV of headers alone", "p.csv", b"prompt,expected\n"),
    prompt_file("UTF-16 that is not", "p.txt", b"\xff\xfea"),
    Bad(
        "prompt file",
        "an encoding that is none",
        lambda p: load_file(b"a", name="p.txt", encoding="klingon"),
        lambda p: ["prompts", "check", p.file("p.txt", "a"), "--encoding", "klingon"],
    ),
    prompt_file("bytes of mixed encodings", "p.txt", "é".encode() * 50 + "é".encode("latin-1") * 50, listed=True),
    prompt_file("prompts that are all empty", "p.json", b'[{"prompt": ""}, {"prompt": "  "}]', listed=True),
    prompt_file("a prompt of 300,000 characters", "p.txt", b"a" * 300_000, listed=True),
    Bad("prompt file", "a file that is not there", None, lambda p: ["prompts", "check", "/nowhere/p.txt"]),
    Bad("prompt file", "a folder", None, lambda p: ["prompts", "check", str(p.folder)]),
    Bad(
        "prompt file",
        "a column that it lacks",
        lambda p: load_file(b"prompt\na\n", name="p.csv", columns=Columns(prompt="x")),
        lambda p: ["prompts", "check", p.file("p.csv", "prompt\na\n"), "--prompt-column", "x"],
    ),
    Bad(
        "prompt file",
        "a template that is not closed",
        lambda p: load_file(b"prompt\na\n", name="p.csv", columns=Columns(template="{prompt")),
        lambda p: ["prompts", "check", p.file("p.csv", "prompt\na\n"), "--template", "{prompt"],
    ),
    Bad(
        "prompt file",
        "a template that reaches into objects",
        lambda p: load_file(b"prompt\na\n", name="p.csv", columns=Columns(template="{prompt.__class__}")),
        lambda p: ["prompts", "check", p.file("p.csv", "prompt\na\n"), "--template", "{prompt.__class__}"],
    ),
]


def import_of(what: str, data: bytes, name: str = "t.zip") -> Bad:
    return Bad(
        "trace",
        f"import: {what}",
        None,
        lambda p: ["traces", "import", p.file(name, data)],
        App("traces", files={"traces.import": (name, data)}),
    )


TRACES = [
    import_of("empty", b""),
    import_of("no zip", b"hello"),
    import_of("a zip cut off", zip_of("a/trace.json", b"{}")[:-20]),
    import_of("a zip without a trace", zip_of("readme.txt", b"hi")),
    import_of("a path that leaves the folder", zip_of("../../evil", b"x")),
    import_of("trace.json alone", zip_of("a/trace.json", b"{}")),
    import_of("trace.json nested deeply", zip_of("20260101-000000-abcdef/trace.json", DEEP.encode())),
    Bad("trace", "import: a file that is not there", None, lambda p: ["traces", "import", "/nowhere.zip"]),
    Bad("trace", "an id that is none", None, lambda p: ["traces", "show", "no-such"], App("trace", {"trace": "no-such"})),
    Bad("trace", "an id that leaves the folder", None, lambda p: ["traces", "show", "../../etc"], App("trace", {"trace": "../../etc"})),
    Bad("trace", "an empty id", None, lambda p: ["traces", "show", ""]),
    Bad("trace", "an id with a null character", None, lambda p: ["traces", "show", "a\0b"], App("trace", {"trace": "a\0b"})),
    Bad("trace", "a name of 5,000 characters", None, lambda p: ["traces", "rename", p.trace_id, "x" * 5_000]),
    Bad("trace", "a name with half a surrogate pair", None, lambda p: ["traces", "rename", p.trace_id, f"a{HALF}"]),
    Bad("trace", "a tag with a comma", None, lambda p: ["traces", "tag", p.trace_id, "a,b"], fine=True),
    Bad("trace", "a date that is none", None, lambda p: ["traces", "list", "--since", "yesterday-ish"]),
    Bad("trace", "a date of the year 99999", None, lambda p: ["traces", "list", "--until", "99999-01-01"]),
    Bad("trace", "an order that is none", None, lambda p: ["traces", "list", "--sort", "colour"]),
    Bad("trace", "a limit of 5,000 digits", None, lambda p: ["traces", "list", "--limit", DIGITS]),
    Bad("trace", "a search of SQL", None, lambda p: ["traces", "list", '"; DROP TABLE traces; --'], fine=True),
    Bad("trace", "export onto a device", None, lambda p: ["traces", "export", p.trace_id, "--output", "/dev/full"]),
    Bad(
        "trace",
        "export into a folder that is not there",
        None,
        lambda p: ["traces", "export", p.trace_id, "--output", "/proc/nowhere/x.zip"],
    ),
    Bad(
        "trace",
        "a token past the end",
        None,
        lambda p: ["attribute", p.trace_id, "--token", "9999"],
        App("trace", {"trace": "LAST", "token": "9999"}),
        fine=True,
    ),
    Bad("trace", "a token of 5,000 digits", None, lambda p: ["attribute", p.trace_id, "--token", DIGITS]),
    Bad("trace", "token 0, which nothing comes before", None, lambda p: ["attribute", p.trace_id, "--token", "0"]),
    Bad("trace", "a method that is none", None, lambda p: ["attribute", p.trace_id, "--token", "5", "--method", "magic"]),
    Bad("trace", "layers past the model", None, lambda p: ["attribute", p.trace_id, "--token", "5", "--layers", "700:900"]),
    Bad("trace", "a budget below 0", None, lambda p: ["traces", "usage", "--budget", "-3"]),
    Bad("trace", "a budget that is no number", None, lambda p: ["traces", "usage", "--budget", "nan"]),
    Bad("trace", "strengths without an end", None, lambda p: ["sweep", "Hi", "--model", p.model, "--strengths", "0:inf:1"]),
    Bad("trace", "a million strengths", None, lambda p: ["sweep", "Hi", "--model", p.model, "--strengths", "0:1:0.000001"]),
]


def model_file(what: str, name: str, data: bytes) -> Bad:
    return Bad("model", what, None, lambda p: ["models", "info", p.file(name, data)], None)


def gguf(*entries: bytes, tensors: int = 1) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(entries)) + b"".join(entries)


def gguf_entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


MODELS = [
    Bad(
        "model",
        "a folder that is not there",
        None,
        lambda p: ["models", "info", "/nowhere/model"],
        App("models", typed={"models.spec": "/nowhere/model"}, press="models.load"),
    ),
    Bad(
        "model",
        "a hub id that is none",
        None,
        lambda p: ["models", "info", "a/b/c/d"],
        App("models", typed={"models.spec": "a/b/c/d"}, press="models.load"),
    ),
    Bad(
        "model",
        "a name of 5,000 characters",
        None,
        lambda p: ["models", "info", "m" * 5_000],
        App("models", typed={"models.spec": "m" * 5_000}),
    ),
    Bad("model", "a name with a null character", None, lambda p: ["models", "info", "a\0b"], App("models", typed={"models.spec": "a\0b"})),
    Bad("model", "an empty folder", None, lambda p: ["models", "info", str(Path(p.file("x", b"")).parent)]),
    Bad("model", "a text file", None, lambda p: ["models", "info", p.file("model.txt", b"hi")]),
    model_file("an empty GGUF file", "m.gguf", b""),
    model_file("a GGUF file of another kind", "m.gguf", b"PK\3\4" * 20),
    model_file("a GGUF header cut off", "m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 5, 5)),
    model_file("a GGUF file of 2^60 tensors", "m.gguf", gguf(tensors=2**60)),
    model_file("a GGUF alignment of 0.5", "m.gguf", gguf(gguf_entry("general.alignment", 6, struct.pack("<f", 0.5))) + b"\0" * 64),
    model_file("a GGUF alignment below 0", "m.gguf", gguf(gguf_entry("general.alignment", 11, struct.pack("<q", -32))) + b"\0" * 64),
    model_file("a GGUF split count that is a text", "m.gguf", gguf(gguf_entry("split.count", 8, struct.pack("<Q", 1) + b"x")) + b"\0" * 64),
    model_file("a GGUF text longer than the file", "m.gguf", gguf(gguf_entry("a", 8, struct.pack("<Q", 2**40)))),
    model_file("a GGUF entry of an unknown type", "m.gguf", gguf(gguf_entry("a", 99, b""))),
    Bad("model", "a model to check that is not there", None, lambda p: ["models", "check", "/nowhere/model"]),
    Bad("model", "a model to answer with that is not there", None, lambda p: ["trace", "Hi", "--model", "/nowhere/model"]),
]
