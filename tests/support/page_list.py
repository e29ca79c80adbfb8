"""What pages/navigation.py lists, read without running it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def page_list() -> dict[str, tuple[str, str, str]]:
    """Address of each page to its title, icon and script."""
    tree = ast.parse((ROOT / "pages" / "navigation.py").read_text(encoding="utf-8"))
    [listed] = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PAGES"]
    found: dict[str, tuple[str, str, str]] = ast.literal_eval(listed)
    return found
