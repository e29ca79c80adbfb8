"""Figures: charts, tokens and tables as SVG and PNG, whatever their texts hold, without a network."""

from __future__ import annotations

import socket
from typing import Any
from xml.etree import ElementTree

import altair as alt
import pandas as pd
import pytest

from neurons.core.errors import NeuronscopeError
from neurons.core.types import Segment
from pages.shared import drawing, figures
from pages.shared.strip import Strip
from tests.support.app_pages import open_page
from traces.schema import TraceRecord

HOSTILE = "<script>alert(1)</script> & \x00\x1b 漢字 é " + "x" * 300
PNG = b"\x89PNG\r\n"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def _texts(picture: str) -> str:
    return "".join(ElementTree.fromstring(picture).itertext())  # our own SVG: it must be well-formed


def test_a_chart_as_svg_and_png() -> None:
    chart = alt.Chart(pd.DataFrame({"a": [1, 2], "b": [HOSTILE, "two"]})).mark_bar().encode(x="a:Q", y="b:N").properties(height=100)
    picture = figures.chart_svg(chart).decode()
    assert "<script>" not in picture
    ElementTree.fromstring(picture)
    assert figures.chart_png(chart).startswith(PNG)


def test_what_the_converter_cannot_draw_is_said_and_the_server_lives() -> None:
    with pytest.raises(NeuronscopeError, match="could not be drawn"):
        figures.png_of("<svg xmlns='http://www.w3.org/2000/svg'><text>\x00</text></svg>")


def test_tokens_and_tables_are_drawn_as_text() -> None:
    pieces = ("Hello", " wor", "ld", "\n", HOSTILE)
    strip = Strip(
        "t", pieces, range(5), (Segment("user", 0, 5),), tint_T=[0, 0.5, -0.5, 0, 1], target=2, steered=[False, True] + [False] * 3
    )
    frame = pd.DataFrame({"neuron": ["1:2+"] * 60, "description": [HOSTILE] * 60, "value": [0.123456] * 60})
    picture = drawing.svg(
        drawing.of_strip(strip, title=HOSTILE), drawing.of_table(frame, {"neuron": "Neuron", "description": "Means", "value": "Value"})
    )
    said = _texts(picture)
    assert "<script>alert(1)</script>" in said
    assert " wor" in said
    assert said.count("x") >= 300, "a long token is broken over lines, not cut"
    assert "0.1235" in said
    assert "the first 40 of 60 rows" in said
    assert figures.png_of(picture).startswith(PNG)


def test_the_trace_page_offers_its_strip_and_table_as_figures(app_home: object, record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    assert not app.exception
    keys = {element.proto.id for element in app.get("download_button")}
    for key in ("trace.strip.figure.svg", "trace.acts.rows.figure.png", "trace.report"):
        assert any(name.endswith(key) for name in keys), key
