"""A repair as an experiment keeps it, read back: what `result_to_json` wrote, checked, as typed values for pages and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from neurons.core.boundary import checked
from neurons.core.steers import Steer
from neurons.repair.batch import Tokens
from neurons.repair.spec import RepairSpec, parse_spec
from neurons.runs.steering import parse_steers


class _Saved(BaseModel):
    """What another version says more is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Fixed(_Saved):
    """Questions that a steer fixes."""

    fixed: int
    total: int
    interval: tuple[float, float]
    """95%, Wilson."""

    @property
    def words(self) -> str:
        return f"{self.fixed} of {self.total}"


class Near(_Saved):
    """The controls that ask the same of something else."""

    unchanged: int
    total: int


class Unchanged(_Saved):
    """Controls that a steer leaves alone."""

    unchanged: int
    total: int
    kl: float
    """Nats per token."""
    near: Near | None = None
    """Part of them; None in repairs of older versions."""

    @property
    def words(self) -> str:
        return f"{self.unchanged} of {self.total}"


class SavedBaseline(_Saved):
    """Another way to the same end, measured on the same questions."""

    about: str
    neurons: int
    train: Fixed
    heldout: Fixed
    controls: Unchanged


class SavedRandom(_Saved):
    """The draws of random neurons together."""

    draws: int = 0
    heldout: Fixed | None = None
    controls: Unchanged | None = None


class SavedPoint(_Saved):
    """One steer of the trade-off."""

    neurons: int
    turned: int
    questions: int
    unchanged: int
    controls: int
    chosen: bool = False
    steers: Annotated[tuple[Steer, ...], BeforeValidator(parse_steers)]


class SavedAnswer(_Saved):
    """One prompt with and without the steer."""

    prompt: str
    unsteered: str
    steered: str
    good: bool
    """A question: fixed. A control: unchanged."""
    why: str = ""
    """Why a question's answer does not count as fixed."""


class Asked(_Saved):
    """What was asked, as it was written: `SavedRepair.to_spec` checks it."""

    prompt: str
    wanted: Any
    unwanted: Any = None
    tokens: Tokens = "question"


class SavedRepair(_Saved):
    """Everything that is kept of one repair."""

    found: bool
    holds: bool
    message: str
    steer: Mapping[str, Any]
    """The steer file's object: `steers` reads it."""
    neurons: int
    unsteered: str
    train: Fixed | None
    heldout: Fixed | None
    controls: Unchanged | None
    """None, like the two before, where no steer was checked."""
    random: SavedRandom
    baselines: Mapping[str, SavedBaseline]
    pareto: tuple[SavedPoint, ...] = ()
    answers: tuple[SavedAnswer, ...]
    forward_passes: int
    seconds: float
    spec: Asked
    written_spec: Mapping[str, Any]

    @property
    def steers(self) -> tuple[Steer, ...]:
        """The search's own choice."""
        return parse_steers(dict(self.steer))

    @property
    def model(self) -> Mapping[str, Any]:
        """Name, weights hash and shape of the model it was found in."""
        return dict(self.steer.get("model", {}))

    def to_spec(self) -> RepairSpec:
        """The repair that was asked for. Raises `InvalidInput`."""
        return parse_spec(dict(self.written_spec))

    def part(self, number: int) -> str:
        """Of which part the answer of this number is."""
        train = 0 if self.train is None else self.train.total
        held = 0 if self.heldout is None else self.heldout.total
        return "searched with" if number < train else "held out" if number < train + held else "control"


def read_repair(data: Mapping[str, Any]) -> SavedRepair:
    """The content of a repair experiment. Raises `InvalidInput` that names what is missing or wrong in it."""
    return checked(SavedRepair, {**data, "written_spec": data.get("spec", {})}, what="this repair", cure="run the repair again")
