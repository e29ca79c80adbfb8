"""The models on this machine, the one that is loaded, and switching to another for everybody."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.models.beside import weight_bytes
from neurons.models.catalogue import ModelCard, cached_models, describe
from neurons.models.converted import BUDGET_VARIABLE, budget_bytes, kept, remove
from neurons.models.findings import Finding
from neurons.models.loaded import LoadedModel
from pages.shared import progress_row, server_wide, untrusted
from pages.shared.tables import choose_rows

_COLUMNS = {
    "here": st.column_config.CheckboxColumn("Here", width=50, help="All of it is on this machine. What is not is fetched when you load it"),
    "name": st.column_config.TextColumn("Model", width=200),
    "architecture": st.column_config.TextColumn("Architecture", width=150),
    "layers": st.column_config.NumberColumn("Layers", width=60),
    "neurons": st.column_config.NumberColumn("Neurons", format="localized", width=80, help="MLP neurons over all layers"),
    "memory": st.column_config.NumberColumn(
        "Memory, GB", format="%.2f", width=90, help="Predicted for the settings at the right, once it is loaded"
    ),
    "fits": st.column_config.CheckboxColumn("Fits", width=45, help="The predicted memory is free now"),
    "disk": st.column_config.NumberColumn("Disk, GB", format="%.2f", width=75),
    "stored": st.column_config.TextColumn("Stored as", width=80),
    "kind": st.column_config.TextColumn("From", width=70, help="default, hub (Hugging Face cache), folder or gguf file"),
    "parameters": st.column_config.NumberColumn("Weights, M", format="%.0f", width=85, help="Millions of parameters"),
    "problem": st.column_config.TextColumn("Problem", width=220),
}


def page() -> None:
    """Draw the page."""
    with server_wide.errors_shown():
        before = server_wide.model()
        listing, side = st.columns([3, 1.2])
        with side:
            device, dtype = _settings()
        with listing:
            _current(before)
            _beside()
            cards = cached_models(device=device, dtype=dtype)
            picked = choose_rows(_frame(cards), key="models.table", identity=[card.spec for card in cards], columns=_COLUMNS, height=320)
            _copies()
            st.caption(
                "Select a model to load it, or name another at the right. Nothing is sent anywhere; a hub id is downloaded once and kept."
            )
        with side:
            _load(cards[picked[0]] if picked else None, device, dtype)
        if server_wide.model() is not before:  # it was loaded while the page was drawn
            st.rerun()


def _settings() -> tuple[str | None, str | None]:
    """Device and data type for the next load; None leaves it to the machine."""
    import torch

    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    devices = ["auto", "cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
    left, right = st.columns(2)
    device = left.selectbox("Device", devices, key="models.device", help="auto takes a GPU where there is one")
    kinds = ["auto", "float32", "bfloat16", "float16"]
    dtype = right.selectbox(
        "Data type", kinds, key="models.dtype", help="auto: bfloat16 on a GPU, float32 on a processor, where bfloat16 is ten times slower"
    )
    return (None if device == "auto" else device), (None if dtype == "auto" else dtype)


def _current(loaded: LoadedModel | None) -> None:
    """The shared model, or its loading."""
    with st.container(border=True):
        if loaded is None:
            st.markdown("**No model is loaded yet.**")
            server_wide.loading_notice()
            return
        ref = loaded.ref
        chat = "answers in its chat template" if loaded.has_chat_template else "has no chat template: it completes plain text"
        neurons = sum(site.width for site in loaded.sites)
        parts: list[untrusted.Part] = [
            ("Loaded: ", "muted"),
            (f"{ref.name}\n", "strong"),
            (f"{ref.architecture}, {ref.n_layers} layers, {neurons:,} neurons, {ref.dtype} on {ref.device}, {chat}. ", ""),
            (f"Up to {ref.max_positions:,} tokens. Weights {ref.weights_hash[:12]}.", "muted"),
        ]
        untrusted.draw(parts, key="models.current")
        _check(loaded.findings)


def _beside() -> None:
    """The models beside the server's own."""
    for loaded in server_wide.server().shared.beside.all():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"Beside it: {loaded.ref.name}, {weight_bytes(loaded) / 1e9:.2f} GB, weights {loaded.ref.weights_hash[:12]}")
            if st.button("Unload", icon=":material/eject:", key=f"models.beside.{loaded.ref.weights_hash[:12]}"):
                server_wide.server().shared.beside.drop(loaded.ref.weights_hash)
                st.rerun()


