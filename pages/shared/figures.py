"""Figures for papers and slides: what stands on the page as SVG and PNG, made on this machine when the button is pressed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.json_text import json_text
from pages.shared import convert
from pages.shared.drawing import Drawing, drawable, svg

_WIDTH = 640
_PATIENCE = 120
_SCALE = 3.0
"""PNG pixels for one of the page: about 290 dots an inch."""


def chart(picture: Any, *, key: str, stem: str, **look: Any) -> Any:
    """`st.altair_chart` with its figure below it."""
    event = st.altair_chart(picture, key=key, **{"width": "stretch", **look})
    offer_chart(picture, key=key, stem=stem)
    return event


def offer_chart(picture: Any, *, key: str, stem: str) -> None:
    """A chart's SVG and PNG."""
    _offer(partial(chart_svg, picture), partial(chart_png, picture), key=key, stem=stem)


def offer(draw: Callable[[], list[Drawing]], *, key: str, stem: str, inline: bool = False) -> None:
    """The SVG and PNG of what `draw` makes: strips and tables. `inline` where the place is a box that opens already."""
    _offer(lambda: svg(*draw()).encode("utf-8"), lambda: png_of(svg(*draw())), key=key, stem=stem, inline=inline)


def chart_svg(picture: Any) -> bytes:
    """A chart as SVG."""
    return _converted(json_text(_spec(picture), ascii_only=True), "chart", "svg")


def chart_png(picture: Any) -> bytes:
    """A chart as PNG."""
    return _converted(json_text(_spec(picture), ascii_only=True), "chart", "png")


def png_of(picture: str) -> bytes:
    """An SVG as PNG."""
    return _converted(picture, "svg", "png")


def _converted(text: str, given: str, wanted: str) -> bytes:
    """Raises `NeuronscopeError` where the converter gives up; the server goes on."""
    command = [sys.executable, "-I", str(Path(convert.__file__)), given, wanted, str(_SCALE)]
    try:
        done = subprocess.run(command, input=text.encode("utf-8"), capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise NeuronscopeError(f"the figure was not drawn within {_PATIENCE} s; try again, or with fewer rows") from error
    if done.returncode or not done.stdout:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise NeuronscopeError(f"the figure could not be drawn: {''.join(last) or 'the converter ended'}")
    return done.stdout


def _spec(picture: Any) -> dict[str, Any]:
    """The chart as Vega-Lite, on white, as wide as a figure where its width is the page's."""
    with alt.data_transformers.disable_max_rows():
        spec: dict[str, Any] = picture.to_dict()
    spec.setdefault("width", _WIDTH)
    spec["background"] = "white"
    shown: dict[str, Any] = _drawable(spec)
    return shown


def _drawable(value: Any) -> Any:
    """The same with characters that no picture can hold shown as a box."""
    if isinstance(value, str):
        return drawable(value)
    if isinstance(value, dict):
        return {_drawable(key): _drawable(item) for key, item in value.items()}
    return [_drawable(item) for item in value] if isinstance(value, list) else value


def _offer(make_svg: Callable[[], bytes], make_png: Callable[[], bytes], *, key: str, stem: str, inline: bool = False) -> None:
    box = (
        nullcontext()
        if inline
        else st.popover("Figure", icon=":material/image:", key=f"{key}.figure", help="As SVG or PNG, for a paper or slides")
    )
    with box, st.container(horizontal=True):
        for label, make, ending, mime in (("SVG", make_svg, "svg", "image/svg+xml"), ("PNG", make_png, "png", "image/png")):
            st.download_button(
                label, make, f"{stem}.{ending}", mime, key=f"{key}.figure.{ending}", icon=":material/download:", on_click="ignore"
            )
