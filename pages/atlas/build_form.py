"""Building the loaded model's atlas from a corpus: what texts, how many tokens, and the job that does it."""

from __future__ import annotations

import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from neurons.atlas.build import BuildSettings, collection_folder
from neurons.atlas.own_corpus import SHIPPED_TEXTS
from neurons.atlas.plan import CollectSettings
from neurons.atlas.readers import Skipped, read_corpus
from neurons.atlas.store import SHIPPED
from neurons.atlas.writer import CORPUS
from neurons.core.errors import NeuronscopeError
from neurons.core.home import subfolder
from neurons.describing import atlas_jobs
from neurons.models.loaded import LoadedModel
from pages.atlas import running
from pages.shared import job_progress, server_wide, untrusted

_KINDS = ["txt", "md", "jsonl", "ndjson", "csv", "tsv", "parquet"]
_LOOKED_AT = 2_000  # documents of an upload that are read before it is used
_MAX_MB = 300


def draw() -> None:
    """The newest build, and the form for another."""
    loaded = server_wide.model()
    if loaded is None:
        st.caption("The model is still loading.")
        return
    untrusted.draw(
        [("An atlas of ", "muted"), (loaded.ref.name, "strong"), (": one pass over a corpus, all layers at once.", "muted")],
        key="atlas.build.of",
    )
    jobs = running.jobs_of(loaded.ref, atlas_jobs.BUILD)
    if jobs:
        job_progress.show(jobs[0], key="atlas.build")
        if jobs[0].active:
            st.caption(
                "It goes on when you leave this page. After a stop or an interruption it resumes where it was: nothing collected is lost."
            )
            return
    _kept(loaded)
    _form(loaded)


def _kept(loaded: LoadedModel) -> None:
    tokens = atlas_jobs.collected(loaded.ref)
    if tokens is not None:
        st.caption(
            f":material/inventory_2: A collection of this model is kept: {tokens:,} tokens at its last checkpoint. A new build starts from "
            "the beginning and removes it; the atlas that is in use stays until the new one is whole."
        )


def _form(loaded: LoadedModel) -> None:
    left, right = st.columns([1.3, 1], gap="medium")
    with left:
        settings = _texts()
    with right:
        settings = _amount(settings)
        concepts = st.toggle(
            "Named concepts", True, key="atlas.build.concepts",
            help="Afterwards also finds which neurons mean each concept of the lexicon, where that is not known yet (the Concepts page)",
        )  # fmt: skip
        ready = bool(settings.corpus)
        if st.button("Build", icon=":material/construction:", type="primary", key="atlas.build.go", disabled=not ready, width="stretch"):
            begin(loaded, settings, concepts=concepts)
            st.rerun()
        st.caption(
            "Takes from minutes (100,000 tokens of a small model) to hours; it can be stopped and resumed."
            if ready
            else "Choose some texts first."
        )


def _texts() -> BuildSettings:
    """Which texts are read."""
    st.markdown("**Texts**")
    shipped = (SHIPPED / CORPUS).exists()
    ours = st.checkbox(
        "The shipped atlas's texts", value=shipped, disabled=not shipped, key="atlas.build.shipped",
        help="Encyclopedia, code, documentation, law, drama and more, all redistributable; cut into this model's tokens",
    )  # fmt: skip
    files = st.file_uploader(
        "Your own files", type=_KINDS, accept_multiple_files=True, key="atlas.build.files", max_upload_size=_MAX_MB,
        help="UTF-8 text, JSONL, CSV or Parquet. Conversations (a column 'messages') go through the model's chat template",
    )  # fmt: skip
    named = st.text_area(
        "Or files, folders and data sets by name, one on each line", key="atlas.build.named", height=80, persist_state="session",
        placeholder="/data/my-texts\nowner/dataset",
        help="Paths on the server, or Hugging Face data set ids",
    )  # fmt: skip
    column, licence = st.columns(2)
    text_column = column.text_input("Text column", key="atlas.build.column", placeholder="detected", persist_state="session")
    stated = licence.text_input("Licence of your texts", "not stated", key="atlas.build.licence", help="Recorded in the atlas")
    uploads = _uploads(files, text_column or None)
    named_ones = (line.strip() for line in named.splitlines() if line.strip())
    return BuildSettings(
        corpus=(*([SHIPPED_TEXTS] if ours else []), *map(str, uploads), *named_ones),
        column=text_column.strip() or None,
        licence=stated.strip() or "not stated",
    )


