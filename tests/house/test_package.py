"""The wheel holds everything that the app needs, and nothing else; an installed copy finds its own pages and data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    arguments = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(arguments, check=True, capture_output=True, timeout=250)
    return next(folder.glob("neuronscope-*.whl"))


def test_the_wheel_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "neurons", "traces", "pages"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    missing = {name for name in tracked if name and (ROOT / name).exists()} - packed
    assert not missing
    assert {"neurons/cli/app/streamlit_app.py", "neurons/cli/app/.streamlit/config.toml"} <= packed
    assert not [name for name in packed if name.split("/")[0] in ("tests", "bench", "scripts", "docs")]
    assert not [name for name in packed if "__pycache__" in name or name.endswith(".pyc")]


def test_an_unpacked_wheel_finds_its_own_app(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "from neurons.cli.run import app_script; import neurons, pages, traces; print(app_script()); print(neurons.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    script, package = done.stdout.splitlines()
    assert Path(script) == tmp_path / "site" / "neurons" / "cli" / "app" / "streamlit_app.py"
    assert Path(package).is_relative_to(tmp_path / "site")


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+(?<!\+)", line) for line in lines), "exact versions, without local parts"
    locked = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", entry)[0]).lower() for entry in wanted}  # type: ignore[index]
    assert names <= locked, f"run `make lock`: {sorted(names - locked)}"
