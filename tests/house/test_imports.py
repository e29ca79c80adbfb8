"""What no file may import or grow to. The arrows between rooms are in test_rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 450


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources("neurons", "traces"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_never_imports_the_app(path: Path) -> None:
    assert not [name for name in imports(path) if name.partition(".")[0] in ("streamlit", "pages", "streamlit_app")]


def test_traces_need_no_model() -> None:
    for path in sources("traces"):
        assert not {name for name in imports(path) if name.split(".")[0] in ("torch", "transformers")}, path


def test_nothing_shipped_imports_the_tests() -> None:
    for path in sources("neurons", "traces", "pages"):
        assert not [name for name in imports(path) if name.partition(".")[0] in ("tests", "conftest", "tiny_models", "bench", "scripts")], (
            path
        )


def test_no_pickle() -> None:
    for path in sources("neurons", "traces", "pages"):
        assert not {name for name in imports(path) if name.partition(".")[0] in ("pickle", "joblib", "dill", "cloudpickle", "shelve")}, path


def test_remote_code_is_never_trusted() -> None:
    for path in sources("neurons", "traces", "pages"):
        assert "trust_remote_code=True" not in path.read_text(encoding="utf-8"), path


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(ROOT)): n for path in sources("neurons", "traces", "pages") if (n := path.read_text().count("\n")) > MOST_LINES
    }
    assert not long, f"split these files: {long}"


def test_importing_the_engine_costs_nothing() -> None:
    code = "import sys, neurons, traces; print([m for m in ('torch', 'transformers', 'streamlit') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_navigation_is_drawn_before_the_libraries_are_loaded() -> None:
    code = (
        "import sys, pages.shared.browser_history, pages.shared.composing, pages.shared.palette, pages.serving.page_list\n"
        "print([m for m in ('torch', 'transformers', 'pandas', 'xarray', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip().endswith("[]")
    early = [line for line in (ROOT / "pages/navigation.py").read_text(encoding="utf-8").splitlines() if line.startswith("from pages")]
    assert early == [
        "from pages.serving.page_list import HOME, PAGES",
        "from pages.shared import browser_history, composing, palette",
    ], "what the navigation imports at its top is loaded before anything is seen"


def test_public_names_exist() -> None:
    import neurons

    missing = []
    for name in neurons.__all__:
        try:
            getattr(neurons, name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert not missing
