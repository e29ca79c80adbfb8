"""Other packages with the names `neurons`, `traces` or `pages`, in a real site-packages folder made of the real wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = 'raise ImportError("another package of this name")\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, capture_output=True, timeout=250)
    return next(folder.glob("neuronscope-*.whl"))


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """A folder in which nothing but our wheel is installed."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


def install(site: Path, name: str, version: str, *files: str, write: bool = True) -> None:
    """Another distribution, as pip would install it over what is there."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("".join(f"{file},sha256=x,{len(FOREIGN)}\n" for file in files))
    for file in files if write else ():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(FOREIGN)


def run(site: Path, *words: str, cwd: Path | None = None, before: str = "") -> subprocess.CompletedProcess[str]:
    code = "from neurons.cli.start import main; main()"
    environment = {**os.environ, "PYTHONPATH": f"{before}{site}", "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd or site, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_alone_it_says_nothing(site: Path) -> None:
    install(site, "retraces", "1.0", "retraces/__init__.py", "tests/traces/x.py")
    done = run(site, "traces", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["traces"]


def test_a_package_that_was_installed_over_it_is_named_in_one_line(site: Path) -> None:
    install(site, "traces", "1.2", "traces/__init__.py", "traces/core.py")
    for words in (("traces", "list"), ("run", "--no-browser"), ("--version",)):
        done = run(site, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: files of Neuronscope's package `traces` were replaced by the package traces 1.2; install")
        assert done.stderr.count("\n") == 1
    told = json.loads(run(site, "traces", "list", "--json").stderr)
    assert "traces 1.2" in told["error"]


def test_a_package_that_it_was_installed_over_is_warned_of(site: Path) -> None:
    install(site, "traces", "1.2", "traces/__init__.py", "traces/core.py", write=False)
    install(site, "web_pages", "3", "pages.py", write=False)
    done = run(site, "traces", "list", "--json")
    assert done.returncode == 0
    assert done.stderr.startswith(
        "note: the package traces 1.2 and the package web_pages 3 have the package name `pages` and `traces` too and may be broken"
    )
    assert done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["traces"]


def test_a_package_that_is_found_first_is_named(site: Path, tmp_path: Path) -> None:
    (tmp_path / "first" / "traces").mkdir(parents=True)
    (tmp_path / "first" / "traces" / "__init__.py").write_text(FOREIGN)
    done = run(site, "traces", "list", before=f"{tmp_path / 'first'}{os.pathsep}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{tmp_path / 'first' / 'traces'} is found before it" in done.stderr


def test_folders_of_these_names_where_one_stands_do_no_harm(site: Path, tmp_path: Path) -> None:
    for name in ("pages", "traces", "neurons"):
        (tmp_path / "work" / name).mkdir(parents=True)
    (tmp_path / "work" / "pages" / "__init__.py").write_text(FOREIGN)
    done = run(site, "traces", "list", cwd=tmp_path / "work")
    assert (done.returncode, done.stderr) == (0, "")