def _amount(settings: BuildSettings) -> BuildSettings:
    """The same with how much is read and kept."""
    st.markdown("**How much**")
    tokens = st.number_input(
        "Tokens at most", 0, None, 0, 100_000, key="atlas.build.tokens",
        help="0 takes all. From 1,000,000 tokens, the quantile at 1 in 100,000 is the 10th largest activation; from fewer it is less sure",
    )  # fmt: skip
    chats = st.number_input(
        "Conversations by the model", 0, 100_000, 0, 10, key="atlas.build.chats",
        help="The model answers this many varied prompts in its chat format. The atlas marks these texts. Slow without a GPU",
    )  # fmt: skip
    probe = st.toggle(
        "Vocabulary probe",
        True,
        key="atlas.build.probe",
        help="Also runs each token of the vocabulary alone, which helps to describe the early and the late layers",
    )
    with st.expander("More"):
        extremes = st.number_input(
            "Extremes kept per side",
            1,
            100_000,
            128,
            key="atlas.build.extremes",
            help="How many of its largest activations are kept exactly. The j-th largest of N tokens is the quantile 1 - j/N",
        )
        memory = st.number_input("Memory for token tables, GB", 0.1, 1_000.0, 1.25, 0.25, key="atlas.build.memory")
    return replace(
        settings,
        tokens=int(tokens) or None,
        conversations=int(chats),
        probe=probe,
        memory_bytes=int(memory * 1e9),
        collect=CollectSettings(extremes=int(extremes)),
    )


def begin(loaded: LoadedModel, settings: BuildSettings, *, concepts: bool = True) -> None:
    """Start a build from the beginning. Raises `InvalidInput` while another job works on this model's atlas."""
    busy = [job for job in running.jobs_of(loaded.ref, atlas_jobs.BUILD) if job.active]
    if not busy:
        for job in running.jobs_of(loaded.ref, atlas_jobs.BUILD):
            job_progress.runner().delete(job.id)
        shutil.rmtree(collection_folder(loaded.ref), ignore_errors=True)
    params = atlas_jobs.BuildParameters(settings=settings, concepts=concepts)
    running.start(atlas_jobs.BUILD, params, title=f"Atlas of {loaded.ref.name}")


def _uploads(files: list[Any], column: str | None) -> list[Path]:
    """The uploaded files on disk, and below the field what is in each; those without a usable document are left out."""
    kept, rows = [], []
    for file in files:
        path = _stored(file)
        documents, skipped = look_into(path, column)
        if documents:
            kept.append(path)
        rows.append(
            {
                "file": file.name,
                "use": documents > 0,
                "documents": documents,
                "skipped": len(skipped),
                "why": "; ".join(f"{one.name}: {one.reason}" for one in skipped[:3]),
            }
        )
    if rows:
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            key="atlas.build.looked",
            height="auto",
            column_config={
                "file": "File",
                "use": st.column_config.CheckboxColumn("Used", width=50),
                "documents": st.column_config.NumberColumn("Documents", width=80, help=f"Among the first {_LOOKED_AT:,}"),
                "skipped": st.column_config.NumberColumn("Skipped", width=70),
                "why": "Why",
            },
        )
    return kept


def _stored(file: Any) -> Path:
    """Where an upload lies; written when it is first seen."""
    name = re.sub(r"[^\w.-]+", "_", Path(file.name).name)[-100:].lstrip(".") or "text.txt"
    path = subfolder("corpora") / re.sub(r"[^\w-]+", "", str(file.file_id))[:64] / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return path


def look_into(path: Path, column: str | None) -> tuple[int, list[Skipped]]:
    """How many usable documents the first part of a file holds, and what is skipped of it and why."""
    return _look_into(str(path), column)


@st.cache_data(show_spinner="Reading the file", max_entries=200)
def _look_into(path: str, column: str | None) -> tuple[int, list[Skipped]]:
    try:
        found = list(itertools.islice(read_corpus(path, column=column), _LOOKED_AT))
    except NeuronscopeError as error:
        return 0, [Skipped(Path(path).name, str(error))]
    skipped = [one for one in found if isinstance(one, Skipped)]
    return len(found) - len(skipped), skipped
