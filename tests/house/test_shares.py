"""Shares are said by `core.percent` wherever they are said: a format of its own would round 99.96% to 100% and .004% to 0%."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN_FORMATS = {
    "a format string": r"\{[^{}]*:[+]?(?:\.\d+)?%\}",
    "a chart's tooltip": r"Tooltip\([^)]*format=\"[^\"]*%\"",
    "a share multiplied by hand": r"\{100 \* [^{}]*\}%",
}


def test_no_share_is_rounded_by_a_format_of_its_own() -> None:
    found = []
    for path in (path for folder in ("neurons", "pages", "traces") for path in (ROOT / folder).rglob("*.py")):
        if path.name == "percent.py":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number}: {what}" for what, form in OWN_FORMATS.items() if re.search(form, line)]
    assert not found, "say it with neurons.core.percent.percent:\n" + "\n".join(found)


def test_a_column_of_shares_goes_through_column_share() -> None:
    """Streamlit's percent columns round to two decimals; their values are kept off 0 and 1 before."""
    pages = [path for path in (ROOT / "pages").rglob("*.py") if 'format="percent"' in path.read_text(encoding="utf-8")]
    assert pages
    assert not [
        path.name
        for path in pages
        if "column_share(" not in path.read_text(encoding="utf-8") and "column_share)" not in path.read_text(encoding="utf-8")
    ]
