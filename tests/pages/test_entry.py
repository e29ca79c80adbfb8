"""Every page can be the first address that a fresh server is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

BEGINNING = 'from __future__ import annotations\n\nif __name__ == "__main__":\n    from pages.shared.address import enter\n\n    enter()\n'
PAGES = sorted((Path(__file__).parents[2] / "pages").glob("*.py"))


@pytest.mark.parametrize("page", [path for path in PAGES if not path.stem.startswith("_")], ids=lambda path: path.stem)
def test_a_page_file_hands_over_to_the_navigation(page: Path) -> None:
    """Streamlit runs a file of pages/ by itself until st.navigation was called once: see `links.enter`."""
    text = page.read_text(encoding="utf-8")
    assert BEGINNING in text, f"begin {page.name} with:\n{BEGINNING}"
