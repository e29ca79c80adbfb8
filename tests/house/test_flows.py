"""The flows of docs/architecture.md are true of the code: at most eight stops, each reached from one before it, in the order of use."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest

from neurons.atlas.build import BuildSettings, build_atlas
from neurons.attribution.attribute import attribute
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide, Sampling, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.repair.repair import repair
from neurons.tracing.record import run_pair, run_trace
from neurons.tracing.saved_attributions import storable
from tests.support.atlases import SETTINGS
from tests.support.repairs import wish
from traces.compare import compare_traces
from traces.store import TraceStore

ROOT = Path(__file__).resolve().parents[2]
MOST_RETURNS = 2
_FILE = re.compile(r"`([a-z_/]+\.py)`")


def _flows() -> dict[str, list[list[str]]]:
    """Each flow's stops: the files that its numbered lines begin with, several where a line offers a choice."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## The five flows")[2]
    flows: dict[str, list[list[str]]] = {}
    for part in text.split("\n### ")[1:]:
        title, _, rest = part.partition("\n")
        flows[title] = [_FILE.findall(line) for line in rest.splitlines() if re.match(r"\d\. ", line)]
    return flows


@cache
def _imports(file: str) -> frozenset[str]:
    """The files of ours that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.replace(".", "/") + ".py")
            found.update(f"{node.module}.{alias.name}".replace(".", "/") + ".py" for alias in node.names)
    return frozenset(name for name in found if (ROOT / name).is_file())


@pytest.mark.parametrize("flow", _flows())
def test_each_stop_is_reached_from_one_before_it(flow: str) -> None:
    stops = _flows()[flow]
    assert 5 <= len(stops) <= 8
    named = [file for stop in stops for file in stop]
    assert len(named) == len(set(named)), "no file is a stop twice"
    for number, stop in enumerate(stops[1:], start=1):
        before = [file for earlier in stops[:number] for file in earlier]
        assert any(stop[0] in _imports(file) for file in before), f"{stop[0]}: none of {before} imports it"
        assert all(file in _imports(stop[0]) for file in stop[1:]), f"{stop}: the first does not import the others"


@pytest.mark.parametrize("flow", _flows())
def test_a_reader_goes_back_at_most_twice(flow: str) -> None:
    stops = _flows()[flow]
    back = [stop[0] for before, stop in pairwise(stops) if not any(_follows(stop[0], file) for file in before)]
    assert len(back) <= MOST_RETURNS, f"to get to {back} one has to go back to a file left before"


def _follows(stop: str, before: str) -> bool:
    """Whether the file before leads to this one: it imports it, or this one is built on it."""
    return stop in _imports(before) or before in _imports(stop)


def _entered(work: Callable[[], object]) -> list[str]:
    """Our files in the order in which `work` first calls something in them."""
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, _argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and frame.f_code.co_name != "<module>" and path.is_relative_to(ROOT):
            found.setdefault(path.relative_to(ROOT).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return list(found)


def _ask(loaded: LoadedModel, store: TraceStore, folder: Path) -> None:
    run_trace(loaded, "hello", sampling=Sampling(max_new_tokens=3), store=store)


def _attribute(loaded: LoadedModel, store: TraceStore, folder: Path) -> None:
    record, _ = run_trace(loaded, "hello", sampling=Sampling(max_new_tokens=3))
    storable(attribute(loaded, record.token_ids, TargetSpec(len(record.prompt_ids))))


def _compare(loaded: LoadedModel, store: TraceStore, folder: Path) -> None:
    steer = Steer((NeuronSide(1, 3),), "set", 1.0, values=(9.0,))
    pair = run_pair(loaded, "hello", [steer], sampling=Sampling(max_new_tokens=3), store=store)
    compare_traces(store, pair.baseline.id, pair.steered.id)


def _repair(loaded: LoadedModel, store: TraceStore, folder: Path) -> None:
    repair(loaded, wish(loaded), budget=300, compare=False, resume=False, keep=False)


def _build(loaded: LoadedModel, store: TraceStore, folder: Path) -> None:
    (folder / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 40)
    settings = BuildSettings((str(folder / "text.txt"),), probe=False, collect=SETTINGS)
    build_atlas(loaded, settings, folder=folder / "collection", target=folder / "atlas")


@pytest.mark.slow
@pytest.mark.parametrize(("flow", "work"), [*zip(_flows(), (_ask, _attribute, _compare, _repair, _build), strict=True)])
def test_the_engine_enters_its_files_in_this_order(
    flow: str, work: Callable[[LoadedModel, TraceStore, Path], None], tiny: LoadedModel, store: TraceStore, home: Path, tmp_path: Path
) -> None:
    engine = [stop[0] for stop in _flows()[flow] if not stop[0].startswith("pages/") and stop[0] != "neurons/repair/job.py"]
    entered = _entered(lambda: work(tiny, store, tmp_path))
    assert set(engine) <= set(entered)
    assert [file for file in entered if file in engine] == engine


def test_there_are_five() -> None:
    assert len(_flows()) == 5
