"""Atlases and descriptions in and out: the whole atlas, tables, Neuronpedia's records, published description tables."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from neurons.atlas.exchange import import_zip, read_descriptions
from neurons.atlas.store import atlas_folder, open_atlas
from neurons.core.errors import NeuronscopeError
from neurons.describing import atlas_jobs
from neurons.describing.imported import import_descriptions
from neurons.models.loaded import LoadedModel
from pages.atlas import running
from pages.shared import job_progress, server_wide, untrusted

_IMPORTED = "atlas.imported"
_SHOWN = 500  # skipped rows listed
_MAX_MB = 2_000
_MIME = {"zip": "application/zip", "csv": "text/csv", "jsonl": "application/x-ndjson", "parquet": "application/octet-stream"}


def draw() -> None:
    """Export at the left, import at the right."""
    loaded = server_wide.model()
    if loaded is None:
        st.caption("The model is still loading.")
        return
    left, right = st.columns(2, gap="medium")
    with left, server_wide.errors_shown():
        _export(loaded)
    with right, server_wide.errors_shown():
        _import(loaded)


def _export(loaded: LoadedModel) -> None:
    st.markdown("**Export**")
    atlas = open_atlas(loaded.ref)
    if atlas is None:
        st.caption("The loaded model has no atlas to export.")
        return
    kinds = [kind for kind in atlas_jobs.EXPORTS if kind != "explanations" or "descriptions" in atlas.manifest]
    kinds = [kind for kind in kinds if kind in ("explanations", "atlas") or atlas.has_figures]
    what = st.radio("What", kinds, index=len(kinds) - 1, format_func=atlas_jobs.EXPORTS.__getitem__, key="atlas.export.what")
    one, two = st.columns(2)
    suffix = "zip"
    if what != "atlas":
        suffix = one.selectbox("Format", atlas_jobs.FORMATS[what], key=f"atlas.export.format.{what}")
    count = 24
    if what in ("exemplars", "activations"):
        count = int(two.number_input("Exemplars per side", 1, 24, 5, key="atlas.export.count", help="How many of its strongest places"))
    if st.button("Prepare the file", icon=":material/inventory:", type="primary", key="atlas.export.go"):
        params = atlas_jobs.ExportParameters(what=what, format=suffix, count=count)
        running.start(atlas_jobs.EXPORT, params, title=f"Exporting {what} of {loaded.ref.name}")
        st.rerun()
    jobs = running.jobs_of(loaded.ref, atlas_jobs.EXPORT)
    if jobs:
        job = jobs[0]
        job_progress.show(job, key="atlas.export")
        if job.state != "done":
            return
        made = job.outcome(atlas_jobs.Exported)
        path, rows = atlas_jobs.file_of(made), made.rows
        if path is not None:
            st.download_button(
                f"Download {path.name} ({path.stat().st_size / 1e6:.1f} MB{f', {rows:,} rows' if rows is not None else ''})",
                lambda: path.read_bytes(),
                path.name,
                _MIME.get(path.suffix[1:], "application/octet-stream"),
                icon=":material/download:",
                key="atlas.export.file",
                on_click="ignore",
            )


def _import(loaded: LoadedModel) -> None:
    st.markdown("**Import**")
    st.caption(
        "A zip exported here; or descriptions as JSONL, JSON, CSV or Parquet: Neuronpedia's records, the published Llama tables (layer, "
        "neuron, polarity, description, score), your own. Rows that do not fit the loaded model are named and skipped."
    )
    file = st.file_uploader(
        "File", type=["zip", "jsonl", "json", "csv", "parquet"], key="atlas.import", max_upload_size=_MAX_MB,
        help="Imported descriptions replace those of the same neurons; what you wrote by hand stays in front",
    )  # fmt: skip
    if file is None:
        return
    seen: dict[str, dict[str, Any]] = st.session_state.setdefault(_IMPORTED, {})
    fresh = file.file_id not in seen
    if fresh:
        with st.spinner("Checking and importing"):
            seen[file.file_id] = take(loaded, file.name, file)
    became = seen[file.file_id]
    untrusted.draw([(f"{file.name}: ", "strong"), (became["said"], "negative" if became["failed"] else "")], key="atlas.imported")
    if became["skipped"]:
        with st.expander(f"Skipped rows ({became['count']:,})"):
            st.dataframe(pd.DataFrame(became["skipped"], columns=["Row", "Why"]), hide_index=True, key="atlas.import.skipped")
            if became["count"] > _SHOWN:
                st.caption(f"The first {_SHOWN} are listed.")
    if fresh and not became["failed"]:
        st.rerun()


def take(loaded: LoadedModel, name: str, file: Any) -> dict[str, Any]:
    """Import one file into the loaded model's atlas; what became of it, to be shown below the field."""
    ref = loaded.ref
    skipped: list[tuple[str, str]] = []
    count, failed = 0, False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (Path(name).name[-100:] or "file")
        path.write_bytes(file.getvalue())
        try:
            if path.suffix.lower() == ".zip":
                atlas = import_zip(path, atlas_folder(ref), ref=ref)
                said = f"an atlas of {atlas.ref.name}, {atlas.tokens:,} tokens, {atlas.info.described:,} neuron sides described"
            else:
                found = read_descriptions(path, ref)
                import_descriptions(found.table, ref, author=path.name)
                count = len(found.skipped)
                skipped = [(one.name, one.reason) for one in found.skipped[:_SHOWN]]
                said = f"{len(found.table):,} descriptions taken in" + (f", {count:,} rows skipped" if count else "")
        except NeuronscopeError as error:
            said, failed = str(error), True
    return {"said": said, "failed": failed, "skipped": skipped, "count": count}
