"""The rooms and the arrows between them: imports run one way, no two rooms import each other, every engine module is in a room.

The graph is read from the files, imports inside functions included: a circle that is only hidden is a circle.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = (
    "neurons.core",
    "neurons.storage",
    "neurons.models",
    "neurons.runs",
    "neurons.attribution",
    "neurons.checking",
    "neurons.atlas",
    "neurons.detectors",
    "traces",
    "neurons.tracing",
    "neurons.descriptions",
    "neurons.concepts",
    "neurons.describing",
    "neurons.prompts",
    "neurons.statistics",
    "neurons.repair",
    "neurons.tours",
    "neurons.cli",
    "pages.serving",
    "pages.shared",
    "pages.prompts",
    "pages.compare",
    "pages.steer",
    "pages.trace",
    "pages.browse",
    "pages.concepts",
    "pages.atlas",
    "pages.statistics",
    "pages.repair",
    "pages.saved",
    "pages.tours",
    "pages",
)
"""Every room, lowest first: a room may import those before it. docs/architecture.md draws the same order."""
TRACES_MAY_IMPORT = {"neurons.core", "neurons.storage"}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for folder in ("neurons", "traces", "pages"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            found[name.removesuffix(".__init__")] = path
    return found


def room(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "traces":
        return "traces"
    inner = parts[0] == "neurons" or len(parts) > 2
    return ".".join(parts[:2]) if inner and len(parts) > 1 else parts[0]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.relative_to(ROOT)}: write imports in full"
            names |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in modules() else str(node.module) for alias in node.names
            }
    return names & set(modules())


@cache
def arrows() -> dict[tuple[str, str], list[str]]:
    """Which room imports which, and by which files."""
    found = defaultdict(list)
    for name, path in modules().items():
        for other in imported(path):
            if room(name) != room(other) and other != "neurons":
                found[room(name), room(other)].append(f"{name} imports {other}")
    return dict(found)


def test_every_module_is_in_a_known_room() -> None:
    assert {room(name) for name in modules()} - {"neurons"} == set(ORDER)
    assert [name for name in modules() if name.startswith("neurons") and room(name) == "neurons"] == ["neurons"]


@pytest.mark.parametrize("lower", ORDER)
def test_no_arrow_runs_up(lower: str) -> None:
    wrong = [line for (a, b), lines in arrows().items() if a == lower and ORDER.index(b) > ORDER.index(a) for line in lines]
    assert not wrong, f"{lower} may not import a room above it: {wrong}"


def test_the_order_is_not_vacuous() -> None:
    assert len(arrows()) > 60
    assert ("neurons.attribution", "neurons.runs") in arrows()


def test_traces_rest_on_core_and_storage_alone() -> None:
    assert {b for a, b in arrows() if a == "traces"} <= TRACES_MAY_IMPORT


def test_no_page_script_has_the_name_of_a_package() -> None:
    packages = {path.name for folder in (ROOT, ROOT / "pages", ROOT / "neurons") for path in folder.iterdir() if path.is_dir()}
    assert not {path.stem for path in (ROOT / "pages").glob("*.py")} & packages