def _copies() -> None:
    """The converted copies of GGUF files, each with a way to remove it."""
    copies = kept()
    if not copies:
        return
    whole = sum(copy.disk_bytes for copy in copies) / 1e9
    with st.expander(f"Converted copies of GGUF files: {len(copies)}, {whole:.2f} GB", icon=":material/database:", key="models.copies"):
        st.caption(
            "A GGUF file is converted once, so that it loads in seconds. The copies used longest ago go when all take more than "
            f"{budget_bytes() / 1e9:g} GB ({BUDGET_VARIABLE}). Removing one leaves the file itself."
        )
        for copy in copies:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.text(f"{copy.name}, {copy.disk_bytes / 1e9:.2f} GB, of {copy.source}")
                if st.button("Remove the copy", icon=":material/delete:", key=f"models.copy.{copy.weights_hash[:12]}"):
                    remove(copy.weights_hash)
                    st.rerun()


def _check(findings: Sequence[Finding]) -> None:
    """What the model's check found, a line each."""
    if not findings:
        return
    unusual = sum(finding.status != "right" for finding in findings)
    known = f"{unusual} to know about" if unusual else "all as they should be"
    label = f"Checked against plain transformers: {len(findings)} points, {known}"
    with st.expander(label, icon=":material/fact_check:", key="models.check"):
        parts: list[untrusted.Part] = []
        for finding in findings:
            parts += [(f"{finding.what}: ", "strong" if finding.status == "right" else "negative"), (f"{finding.said}\n", "")]
        untrusted.draw(parts, key="models.check.list", size="0.9rem")


def _frame(cards: Sequence[ModelCard]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "here": [card.cached for card in cards],
            "name": [card.name for card in cards],
            "architecture": [card.architecture for card in cards],
            "kind": [card.kind for card in cards],
            "parameters": [card.parameters / 1e6 if card.parameters else None for card in cards],
            "layers": [card.layers for card in cards],
            "neurons": [card.neurons for card in cards],
            "stored": [card.stored_dtype for card in cards],
            "disk": [card.disk_bytes / 1e9 if card.disk_bytes else None for card in cards],
            "memory": [card.memory_bytes / 1e9 if card.memory_bytes else None for card in cards],
            "fits": [card.fits for card in cards],
            "problem": [card.problem for card in cards],
        }
    )


def _load(card: ModelCard | None, device: str | None, dtype: str | None) -> None:
    """Choose by row or by name, see what it needs, and switch."""
    typed = st.text_input(
        "Another model",
        key="models.spec",
        placeholder="owner/name, a folder, or a .gguf file",
        help="A Hugging Face id, a folder with weights, or a GGUF file on the server's disk. No model's own code is ever run.",
    )
    spec = typed.strip() or (card.spec if card else "")
    job = server_wide.server().loading
    if job is not None and not progress_row.watch(job, key="models", body=_meanwhile):
        return
    if job is not None and (error := job.error()) is not None:
        server_wide.show_error(error)
    if not spec:
        st.caption("Select a row of the table or name a model to see what it needs.")
        return
    with st.container(border=True):
        untrusted.draw(_needs(spec, card if not typed.strip() else None, device, dtype), key="models.needs", size="0.9rem")
        st.caption(
            "One model is shared by everyone on this server: this switches it for all of them. Answers being written end with the old one."
        )
        if st.button("Load it for everybody", type="primary", icon=":material/swap_horiz:", key="models.load", width="stretch"):
            server_wide.server().load(spec, device=device, dtype=dtype)
            st.rerun()


def _needs(spec: str, card: ModelCard | None, device: str | None, dtype: str | None) -> list[untrusted.Part]:
    """What is known of a model before it is loaded."""
    try:
        known = card or describe(spec, device=device, dtype=dtype)
    except NeuronscopeError as error:
        return [(f"{spec}\n", "strong"), (f"{error}. Loading it tries to fetch it first.", "muted")]
    parts: list[untrusted.Part] = [(f"{known.name}\n", "strong")]
    if known.memory_bytes and known.free_bytes:
        free = f"{known.free_bytes / 1e9:.1f} GB are free"
        parts.append((f"Needs about {known.memory_bytes / 1e9:.2f} GB as {known.dtype} on {known.device}; {free}.\n", ""))
    if not known.fits:
        parts.append(("It will not fit.\n", "negative"))
    if known.problem:
        parts.append((known.problem, "negative"))
    return parts


def _meanwhile() -> None:
    if server_wide.server().loaded is not None:
        st.caption("The present model stays in use until the new one is ready.")
