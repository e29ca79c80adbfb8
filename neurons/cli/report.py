"""`neuronscope report`: a saved run as one page for somebody without the app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurons.cli.common import Json, emit, size
from neurons.cli.stored import TraceId, find


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    trace_id: TraceId,
    against: Annotated[
        str | None, typer.Option(help="Another trace to compare with. [default: a steered run's unsteered one]", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write it. [default: report-ID.html]", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trace as one HTML page that needs nothing else: tokens, causes, neurons, picture, comparison. Browsers print it to PDF."""
    from neurons.atlas.quantiles import known_quantiles
    from neurons.descriptions.known import known_headlines
    from neurons.storage.files import write_output
    from neurons.tracing.report import report_html

    traces, record = find(trace_id)
    other = None if against is None else traces.resolve(against)
    path = out or Path(f"report-{record.id}.html")
    text = report_html(
        traces, record.id, against=other, about_neurons=known_headlines(record.model), quantiles=known_quantiles(record.model)
    )
    write_output(path, text)
    written = len(text.encode("utf-8"))
    emit({"trace_id": record.id, "file": str(path), "bytes": written}, as_json, f"wrote {path} ({size(written)})")
