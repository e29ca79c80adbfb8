"""What the product is made of: the hashed lock agrees with the pinned versions, names no server, and nothing that is needed is missing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.hashed_lock import TORCHS_OWN, blocks

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def pinned(text: str) -> dict[str, str]:
    lines = (re.match(r"([\w.-]+)==([\w.!+-]+)", line) for line in text.splitlines())
    return {canonicalize_name(match[1]): match[2] for match in lines if match}


def test_every_package_of_the_lock_has_hashes_and_no_server() -> None:
    assert len(blocks(LOCK)) > 80
    for block in blocks(LOCK):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]
    assert "://" not in LOCK
    assert "--index" not in LOCK


def test_the_lock_and_the_constraints_name_the_same_versions() -> None:
    constraints = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    locked = pinned(LOCK)
    differ = {name: (version, constraints[name]) for name, version in locked.items() if constraints.get(name, version) != version}
    assert not differ


def test_the_lock_holds_all_that_the_product_needs_but_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {canonicalize_name(Requirement(text).name) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])}
    assert needed - set(pinned(LOCK)) == {"torch"}
    assert not [name for name in pinned(LOCK) if TORCHS_OWN.match(f"{name}==")]


def test_notice_names_the_licence_of_everything_that_ships() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for name in ("SmolLM2-135M-Instruct", "all-MiniLM-L6-v2", "WordNet", "Apache-2.0", "MIT"):
        assert name in notice
    folders = [path for path in (ROOT / "neurons").glob("*/data") if path.is_dir()]
    assert folders
    for folder in folders:
        assert folder.relative_to(ROOT).as_posix() in notice, folder


def test_security_says_what_is_promised() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for heading in ("## Report a problem", "## Who might attack", "## What is promised", "## What is not"):
        assert heading in text
