"""Whether the packages that this program consists of are its own: `neurons`, `traces` and `pages` are plain names, and others use them.

Looked at before anything of them is imported, so it needs nothing but the standard library and takes some milliseconds.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

NAMES = ("neurons", "traces", "pages")
OURS = "neuronscope"
_CURE = "install Neuronscope in an environment of its own, with pipx or uv tool for example"


def stolen(root: Path) -> str | None:
    """What keeps the program from running where its packages lie in `root`: somebody else's stands in for one of them. None if nothing."""
    for name in ("neurons", "traces"):  # the server alone imports `pages`, and never from the folder one stands in
        found = _found(name)
        if found is None or found.parent.resolve() != root.resolve():
            where = f"{found} is found before it" if found is not None else "it is not found there"
            return f"Neuronscope's package `{name}` belongs in {root}, but {where}; {_CURE}"
    replaced = sorted({name.partition("/")[0] for name, size in _recorded(root) if not _has_size(root / name, size)})
    if replaced and (by := owners(root)):
        return f"files of Neuronscope's package `{replaced[0]}` were replaced by {_and(by)}; {_CURE}, and both packages here again"
    return None


def shared(root: Path) -> str | None:
    """A warning where another package installed in `root` has one of the names: Neuronscope runs, but that package may not."""
    by = owners(root)
    if not by:
        return None
    names = sorted({name for names in by.values() for name in names})
    what = " and ".join(f"`{name}`" for name in names)
    return f"{_and(by)} {'has' if len(by) == 1 else 'have'} the package name {what} too and may be broken by Neuronscope; {_CURE}"


def owners(root: Path) -> dict[str, list[str]]:
    """The other distributions in `root` that have files under our names, such as "traces 1.2", and under which."""
    found = {}
    for record in root.glob("*.dist-info/RECORD"):
        distribution = record.parent.name.removesuffix(".dist-info").replace("-", " ", 1)
        if distribution.partition(" ")[0].lower() == OURS:
            continue
        try:
            text = b"\n" + record.read_bytes()
        except OSError:
            continue
        names = [name for name in NAMES if f"\n{name}/".encode() in text or f"\n{name}.py,".encode() in text]
        if names:
            found[distribution] = names
    return found


def _found(name: str) -> Path | None:
    """The folder, or the file, that an import of `name` would take."""
    spec = find_spec(name)
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0]) if folders else Path(spec.origin) if spec.origin else None


def _recorded(root: Path) -> list[tuple[str, int]]:
    """Our modules as they were installed in `root`, and their sizes; [] where they were not installed from a wheel."""
    records = list(root.glob(f"{OURS}-*.dist-info/RECORD"))
    lines = records[0].read_text(encoding="utf-8").splitlines() if len(records) == 1 else []
    rows = [line.rsplit(",", 2) for line in lines if line.partition("/")[0] in NAMES]
    return [(name, int(size)) for name, _, size in rows if name.endswith(".py") and size.isdecimal()]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _and(found: dict[str, list[str]]) -> str:
    return " and ".join(f"the package {name}" for name in sorted(found))


def check() -> None:
    """Say what is wrong in one line, and end the program where it cannot run."""
    root = Path(__file__).resolve().parents[2]
    problem = stolen(root)
    warning = None if problem else shared(root)
    if problem is None and warning is None:
        return
    from neurons.cli.common import FAILED, report_error
    from neurons.core.errors import NeuronscopeError

    if problem is not None:
        report_error(NeuronscopeError(problem), as_json="--json" in sys.argv)
        raise SystemExit(FAILED)
    print(f"note: {warning}", file=sys.stderr)  # noqa: T201
