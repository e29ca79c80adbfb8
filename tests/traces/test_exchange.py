"""Traces out to a zip file and in from an untrusted one."""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurons.core.errors import Cancelled, InvalidFile, InvalidInput, StoreError
from neurons.core.types import AttributionRow, TargetSpec
from tests.support.trace_runs import make_arrays, make_record
from traces import AttributionInfo, TraceStore, from_rows
from traces.exchange import export_zip, import_zip

Files = dict[str, bytes]
STRANGE_NAMES = [
    "../evil",
    "/etc/evil",
    "{id}/../../evil",
    "{id}/evil.py",
    "{id}\\trace.json",
    "{id}/tensors.zarr/.zgroup",
    "{id}/tensors.zarr/activations/.zarray",
    "{id}/tensors.zarr/activations/c/0/0/../0",
    "{id}/tensors.zarr/activations/c/-1/0/0",
    "C:/evil",
    "{id}/trace.json\n",
    "UPPER/trace.json",
    "catalogue.sqlite3",
    "{id}/attributions/x/y/z",
    "settings.json",
    ".lock/trace.json",
]


@pytest.fixture
def other(tmp_path: Path) -> TraceStore:
    return TraceStore(tmp_path / "other", examples=None)


def fill(store: TraceStore) -> list[str]:
    base = make_record(name="base", tags=("t",))
    base = store.save(base, make_arrays(base))
    steered = make_record(baseline_id=base.id, answer="Rome.")
    steered = store.save(steered, make_arrays(steered, seed=1))
    info = AttributionInfo(TargetSpec(5, "prob", 12), "grad", 0.75, 0.4, 1000, 1)
    store.save_attribution(base.id, from_rows(info, [AttributionRow(1, 2, 0, "+", 1.5, 0.25)], mass_LT=np.ones((3, 5))))
    return [base.id, steered.id]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], bytes]:
    """Two traces, one with an attribution and a note, packed once for all attacks."""
    store = TraceStore(tmp_path_factory.mktemp("packed") / "traces", examples=None)
    ids = fill(store)
    store.update(ids[0], note="note")
    return ids, zipped(store, ids)


def zipped(store: TraceStore, ids: list[str], **options: bool) -> bytes:
    buffer = io.BytesIO()
    export_zip(store, ids, buffer, **options)
    return buffer.getvalue()


