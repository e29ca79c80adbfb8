"""The tokens and tables of a page drawn as SVG: plain shapes and text in a monospaced face, so that every line's width is known.

Nothing of a text is read as markup: it is escaped, and characters that XML cannot hold are shown as a box.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd

from pages.shared.palette import PALETTE
from pages.shared.strip import Strip

_CHARACTER, _LINE, _SIZE = 7.83, 24.0, 13
"""Pixels: a character's width at the type size, a line's height."""
_COLUMNS = 100
_FONT = f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{_SIZE}"'
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_CELL = 70
ROWS = 40
"""A table's figure holds its first rows."""


@dataclass(frozen=True)
class Drawing:
    """Part of a picture: its elements and its size in pixels."""

    body: str
    width: float
    height: float


def svg(*parts: Drawing) -> str:
    """One picture of the parts, one below the other, on white."""
    width = max((part.width for part in parts), default=1.0) + 20
    height = sum(part.height for part in parts) + 20 + 16 * max(0, len(parts) - 1)
    groups, top = [], 10.0
    for part in parts:
        groups.append(f'<g transform="translate(10 {top:.1f})">{part.body}</g>')
        top += part.height + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(groups)}</svg>'
    )


def of_strip(strip: Strip, *, title: str = "") -> Drawing:
    """The tokens in bubbles by role, tinted as on the page (in the light theme's colours), template tokens left out."""
    tint_T = np.zeros(len(strip.pieces)) if strip.tint_T is None else np.nan_to_num(np.asarray(strip.tint_T, dtype=np.float64))
    out: list[str] = []
    row = 0.0
    if title:
        out.append(_text(0, row, title, weight="bold"))
        row += _LINE
    for segment in strip.segments:
        if segment.template or segment.start >= len(strip.pieces):
            continue
        out.append(_text(0, row, segment.role, fill=PALETTE["light"]["muted"]))
        row += _LINE
        column = 0
        for position in range(segment.start, min(segment.stop, len(strip.pieces))):
            for number, line in enumerate(strip.pieces[position].split("\n")):
                if number:
                    row, column = row + _LINE, 0
                for piece in _chunks(line, column):
                    if piece is None:
                        row, column = row + _LINE, 0
                        continue
                    width = columns_of(piece)
                    out.append(_token(strip, position, column, row, piece, width, float(tint_T[position])))
                    column += width
        row += _LINE * 1.3
    return Drawing("".join(out), _COLUMNS * _CHARACTER, row)


def _token(strip: Strip, position: int, column: int, row: float, text: str, width: int, tint: float) -> str:
    left, wide = column * _CHARACTER, width * _CHARACTER
    colour = PALETTE["light"]["amount" if strip.scale == "amount" else "positive" if tint > 0 else "negative"]
    shape = (
        f'<rect x="{left:.1f}" y="{row + 3:.1f}" width="{wide:.1f}" height="{_LINE - 5:.1f}" rx="3" fill="{colour}" '
        f'fill-opacity="{0.6 * min(1.0, abs(tint)):.2f}"/>'
        if abs(tint) > 0.01
        else ""
    )
    if position == strip.target:
        shape += (
            f'<rect x="{left:.1f}" y="{row + 3:.1f}" width="{wide:.1f}" height="{_LINE - 5:.1f}" rx="3" fill="none" '
            f'stroke="{PALETTE["light"]["selection"]}" stroke-width="1.5"/>'
        )
    under = position < len(strip.steered) and strip.steered[position]
    marked = position < len(strip.marked) and strip.marked[position]
    if under or marked:
        shape += f'<line x1="{left:.1f}" y1="{row + _LINE - 4:.1f}" x2="{left + wide:.1f}" y2="{row + _LINE - 4:.1f}" stroke="#1f2937"'
        shape += ' stroke-dasharray="2 2"/>' if marked and not under else "/>"
    return shape + _text(left, row, text, length=wide)


def of_table(frame: pd.DataFrame, names: dict[str, str], *, title: str = "") -> Drawing:
    """The first rows of the columns in `names` (column to heading), numbers at the right."""
    shown = frame.head(ROWS)
    cells = {heading: [_cell(value) for value in shown[column]] for column, heading in names.items()}
    numeric = {heading: pd.api.types.is_numeric_dtype(shown[column]) for column, heading in names.items()}
    out: list[str] = []
    row = 0.0
    if title:
        out.append(_text(0, row, title, weight="bold"))
        row += _LINE
    column = 0
    for heading, texts in cells.items():
        width = max(map(columns_of, [heading, *texts]))
        for number, text in enumerate([heading, *texts]):
            at = column + (width - columns_of(text) if numeric[heading] else 0)
            out.append(_text(at * _CHARACTER, row + number * _LINE, text, weight="bold" if number == 0 else "normal"))
        column += width + 2
    height = row + _LINE * (len(shown) + 1)
    rule = f'<line x1="0" y1="{row + _LINE:.1f}" x2="{column * _CHARACTER:.1f}" y2="{row + _LINE:.1f}" stroke="#6b7280"/>'
    if len(frame) > len(shown):
        out.append(_text(0, height, f"the first {len(shown)} of {len(frame):,} rows", fill=PALETTE["light"]["muted"]))
        height += _LINE
    return Drawing(rule + "".join(out), max(1, column) * _CHARACTER, height)


def drawable(text: str) -> str:
    """A text with the characters that XML cannot hold shown as a box."""
    return _FORBIDDEN.sub("▯", text)


def columns_of(text: str) -> int:
    """How many characters wide a text is: those of East Asian scripts take two, marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _chunks(line: str, column: int) -> list[str | None]:
    """A token's text cut to the lines it takes; None stands for a new line."""
    if not line:
        return []
    width = columns_of(line)
    if column + width <= _COLUMNS:
        return [line]
    if width <= _COLUMNS:
        return [None, line]
    pieces: list[str | None] = []
    while line:
        pieces += [None, line[: _COLUMNS // 2]]
        line = line[_COLUMNS // 2 :]
    return pieces


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _text(x: float, row: float, text: str, *, fill: str = "#1f2937", weight: str = "normal", length: float | None = None) -> str:
    shown = escape(drawable(text))
    fixed = "" if length is None else f' textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{x:.1f}" y="{row + 17:.1f}" {_FONT} fill="{fill}" font-weight="{weight}" xml:space="preserve"{fixed}>{shown}</text>'
