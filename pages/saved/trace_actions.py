"""What can be done with selected traces: open, edit, pin, compare, replay, export, delete with undo; and import."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.tasks import Task
from neurons.tracing.replay import ReplayReport, replay
from pages.shared import address, progress_row, server_wide, untrusted
from traces.exchange import export_zip, import_zip
from traces.schema import MAX_NAME, MAX_NOTE, MAX_TAG
from traces.summary import TraceSummary

_DELETED = "traces.deleted"
_REPLAY = "traces.replay"
_IMPORTED = "traces.imported"
_MAX_ZIP_MB = 500


@dataclass(eq=False, kw_only=True)
class Replaying(Task[ReplayReport]):
    """A trace being run again."""

    title: str


def draw(picked: Sequence[TraceSummary], *, trashed: bool) -> None:
    """The row of buttons above the table. Those that do not fit the selection are off, so that nothing jumps."""
    if trashed:
        _trash(picked)
        return
    none, ids = not picked, [row.id for row in picked]
    if st.button("Open", icon=":material/open_in_new:", disabled=len(picked) != 1, type="primary", key="traces.open"):
        address.go("trace", trace=ids[0])
    if st.button("Name, tags, note", icon=":material/edit:", disabled=none, key="traces.edit"):
        _edit(picked)
    unpin = bool(picked) and all(row.pinned for row in picked)
    if st.button(
        "Unpin" if unpin else "Pin", icon=":material/keep:", disabled=none, key="traces.pin", help="Pinned traces keep their activations"
    ):
        _each(ids, lambda i: server_wide.store().update(i, pinned=not unpin))
    if st.button("Compare", icon=":material/compare:", disabled=len(picked) != 2, key="traces.compare", help="Select two traces"):
        first, second = sorted(picked, key=lambda row: row.created)
        address.go("compare", a=first.id, b=second.id)
    if st.button(
        "Replay",
        icon=":material/replay:",
        disabled=len(picked) != 1,
        key="traces.again",
        help="Run it again and say whether the ids are the same",
    ):
        _start_replay(picked[0])
    _export(picked)
    if st.button("Delete", icon=":material/delete:", disabled=none, key="traces.delete", help="To the trash; can be undone"):
        _each(ids, server_wide.store().delete, remember=True)
    import_button()


def _each(ids: Sequence[str], act: Any, *, remember: bool = False) -> None:
    """Do one thing to every selected trace, then draw the page again; what fails is said above the table."""
    failed: list[NeuronscopeError] = []
    done = []
    for trace_id in ids:
        try:
            act(trace_id)
            done.append(trace_id)
        except NeuronscopeError as error:
            failed.append(error)
    st.session_state["traces.failed"] = failed
    if remember:
        st.session_state[_DELETED] = done
    st.rerun()


def _trash(picked: Sequence[TraceSummary]) -> None:
    ids = [row.id for row in picked]
    if st.button("Restore", icon=":material/restore_from_trash:", disabled=not ids, type="primary", key="traces.restore"):
        _each(ids, server_wide.store().restore)
    if st.button("Delete for good", icon=":material/delete_forever:", disabled=not ids, key="traces.purge"):
        _purge(ids)


@st.dialog("Delete for good")
def _purge(ids: Sequence[str]) -> None:
    st.text(f"{len(ids)} trace{'s' if len(ids) > 1 else ''} will be removed from the disk. This cannot be undone.")
    if st.button("Delete for good", type="primary", key="traces.purge.yes"):
        _each(ids, server_wide.store().purge)


@st.dialog("Name, tags and note", width="medium")
def _edit(picked: Sequence[TraceSummary]) -> None:
    store = server_wide.store()
    one = picked[0] if len(picked) == 1 else None
    name = (
        st.text_input("Name", value=one.name, max_chars=MAX_NAME, placeholder=one.title, key=f"traces.edit.name.{one.id}") if one else None
    )
    known = sorted({*store.catalogue.tags(), *(tag for row in picked for tag in row.tags)})
    shared = sorted(set.intersection(*(set(row.tags) for row in picked)))
    mark = "-".join(row.id for row in picked[:3])
    tags = st.multiselect(
        "Tags",
        known,
        default=shared,
        accept_new_options=True,
        key=f"traces.edit.tags.{mark}",
        help=f"Type a new one and press Enter; at most {MAX_TAG} characters each"
        + ("" if one else ". Tags that all have in common are shown"),
    )
    note = st.text_area("Note", value=one.note, max_chars=MAX_NOTE, key=f"traces.edit.note.{one.id}") if one else None
    if st.button("Save", type="primary", key="traces.edit.save"):
        with server_wide.errors_shown():
            for row in picked:
                kept = tuple(tag for tag in row.tags if tag in tags or tag not in shared)
                store.update(row.id, name=name, note=note, tags=(*kept, *(tag for tag in tags if tag not in kept)))
            st.rerun()


def _start_replay(row: TraceSummary) -> None:
    """Run the trace again in the background; `notices` shows the progress and the result."""
    loaded, store = server_wide.model_with(row.weights_hash) or server_wide.model(), server_wide.store()
    if loaded is None:
        st.session_state["traces.failed"] = [NeuronscopeError("the model is still loading; try again in a moment")]
        st.rerun()

    task = Replaying(what=f"replaying {row.title}", title=row.title)
    server_wide.server().start(task, lambda: replay(loaded, store.load(row.id), store=store, progress=task.progress))
    st.session_state[_REPLAY] = task.id
    st.rerun()


def _export(picked: Sequence[TraceSummary]) -> None:
    """One zip of the selected traces, made when the button is pressed."""
    ids = [row.id for row in picked]
    name = f"neuronscope-{ids[0]}.zip" if len(ids) == 1 else f"neuronscope-{len(ids)}-traces.zip"
    with st.popover("Export", icon=":material/download:", disabled=not ids):
        whole = st.toggle(
            "With activations", value=True, key="traces.export.whole", help="Without them the file is small; they can be computed again"
        )
        size = sum(row.bytes - (0 if whole else row.tensor_bytes) for row in picked) / 1e6
        if size > _MAX_ZIP_MB:
            st.caption(f"{size:,.0f} MB is a lot for a browser: use `neuronscope traces export` instead.")
        st.download_button(
            f"Download {len(ids)} trace{'s' if len(ids) > 1 else ''} (about {size:.1f} MB)",
            lambda: _zip_of(ids, whole),
            name,
            "application/zip",
            icon=":material/download:",
            key="traces.export",
            on_click="ignore",
        )


def _zip_of(ids: Sequence[str], whole: bool) -> bytes:
    sink = io.BytesIO()
    export_zip(server_wide.store(), ids, sink, with_activations=whole)
    return sink.getvalue()


def import_button() -> None:
    """Upload zips of traces; each is checked, and what is wrong with it stands below the field."""
    with st.popover("Import", icon=":material/upload:"):
        files = st.file_uploader(
            "Zip files exported from Neuronscope",
            type=["zip"],
            accept_multiple_files=True,
            key="traces.import",
            max_upload_size=_MAX_ZIP_MB,
        )
        seen: dict[str, list[untrusted.Part]] = st.session_state.setdefault(_IMPORTED, {})
        fresh = [file for file in files if file.file_id not in seen]
        for file in fresh:
            with st.spinner("Checking and importing"):
                seen[file.file_id] = _import(file.name, file)
        for file in files:
            untrusted.draw(seen[file.file_id], key=f"traces.imported.{file.file_id}", size="0.85rem")
        if fresh:
            st.rerun()


def _import(name: str, data: Any) -> list[untrusted.Part]:
    """What became of one uploaded file, to be shown below it."""
    try:
        came = import_zip(server_wide.store(), data)
    except NeuronscopeError as error:
        return [(f"{name}: ", "strong"), (str(error), "negative")]
    renamed = sum(1 for item in came if item.id != item.original_id)
    note = f" {renamed} got a new id, because theirs was taken." if renamed else ""
    titles = ", ".join(item.title for item in came[:5])
    return [(f"{name}: ", "strong"), (f"{len(came)} imported ({titles}{'…' if len(came) > 5 else ''}).{note}", "")]


def notices() -> None:
    """What the last actions led to: failures, the undo of a deletion, a replay's progress and result."""
    for error in st.session_state.pop("traces.failed", ()):
        server_wide.show_error(error)
    gone = st.session_state.get(_DELETED) or []
    if gone:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"{len(gone)} trace{'s' if len(gone) > 1 else ''} moved to the trash.")
            if st.button("Undo", icon=":material/undo:", key="traces.undo"):
                st.session_state[_DELETED] = []
                _each(gone, server_wide.store().restore)
    task = server_wide.server().task(st.session_state.get(_REPLAY), Replaying)
    if task is not None and progress_row.watch(task, key="traces.replay"):
        _replayed(task)


