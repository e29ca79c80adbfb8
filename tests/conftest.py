"""Shared fixtures. Nothing here or in any test touches the user's own data: NEURONSCOPE_HOME is a temporary folder.

Its models/ folder is a link to the real cache, so that the default model is fetched and converted once per machine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # imported by the fixtures that need them: most tests of the house need no torch
    from playwright.sync_api import Browser

    from neurons.models.loaded import LoadedModel
    from traces.store import TraceStore

# Before anything reads them: huggingface_hub and streamlit look at the environment when they are imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from neurons.core.home import HOME_VARIABLE, subfolder

ROOT = Path(__file__).resolve().parents[1]
_REAL_MODELS = subfolder("models").resolve()  # a worker is given the home of the process that starts it, whose models are a link
_TEMPORARY = tempfile.TemporaryDirectory(prefix="neuronscope-tests-", ignore_cleanup_errors=True)


def _make_home(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models").symlink_to(_REAL_MODELS, target_is_directory=True)
    return folder


_OUT_OF_MAKE_CHECK = {"browser", "pages", "cli"}
_DEAR_FIXTURES = {"default_model", "described", "alone", "wheel"}
_FIRST = ("browser", "torture")
"""The folders whose files take longest: begun first, so that no worker is left alone with them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `fast` what `make check` runs: no browser, page or command, no default model, atlas to describe, cluster or wheel."""
    for item in items:
        folder, fixtures = item.path.parent.name, set(getattr(item, "fixturenames", ()))
        if folder not in _OUT_OF_MAKE_CHECK and not _DEAR_FIXTURES & fixtures and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.fast)
    items.sort(key=lambda item: _FIRST.index(item.path.parent.name) if item.path.parent.name in _FIRST else len(_FIRST))


# At import, so that subprocesses and session fixtures of every test module see it.
os.environ[HOME_VARIABLE] = str(_make_home(Path(_TEMPORARY.name) / "home"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests: a process can hold only one of Playwright's connections."""
    from tests.support.browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session", autouse=True)
def _session_home() -> Iterator[Path]:
    """The whole run's home; removed at the end."""
    yield Path(os.environ[HOME_VARIABLE])
    _TEMPORARY.cleanup()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of this test's own, with the real models folder linked in. Ask for it in any test that writes or lists."""
    folder = _make_home(tmp_path / "home")
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    return folder


@pytest.fixture
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home as on a machine that never ran Neuronscope: no models either."""
    folder = tmp_path / "bare-home"
    folder.mkdir()
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    return folder


@pytest.fixture
def tiny() -> LoadedModel:
    """A tiny random Llama of this test's own."""
    from tests.support.tiny_models import tiny_model

    return tiny_model("llama")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama on disk, one for the whole run. A test that changes its files makes its own."""
    from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model

    folder = tmp_path_factory.mktemp("tiny-llama")
    tiny_torch_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> TraceStore:
    """An empty trace store, without the example traces."""
    from traces.store import TraceStore

    return TraceStore(tmp_path / "traces", examples=None)


@pytest.fixture(scope="session")
def default_model() -> LoadedModel:
    """The real embedded default model, CPU fp32, one for the whole run. Never edit it in place."""
    from neurons.models.load import load_model

    return load_model("default", device="cpu")
