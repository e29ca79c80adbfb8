"""The atlases on this machine as a table, and which of them is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from neurons.atlas.records import AtlasInfo
from neurons.atlas.removal import remove_atlas, remove_folder, restore_atlas
from neurons.atlas.store import SHIPPED, Atlas, atlas_folder, damaged_atlases, list_atlases, open_atlas, open_folder
from neurons.core.errors import NeuronscopeError
from neurons.core.percent import column_share
from neurons.core.types import ModelRef
from pages.shared import address_state, browser_history, server_wide, untrusted
from pages.shared.tables import choose_rows, moments

_REMOVED = "atlas.removed"
_FAILED = "atlas.failed"
COLUMNS: dict[str, Any] = {
    "model": st.column_config.TextColumn("Model", width=230),
    "weights": st.column_config.TextColumn("Weights", width=110, help="The first characters of the weights' hash"),
    "from": st.column_config.TextColumn("From", width=85, help="Shipped with Neuronscope, or made (or imported) here"),
    "use": st.column_config.TextColumn("For the loaded model", width=150, help="Whether the app uses it for the model that is loaded now"),
    "tokens": st.column_config.NumberColumn("Tokens", format="localized", width=95, help="Counted tokens behind every figure"),
    "documents": st.column_config.NumberColumn("Documents", format="localized", width=85),
    "described": st.column_config.NumberColumn("Described", format="localized", width=85, help="Neuron sides with a description"),
    "share": st.column_config.ProgressColumn("Coverage", format="percent", width=90, help="Share of all neuron sides that is described"),
    "size": st.column_config.NumberColumn("MB", format="%.1f", width=60, help="Megabytes on disk"),
    "created": st.column_config.DatetimeColumn("Written", format="D MMM YYYY, HH:mm", width=130),
}


class ChosenState(address_state.PageState):
    """The atlas that is looked at, by `name_of`."""

    atlas: address_state.Named = None


def draw() -> Atlas | None:
    """The table; returns the atlas that is looked at: the ticked one, else the address's, else the loaded model's."""
    _notices()
    infos = list_atlases()
    loaded = server_wide.model()
    used = open_atlas(loaded.ref) if loaded is not None else None
    if not infos:
        who = f"of {untrusted.escape(loaded.ref.name)} " if loaded is not None else ""
        st.info(f"There is no atlas {who}yet. Build one below from a corpus, or import one.", icon=":material/map:")
        st.query_params.pop("atlas", None)
        return None
    names = [name_of(info) for info in infos]
    frame = frame_of(infos, used)
    picked = choose_rows(frame, key="atlas.table", identity=names, columns=COLUMNS, height=min(36 * (len(frame) + 1) + 2, 220))
    asked = address_state.read(ChosenState).atlas
    if asked is not None and asked not in names:
        browser_history.unknown("the atlas", asked)
    here = next((n for n, info in enumerate(infos) if used is not None and folder_of(info) == used.folder), 0)
    chosen = picked[0] if picked else names.index(asked) if asked in names else here
    st.query_params["atlas"] = names[chosen]
    if loaded is not None and used is None:
        st.caption(f"None of them belongs to the loaded model, {untrusted.escape(loaded.ref.name)}, or to weights like its own.")
    info = infos[chosen]
    return used if used is not None and folder_of(info) == used.folder else open_folder(folder_of(info))


def name_of(info: AtlasInfo) -> str:
    """What the address calls an atlas."""
    return f"{info.model.weights_hash[:12]}{'-shipped' if info.shipped else ''}"


def folder_of(info: AtlasInfo) -> Any:
    """Where it lies."""
    return SHIPPED if info.shipped else atlas_folder(info.model)


def size_of(folder: Any) -> int:
    """Bytes on disk."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def frame_of(infos: Sequence[AtlasInfo], used: Atlas | None) -> pd.DataFrame:
    """One row an atlas."""
    uses = []
    for info in infos:
        mine = used is not None and folder_of(info) == used.folder
        uses.append(("near weights" if used is not None and used.info.near else "in use") if mine else "")
    return pd.DataFrame(
        {
            "model": [info.model.name for info in infos],
            "weights": [info.model.weights_hash[:12] for info in infos],
            "from": ["shipped" if info.shipped else "own" for info in infos],
            "use": uses,
            "tokens": [info.tokens for info in infos],
            "documents": [info.documents for info in infos],
            "described": [info.described for info in infos],
            "share": [column_share(info.described / (2 * info.model.n_layers * info.model.n_neurons)) for info in infos],
            "size": [size_of(folder_of(info)) / 1e6 for info in infos],
            "created": moments(info.created for info in infos),
        }
    )


def remove(ref: ModelRef) -> None:
    """Take the user's own atlas away; the undo stands above the table."""
    _remove(lambda: remove_atlas(ref), ref.name)


def _remove(act: Any, name: str) -> None:
    try:
        st.session_state[_REMOVED] = (name, act())
        st.query_params.pop("atlas", None)
    except NeuronscopeError as error:
        st.session_state[_FAILED] = [error]


def _restore(token: str) -> None:
    st.session_state.pop(_REMOVED, None)
    try:
        restore_atlas(token)
    except NeuronscopeError as error:
        st.session_state[_FAILED] = [error]


def _notices() -> None:
    """What went wrong, the undo of a removal, and atlases that cannot be read."""
    for error in st.session_state.pop(_FAILED, ()):
        server_wide.show_error(error)
    gone = st.session_state.get(_REMOVED)
    if gone is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"Removed the atlas of {gone[0]}.")
            st.button("Undo", icon=":material/undo:", key="atlas.restore", on_click=_restore, args=(gone[1],))
    for folder, why in damaged_atlases():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.error(untrusted.escape(why), icon=":material/error:")
            st.button(
                "Remove it", icon=":material/delete:", key=f"atlas.damaged.{folder.name}", on_click=_remove,
                args=(lambda folder=folder: remove_folder(folder), folder.name),
            )  # fmt: skip