def _replayed(task: Replaying) -> None:
    left, right = st.columns([6, 1], vertical_alignment="center")
    with left:
        error = task.error()
        if error is not None:
            server_wide.show_error(error)
        else:
            _report(task.result(), untrusted.escape(task.title))
    if right.button("Close", key="traces.replay.close", width="stretch"):
        st.session_state.pop(_REPLAY, None)
        st.rerun()


def _report(report: ReplayReport, title: str) -> None:
    """Yes, or where the replay first differs and why."""
    if report.same:
        stored = (
            "activations and probabilities too, bit for bit"
            if report.activations == "same"
            else "its activations are not stored to compare"
        )
        st.success(f"Replayed “{title}”: the same token ids; {stored}.", icon=":material/check_circle:")
        return
    what = "the token ids differ" if not report.ids_same else "the ids are the same, but stored numbers differ"
    where = (
        f" First at token {report.first_difference}: {report.expected} then, {report.got} now."
        if report.first_difference is not None
        else ""
    )
    st.warning(f"Replayed “{title}”: {what}.{untrusted.escape(where)} {untrusted.escape(report.reason)}", icon=":material/difference:")


def budget() -> None:
    """The disk budget for activations."""
    store = server_wide.store()
    usage = store.usage()
    st.progress(min(1.0, usage.activation_bytes / max(1, usage.budget_bytes)), text=f"{usage.activation_bytes / 1e9:.2f} GB of activations")
    wanted = st.number_input("Budget, GB", 0.0, 100_000.0, usage.budget_bytes / 1e9, 0.5, key="traces.budget")
    if st.button("Keep to this budget", key="traces.budget.set", disabled=abs(wanted * 1e9 - usage.budget_bytes) < 1e6):
        with server_wide.errors_shown():
            evicted = store.set_budget(int(wanted * 1e9))
            st.caption(f"Done. Activations of {evicted} traces were removed.")