def unzip(data: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(files: Files) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    buffer.seek(0)
    return buffer


def resign(files: Files) -> Files:
    """Make every manifest and seal agree with the files again: an attacker can do that too."""
    for name in [name for name in files if name.endswith("/meta.json")]:
        try:
            meta = json.loads(files[name])
        except ValueError:
            continue
        files[name] = json.dumps({key: value for key, value in meta.items() if key != "sha256"}).encode()
    for manifest_name in [name for name in files if name.endswith("/manifest.json")]:
        folder = manifest_name.removesuffix("manifest.json")
        own = {}
        for name, content in files.items():
            short = name.removeprefix(folder)
            skip = (
                not name.startswith(folder)
                or short in ("manifest.json", "meta.json", "activations.json")
                or short.startswith("attributions/")
            )
            if not skip:
                own[short] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        files[manifest_name] = json.dumps({"format": "neuronscope-manifest", "version": 1, "files": own}).encode()
    return files


def nothing_left(store: TraceStore) -> bool:
    return store.list() == () and list((store.root / ".work").iterdir()) == []


def test_out_and_in(store: TraceStore, other: TraceStore) -> None:
    ids = fill(store)
    imported = import_zip(other, io.BytesIO(zipped(store, ids)))
    assert sorted(item.id for item in imported) == sorted(ids)
    for trace_id in ids:
        assert other.load(trace_id) == store.load(trace_id)
        assert other.verify(trace_id).ok
        np.testing.assert_array_equal(other.read(trace_id, "activations"), store.read(trace_id, "activations"))
    assert other.attributions(ids[0]) == store.attributions(ids[0])
    assert nothing_left(TraceStore(other.root.parent / "third", examples=None))


def test_taken_ids_become_new_ones_and_pairs_stay_pairs(store: TraceStore) -> None:
    ids = fill(store)
    imported = {item.original_id: item.id for item in import_zip(store, io.BytesIO(zipped(store, ids)))}
    assert not set(imported.values()) & set(ids)
    assert store.load(imported[ids[1]]).baseline_id == imported[ids[0]]
    assert store.load(imported[ids[0]]).name == "base"
    assert len(store.list()) == 4
    assert all(store.verify(row.id).ok for row in store.list())


def test_without_activations(store: TraceStore, other: TraceStore) -> None:
    ids = fill(store)
    import_zip(other, io.BytesIO(zipped(store, ids, with_activations=False)))
    assert {other.activation_state(trace_id) for trace_id in ids} == {"evicted"}
    acts = store.read(ids[0], "activations")
    assert other.put_activations(ids[0], acts) is True
    assert all(other.verify(trace_id).ok for trace_id in ids)


def test_recomputed_activations_travel(store: TraceStore, other: TraceStore) -> None:
    trace_id = fill(store)[0]
    acts = store.read(trace_id, "activations")
    store.evict(trace_id)
    store.put_activations(trace_id, acts + np.float16(1))
    import_zip(other, io.BytesIO(zipped(store, [trace_id])))
    assert other.verify(trace_id).ok
    np.testing.assert_array_equal(other.read(trace_id, "activations"), acts + np.float16(1))


def test_damaged_traces_are_not_exported(store: TraceStore, tmp_path: Path) -> None:
    trace_id = fill(store)[0]
    chunk = store.root / trace_id / "tensors.zarr" / "activations" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    with pytest.raises(StoreError, match="damaged"):
        export_zip(store, [trace_id], tmp_path / "out.zip")
    assert not list(tmp_path.glob("*out.zip*"))
    with pytest.raises(InvalidInput):
        export_zip(store, [], tmp_path / "out.zip")


def test_cancelled_import_leaves_nothing(packed: tuple[list[str], bytes], other: TraceStore) -> None:
    data = packed[1]

    def stop(done: int, total: int | None, message: str) -> None:
        if "checking" in message:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        import_zip(other, io.BytesIO(data), progress=stop)
    assert nothing_left(other)


@pytest.mark.parametrize("data", [b"", b"PK", b"junk" * 100])
def test_not_a_zip(other: TraceStore, data: bytes) -> None:
    with pytest.raises(InvalidFile):
        import_zip(other, io.BytesIO(data))
    assert nothing_left(other)


@pytest.mark.parametrize(
    "name",
    STRANGE_NAMES,
)
def test_strange_names_are_refused(packed: tuple[list[str], bytes], other: TraceStore, name: str) -> None:
    (trace_id, _), files = packed[0], unzip(packed[1])
    files[name.format(id=trace_id)] = b"x"
    with pytest.raises(InvalidFile):
        import_zip(other, rezip(files))
    assert nothing_left(other)
    assert not (other.root.parent / "evil").exists()


def test_links_duplicates_and_encryption_are_refused(packed: tuple[list[str], bytes], other: TraceStore) -> None:
    (trace_id, _), files = packed[0], unzip(packed[1])
    link = rezip({name: content for name, content in files.items() if not name.endswith("meta.json")})
    with zipfile.ZipFile(link, "a") as archive:
        entry = zipfile.ZipInfo(f"{trace_id}/meta.json")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    double = rezip(files)
    with zipfile.ZipFile(double, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(f"{trace_id}/trace.json", files[f"{trace_id}/trace.json"])
    squeezed = io.BytesIO()
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    for attack, message in ((link, "link"), (double, "same name"), (squeezed, "compression")):
        attack.seek(0)
        with pytest.raises(InvalidFile, match=message):
            import_zip(other, attack)
        assert nothing_left(other)


@pytest.mark.slow
def test_bombs_are_refused(packed: tuple[list[str], bytes], other: TraceStore) -> None:
    (_trace_id, _), files = packed[0], unzip(packed[1])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, b" " * (300 << 20) if name.endswith("meta.json") else content)
    buffer.seek(0)
    with pytest.raises(InvalidFile, match="bomb"):
        import_zip(other, buffer)
    with pytest.raises(InvalidFile, match="more than"):
        import_zip(other, rezip(files), max_bytes=1000)
    assert nothing_left(other)


def edit_json(name: str, change: Callable[[dict], dict]) -> Callable[[Files, str], None]:
    def edit(files: Files, trace_id: str) -> None:
        path = f"{trace_id}/{name}"
        files[path] = json.dumps(change(json.loads(files[path]))).encode()

    return edit


def set_values(name: str, values: np.ndarray) -> Callable[[Files, str], None]:
    def edit(files: Files, trace_id: str) -> None:
        import google_crc32c

        data = values.tobytes()
        files[f"{trace_id}/{name}"] = data + int(google_crc32c.value(data)).to_bytes(4, "little")

    return edit


def steered(changes: dict) -> Callable[[dict], dict]:
    return lambda raw: raw | {"steers": [raw["steers"][0] | changes]}


ACTS = "tensors.zarr/activations/zarr.json"
ATTRIBUTION = "attributions/t5-prob-12-grad"


@pytest.mark.parametrize(
    "edit",
    [
        edit_json(ACTS, lambda raw: raw | {"zarr_format": 2}),
        edit_json(ACTS, lambda raw: raw | {"codecs": [{"name": "pickle"}]}),
        edit_json(ACTS, lambda raw: raw | {"codecs": [*raw["codecs"], {"name": "numcodecs.pickle", "configuration": {}}]}),
        edit_json(ACTS, lambda raw: raw | {"codecs": [{"name": "zstd", "configuration": {"level": 0}}]}),
        edit_json(ACTS, lambda raw: raw | {"shape": [3, 7, 1 << 40]}),
        edit_json(ACTS, lambda raw: raw | {"shape": [3, 7, -8]}),
        edit_json(ACTS, lambda raw: raw | {"shape": "abc"}),
        edit_json(ACTS, lambda raw: raw | {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 7, 1 << 50]}}}),
        edit_json(ACTS, lambda raw: raw | {"data_type": "float64"}),
        edit_json(ACTS, lambda raw: raw | {"data_type": {"name": "numpy.void"}}),
        edit_json(ACTS, lambda raw: raw | {"storage_transformers": [{"name": "x"}]}),
        edit_json(ACTS, lambda raw: raw | {"dimension_names": ["a", "b", "c"]}),
        edit_json(ACTS, lambda raw: raw | {"fill_value": "boom"}),
        edit_json("tensors.zarr/zarr.json", lambda raw: raw | {"consolidated_metadata": {"metadata": {}}}),
        edit_json("tensors.zarr/zarr.json", lambda raw: raw | {"node_type": "array"}),
        edit_json("trace.json", lambda raw: raw | {"id": "another-id"}),
        edit_json("trace.json", lambda raw: raw | {"answer_ids": [5]}),
        edit_json("meta.json", lambda raw: raw | {"name": 5}),
        edit_json("meta.json", lambda raw: raw | {"tags": [["nested"]]}),
        edit_json("meta.json", lambda raw: raw | {"note": "x" * 100_000}),
        edit_json("meta.json", lambda raw: raw | {"set_row": 2**70}),
        edit_json("meta.json", lambda raw: raw | {"set_row": -1}),
        edit_json("meta.json", lambda raw: raw | {"set_row": True}),
        edit_json("meta.json", lambda raw: raw | {"tags": ["\ud800"]}),
        edit_json("trace.json", lambda raw: raw | {"set_row": 2**70}),
        edit_json("trace.json", lambda raw: raw | {"created": "2026-11-24"}),
        edit_json("trace.json", lambda raw: raw | {"created": "2026-11-24T10:00:00"}),
        edit_json("trace.json", lambda raw: raw | {"created": "0001-01-01T00:00:00Z"}),
        edit_json("trace.json", lambda raw: raw | {"created": "9999-01-01T00:00:00Z"}),
        edit_json("trace.json", lambda raw: raw | {"seconds": 1e300}),
        edit_json("trace.json", lambda raw: raw | {"sampling": raw["sampling"] | {"top_k": 2**70}}),
        edit_json("trace.json", lambda raw: raw | {"environment": raw["environment"] | {"threads": -(2**70)}}),
        edit_json("trace.json", lambda raw: raw | {"model": raw["model"] | {"max_positions": 2**70}}),
        edit_json("trace.json", lambda raw: raw | {"messages": [raw["messages"][0] | {"token_ids": [-1]}]}),
        edit_json("trace.json", steered({"neurons": [{"layer": -1, "index": 2, "polarity": "-"}]})),
        edit_json("trace.json", steered({"neurons": [{"layer": 1, "index": -2, "polarity": "-"}]})),
        edit_json("trace.json", steered({"tokens": {"kind": "ranges", "ranges": [[0, 2**70]], "with_answer": False}})),
        edit_json("trace.json", steered({"tokens": {"kind": "ranges", "ranges": [[-3, 2]], "with_answer": False}})),
        edit_json(f"{ATTRIBUTION}/attribution.json", lambda raw: raw | {"total": 2**70}),
        edit_json(f"{ATTRIBUTION}/attribution.json", lambda raw: raw | {"created": "yesterday"}),
        edit_json(f"{ATTRIBUTION}/attribution.json", lambda raw: raw | {"extra": {"x": 2**70}}),
        set_values("tensors.zarr/logprob/c/0", np.full(7, 500, np.float32)),
        set_values("tensors.zarr/entropy/c/0", np.full(7, -1, np.float32)),
        set_values("tensors.zarr/entropy/c/0", np.full(7, 50, np.float32)),
        edit_json("manifest.json", lambda raw: raw | {"files": {**raw["files"], "../../../etc/passwd": {"size": 1, "sha256": "0" * 64}}}),
        edit_json(f"{ATTRIBUTION}/attribution.json", lambda raw: raw | {"share": 7.0}),
        edit_json(f"{ATTRIBUTION}/attribution.json", lambda raw: raw | {"kept": 9}),
        edit_json(f"{ATTRIBUTION}/rows.zarr/token/zarr.json", lambda raw: raw | {"codecs": []}),
        set_values(f"{ATTRIBUTION}/rows.zarr/token/c/0", np.array([99], np.int32)),
        set_values(f"{ATTRIBUTION}/rows.zarr/attribution/c/0", np.array([np.inf], np.float32)),
        set_values("tensors.zarr/activations/c/1/0/0", np.full((7, 8), np.nan, np.float16)),
        set_values("tensors.zarr/logprob/c/0", np.full(7, -np.inf, np.float32)),
        set_values("tensors.zarr/topk_ids/c/0/0", np.full((7, 5), 1000, np.int32)),
        set_values("tensors.zarr/candidate/c/0", np.array([0, 1, 2, 4, 3], np.int32)),
        set_values(f"{ATTRIBUTION}/rows.zarr/row/c/0", np.array([7], np.int32)),
        edit_json("tensors.zarr/topk_ids/zarr.json", lambda raw: raw | {"dimension_names": ["token", "neuron"]}),
        set_values("tensors.zarr/topk_probs/c/0/0", np.full((7, 5), 3, np.float32)),
        lambda files, i: files.pop(f"{i}/tensors.zarr/activations/c/1/0/0"),
        lambda files, i: files.update({f"{i}/tensors.zarr/activations/c/9/0/0": b"x" * 116}),
        lambda files, i: files.update({f"{i}/tensors.zarr/activations/c/1/0/0": b"x" * 116}),
        lambda files, i: files.update({f"{i}/trace.json": b"[" * 200_000}),
        lambda files, i: files.update({f"{i}/meta.json": b"\xff\xfe\x00"}),
        lambda files, i: files.pop(f"{i}/trace.json"),
        lambda files, i: files.update({f"{i}/activations.json": b'{"state": "evicted"}'}),
        lambda files, i: files.update({f"{i}/activations.json": b'{"state": "recomputed", "manifest": {"files": {"../x": 1}}}'}),
    ],
)
def test_forged_traces_are_refused(packed: tuple[list[str], bytes], other: TraceStore, edit: Callable[[Files, str], object]) -> None:
    """Every manifest is made to agree with the forged files first."""
    ids, files = packed[0], unzip(packed[1])
    edit(files, ids[0])
    if edit.__qualname__.startswith("edit_json") and b"etc/passwd" in files[f"{ids[0]}/manifest.json"]:
        pass
    else:
        resign(files)
    with pytest.raises(InvalidFile):
        import_zip(other, rezip(files))
    assert nothing_left(other)


