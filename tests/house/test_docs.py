"""The docs keep up: every command, every page, every environment variable, and no link to a file that is not there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "scripts"))

import cli_docs

import neurons
from tests.support.page_list import page_list


def text_of(*paths: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def prose() -> list[Path]:
    return [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]


def test_cli_page_is_up_to_date() -> None:
    assert cli_docs.PAGE.read_text(encoding="utf-8") == cli_docs.page(), "run `make docs`"


def test_every_command_and_option_explains_itself() -> None:
    for name, context in cli_docs.commands():
        assert (context.command.help or "").strip(), f"{name} has no help"
        for parameter in context.command.params:
            assert getattr(parameter, "help", "") or parameter.name in ("help",), f"{name}: {parameter.name} has no help"


def test_every_command_that_gives_a_result_takes_json() -> None:
    without = {name for name, context in cli_docs.commands() if not getattr(context.command, "commands", None) and not takes_json(context)}
    assert without <= {"neuronscope run"}


def takes_json(context: object) -> bool:
    return any("--json" in parameter.opts for parameter in context.command.params)  # type: ignore[attr-defined]


def test_every_page_of_the_app_is_in_the_guide() -> None:
    guide = (DOCS / "guide.md").read_text(encoding="utf-8")
    assert not [title for title, _, _ in page_list().values() if not re.search(rf"^## .*\b{title}\b", guide, re.MULTILINE)]


def test_every_page_script_is_listed() -> None:
    assert {script for _, _, script in page_list().values()} == {path.stem for path in (ROOT / "pages").glob("*_page.py")}


def test_every_environment_variable_is_in_the_docs() -> None:
    install = (DOCS / "install.md").read_text(encoding="utf-8")
    sources = [path for folder in ("neurons", "traces", "pages") for path in (ROOT / folder).rglob("*.py")]
    named = set(re.findall(r"\bNEURONSCOPE_[A-Z_]+\b", text_of(*sources)))
    assert {name for name in named if name not in install} == set()


def test_every_folder_of_the_home_is_in_the_docs() -> None:
    install = (DOCS / "install.md").read_text(encoding="utf-8")
    sources = text_of(*(path for folder in ("neurons", "traces", "pages") for path in (ROOT / folder).rglob("*.py")))
    used = set(re.findall(r"\b(?:subfolder|NamedDocuments)\(\s*\"([\w-]+)\"", sources))
    assert set(re.findall(r"^\| `([\w-]+)` \|", install.partition("## What is kept where")[2].partition("\n## ")[0], re.MULTILINE)) == used


def test_every_public_name_is_in_the_api() -> None:
    api = (DOCS / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: (\S+)$", api, re.MULTILINE)) == {f"{module}.{name}" for name, module in neurons._PUBLIC.items()}
    assert "__version__" in api


def test_every_page_of_the_docs_is_in_the_site() -> None:
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {path.name for path in DOCS.glob("*.md")}


def test_files_and_modules_that_are_named_exist() -> None:
    missing = []
    code = [path for folder in ("neurons", "traces", "pages", "bench", "scripts") for path in (ROOT / folder).rglob("*.py")]
    for path in [*prose(), ROOT / "CONTRIBUTING.md", *code]:
        if path.name == "log.md":  # history keeps the names of its time
            continue
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"`(?:python )?((?:neurons|pages|traces|bench|scripts|tests)/[\w./-]*\w)`?", text):
            if not (ROOT / name).exists():
                missing.append(f"{path.name}: {name}")
        for name in re.findall(r"`neurons((?:\.\w+)+)", text):
            parts = name.strip(".").split(".")
            places = [ROOT.joinpath("neurons", *parts[:k]) for k in range(1, len(parts) + 1)]
            known = parts[0] in neurons.__all__ or name.endswith(".zip")
            if not known and not any(place.with_suffix(".py").exists() for place in places):
                missing.append(f"{path.name}: neurons{name}")
    assert not missing


def test_no_flow_of_the_architecture_is_longer_than_eight_stops() -> None:
    flows = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## The five flows")[2].split("\n### ")[1:]
    assert len(flows) == 5
    for flow in flows:
        stops = re.findall(r"^\d+\. (.*)$", flow, re.MULTILINE)
        assert 3 <= len(stops) <= 8
        assert all(re.match(r"`[\w/]+\.py`", stop) for stop in stops), flow


def test_links_lead_somewhere() -> None:
    broken = []
    for path in prose():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert not broken
