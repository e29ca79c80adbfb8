"""The store against a plain dictionary: any sequence of changes, reopenings and refused disk calls, and both say the same."""

from __future__ import annotations

import errno
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from neurons.core.errors import NeuronscopeError
from tests.support.changes import attribution
from tests.support.faults import failing_at, watched
from tests.support.tally import out_of_time, size, tally
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore

RUNS = size(12, 1000)
STEPS = 12


class Wanted:
    """What the store should hold of one trace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tags: tuple[str, ...] = ()
        self.trashed = False
        self.stored = True
        self.value: float | None = None


class StoreMachine(RuleBasedStateMachine):
    """The dictionary is the truth."""

    traces = Bundle("traces")
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        if out_of_time():
            pytest.skip("its share of the time is used")
        StoreMachine.runs += 1
        self.folder = Path(tempfile.mkdtemp(prefix="neuronscope-machine-"))
        self.store = TraceStore(self.folder / "traces", examples=None)
        self.wanted: dict[str, Wanted] = {}
        self.count = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(target=traces, name=st.text(alphabet="abc é", max_size=6))
    def save(self, name: str) -> str:
        self.count += 1
        record = make_record(name=name.strip(), id=f"trace-{self.count:03}")
        self.store.save(record, make_arrays(record))
        self.wanted[record.id] = Wanted(name.strip())
        return record.id

    @rule(trace=traces, name=st.text(alphabet="xyz", max_size=4), tags=st.lists(st.sampled_from(["a", "b"]), unique=True))
    def update(self, trace: str, name: str, tags: list[str]) -> None:
        if self.alive(trace):
            self.store.update(trace, name=name, tags=tuple(tags))
            self.wanted[trace].name, self.wanted[trace].tags = name, tuple(sorted(tags))

    @rule(trace=traces)
    def delete(self, trace: str) -> None:
        if self.alive(trace):
            self.store.delete(trace)
            self.wanted[trace].trashed = True

    @rule(trace=traces)
    def restore(self, trace: str) -> None:
        if trace in self.wanted and self.wanted[trace].trashed:
            self.store.restore(trace)
            self.wanted[trace].trashed = False

    @rule(trace=consumes(traces))
    def purge(self, trace: str) -> None:
        if trace in self.wanted and self.wanted[trace].trashed:
            self.store.purge(trace)
            del self.wanted[trace]

    @rule(target=traces, trace=consumes(traces))
    def evict(self, trace: str) -> object:
        if self.alive(trace) and self.wanted[trace].stored:
            self.store.evict(trace)
            self.wanted[trace].stored = False
        return multiple(trace) if trace in self.wanted else multiple()

    @rule(trace=traces)
    def put_back(self, trace: str) -> None:
        if self.alive(trace) and not self.wanted[trace].stored:
            self.store.put_activations(trace, make_arrays(make_record())["activations"])
            self.wanted[trace].stored = True

    @rule(trace=traces, value=st.sampled_from([0.25, 0.5, 0.75]))
    def attribute(self, trace: str, value: float) -> None:
        if self.alive(trace):
            self.store.save_attribution(trace, attribution(value))
            self.wanted[trace].value = value

    @rule(trace=traces, step=st.integers(1, 12), number=st.sampled_from([errno.ENOSPC, errno.EIO, errno.EACCES]))
    def refused(self, trace: str, step: int, number: int) -> None:
        """A change that the disk refuses somewhere: done or not done."""
        if not self.alive(trace):
            return
        try:
            with watched(failing_at(step, number)):
                self.store.update(trace, name="refused")
        except NeuronscopeError:
            pass
        except OSError as error:
            raise AssertionError("the disk's error came through as it was") from error
        found = TraceStore(self.store.root, examples=None).load(trace).name
        assert found in ("refused", self.wanted[trace].name)
        self.wanted[trace].name = found

    @rule()
    def crash(self) -> None:
        """The program is gone and another one opens the store."""
        self.store = TraceStore(self.store.root, examples=None)

    def alive(self, trace: str) -> bool:
        return trace in self.wanted and not self.wanted[trace].trashed

    @invariant()
    def says_the_same(self) -> None:
        here = {row.id: row for row in self.store.list()}
        gone = {row.id for row in self.store.list(trashed=True)}
        assert set(here) == {name for name, one in self.wanted.items() if not one.trashed}
        assert gone == {name for name, one in self.wanted.items() if one.trashed}
        for name, row in here.items():
            wanted = self.wanted[name]
            record = self.store.load(name)
            assert (record.name, tuple(sorted(record.tags))) == (wanted.name, wanted.tags) == (row.name, tuple(sorted(row.tags)))
            assert self.store.activation_state(name) == ("stored" if wanted.stored else "evicted")
            values = [float(self.store.attribution(name, info.key).attribution_N[0]) for info in self.store.attributions(name)]
            assert values == ([] if wanted.value is None else [wanted.value])
            if wanted.stored:
                expected = make_arrays(replace(make_record(), id=name))["activations"]
                assert np.array_equal(self.store.read(name, "activations"), expected)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=RUNS, stateful_step_count=STEPS, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
TestStore.pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.mark.slow
def test_the_runs_are_counted() -> None:
    tally("state machine: store against a dictionary", StoreMachine.runs)
    assert StoreMachine.runs
