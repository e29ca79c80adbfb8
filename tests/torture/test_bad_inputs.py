"""Every bad input of the list through engine, command line and app: refused in a sentence, or answered; never a traceback.

docs/bad-inputs.md is made from what is seen here: NEURONSCOPE_WRITE_DOCS=1 writes it anew.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neurons.cli.main import build
from neurons.core.errors import NeuronscopeError
from neurons.prompts.files import Reading
from pages.shared import server_wide
from tests.support.app_pages import loaded, open_page, plain, plain_parts, saved
from tests.support.bad_input import HALF, App, Bad, Place
from tests.support.bad_inputs import KNOWN
from tests.support.more_bad_inputs import MORE
from tests.support.tally import tally

APP = build()
DOCS = Path(__file__).parents[2] / "docs" / "bad-inputs.md"
SEEN: dict[str, str] = {}
ALL = (*KNOWN, *MORE)
NAMES = [f"{bad.kind}: {bad.what}" for bad in ALL]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Place]:
    from traces.store import TraceStore

    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("bad")
        patch.setitem(TraceStore.__init__.__kwdefaults__, "examples", None)
        patch.setenv("NEURONSCOPE_HOME", str(home))
        patch.setenv(server_wide.MODEL_VARIABLE, str(tiny_folder))
        deadline = time.monotonic() + 120
        while server_wide.model() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        trace_id = saved("hello there")[0].id
        yield Place(home, tmp_path_factory.mktemp("files"), str(tiny_folder), trace_id, loaded())


@pytest.mark.parametrize("bad", ALL, ids=NAMES)
def test_it_is_told_in_a_sentence(bad: Bad, place: Place) -> None:
    said: list[str] = []
    if bad.engine is not None:
        said += by_engine(bad, place)
    if bad.command is not None:
        said += by_command(bad, place)
    if bad.app is not None:
        said += by_app(bad, bad.app, place)
    SEEN[f"{bad.kind}: {bad.what}"] = cleaned(next((one for one in said if one), ""), place)


def by_engine(bad: Bad, place: Place) -> list[str]:
    assert bad.engine is not None
    try:
        found = bad.engine(place)
    except NeuronscopeError as error:
        return [str(error)]
    assert bad.fine, "the engine took it without a word"
    errors = found.prompts.errors if isinstance(found, Reading) else ()
    return [f"row {error.row}: {error.message}" for error in errors[:1]]


def by_command(bad: Bad, place: Place) -> list[str]:
    assert bad.command is not None
    result = CliRunner().invoke(APP, list(bad.command(place)), input=bad.stdin, env=bad.env)
    shown = result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in shown
    assert "not foreseen" not in shown, shown
    if result.exit_code == 0:
        assert bad.fine, f"the command took it without a word: {shown[-300:]}"
        return []
    assert result.exit_code in (1, 2), shown
    lines = [line for line in result.stderr.splitlines() if line.strip()] or [line for line in shown.splitlines() if "problem" in line]
    told = lines[-1] if lines else shown.strip().splitlines()[-1]
    assert told, "an exit status without a word"
    return [re.sub(r"^(error: |problem\s+|[│ ]+)", "", told).strip("│ ")]


def by_app(bad: Bad, app: App, place: Place) -> list[str]:
    query = {name: place.trace_id if value == "LAST" else value for name, value in app.query.items()}
    if any(HALF in value for value in query.values()):
        query = {name: value.replace(HALF, "\ufffd") for name, value in query.items()}  # no browser can send the half itself
    page = open_page(app.page, **query)
    fine(page)
    for key, text in app.typed.items():
        page.text_input(key=key).set_value(text).run()
        fine(page)
    for key, (name, data) in app.files.items():
        upload(page, key, name, data)
        fine(page)
    if app.press is not None:
        found = [button for button in page.button if button.key == app.press]
        if found and not found[0].disabled:
            found[0].click().run()
            fine(page)
    if app.ask is not None:
        page.chat_input[0].set_value(app.ask).run()
        fine(page)
    shown = [*warned(page), *(said.value.replace("\\", "") for said in (*page.info, *page.warning, *page.error))]
    assert shown or bad.fine, "the page says nothing of it"
    return shown[-1:] if not bad.fine else []


def upload(page: Any, key: str, name: str, data: bytes) -> None:
    many = page.file_uploader(key=key).proto.multiple_files
    file = (name, data, "application/octet-stream")
    page.file_uploader(key=key).set_value([file] if many else file).run()


def warned(page: Any) -> list[str]:
    """What stands in the colour of warnings in the plain-text component."""
    return ["".join(text for text, _ in parts) for parts in plain_parts(page) if any(kind == "negative" for _, kind in parts)]


def fine(page: Any) -> None:
    assert not page.exception, page.exception
    assert "not foreseen" not in plain(page), plain(page)[:2000]


def cleaned(said: str, place: Place) -> str:
    """The sentence without what differs from machine to machine, fit for a table of Markdown."""
    text = said.replace(str(place.home), "HOME").replace(place.model, "MODEL").replace(place.trace_id, "ID")
    text = re.sub(rf"{re.escape(str(place.folder))}/\d+/", "", text).replace(str(place.folder), "FOLDER")
    text = re.sub(r"9{60,}", "999...", text)
    text = re.sub(r"\d+\.\d+ GB", "N GB", text)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text.encode("utf-8", "replace").decode()[:240]


INTRODUCTION = """# Bad input, and what you see

{count} inputs, each tried through every way in which it can come: engine (Python), command line, app. None may end in a traceback,
a generic error page or a hang. `tests/torture/test_bad_inputs.py` tries them all and writes this page (`NEURONSCOPE_WRITE_DOCS=1`); the
sentence is the first that was told.

| Kind | Input | Tried by | What you see |
|---|---|---|---|
"""


def table() -> str:
    rows = [
        f"| {bad.kind} | {escaped(bad.what)} | {where(bad)} | {escaped(SEEN[name]) or '(it is answered)'} |"
        for bad, name in zip(ALL, NAMES, strict=True)
    ]
    return INTRODUCTION.format(count=len(ALL)) + "\n".join(rows) + "\n"


def escaped(text: str) -> str:
    for mark in "\\`*_|<>[]{}":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return text


def where(bad: Bad) -> str:
    ways = (("engine", bad.engine), ("command", bad.command), ("app", bad.app))
    return ", ".join(name for name, way in ways if way is not None)


def test_the_page_says_what_is_seen() -> None:
    tally("bad inputs: engine, command line, app", sum(where(bad).count(",") + 1 for bad in ALL))
    if set(SEEN) != set(NAMES):
        pytest.skip("not all were tried, or one failed")
    if os.environ.get("NEURONSCOPE_WRITE_DOCS"):
        DOCS.write_text(table(), encoding="utf-8")
    written = DOCS.read_text(encoding="utf-8")
    assert all(f"| {bad.kind} | {escaped(bad.what)} | {where(bad)} |" in written for bad in ALL), "docs/bad-inputs.md lacks an input"
    assert written.count("\n| ") == len(ALL) + 1