def test_without_an_index(packed: tuple[list[str], bytes], other: TraceStore) -> None:
    files = unzip(packed[1])
    del files["export.json"]
    with pytest.raises(InvalidFile, match="export"):
        import_zip(other, rezip(files))
    with pytest.raises(InvalidFile, match="no traces"):
        import_zip(other, rezip({"export.json": b"{}"}))


def test_a_file_without_a_name_is_refused(packed: tuple[list[str], bytes], other: TraceStore) -> None:
    """zipfile takes a name that begins with a character 0 for an empty one, and asks for its last character."""
    data = rezip({**unzip(packed[1]), "nameless": b"x"}).getvalue().replace(b"nameless", b"\0ameless")
    with pytest.raises(InvalidFile, match="not a file that a trace has"):
        import_zip(other, io.BytesIO(data))
    assert nothing_left(other)


def test_a_table_of_contents_that_points_before_the_file_is_refused(store: TraceStore, other: TraceStore) -> None:
    data = bytearray(zipped(store, [fill(store)[0]]))
    end = data.rindex(b"PK\x05\x06")
    [offset] = struct.unpack_from("<I", data, end + 16)
    struct.pack_into("<I", data, end + 16, offset + 1000)  # then zipfile takes every file to begin 1000 bytes earlier
    with pytest.raises(InvalidFile, match="begin before it"):
        import_zip(other, io.BytesIO(bytes(data)))
    assert other.list() == ()


def test_random_damage_never_crashes(store: TraceStore, other: TraceStore) -> None:
    """Flip, cut and swap bytes anywhere: the answer is a typed error or a whole, valid trace."""
    data = zipped(store, [fill(store)[0]])
    rng = random.Random(5)
    for _ in range(60):
        spoiled = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(spoiled))
            spoiled[place] = rng.randrange(256)
        if rng.random() < 0.3:
            del spoiled[rng.randrange(len(spoiled)) :]
        try:
            imported = import_zip(other, io.BytesIO(bytes(spoiled)))
        except (InvalidFile, StoreError):
            continue
        assert all(other.verify(item.id).ok for item in imported)
    assert list((other.root / ".work").iterdir()) == []
