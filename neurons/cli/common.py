"""What every command shares: options, results on stdout, progress on stderr, errors as one line and an exit status.

0: done. 1: failed, or the answer is no (a replay that differs, a damaged trace). 2: bad usage or input.
"""

from __future__ import annotations

import dataclasses
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from neurons.cli.streams import is_unicode
from neurons.core.errors import Cancelled, InvalidInput, NeuronscopeError, StoreError
from neurons.core.json_text import json_text
from neurons.core.progress import Progress
from neurons.storage.error_reports import unforeseen

if TYPE_CHECKING:
    from tqdm import tqdm

    from neurons.models.loaded import LoadedModel

FAILED, BAD_INPUT = 1, 2
_SENTENCE = 500  # characters; more than any first sentence of a command has

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Model = Annotated[str, typer.Option("--model", "-m", help='"default", a Hugging Face id, a model or adapter folder, or a .gguf file.')]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps. [default: a GPU where there is one]", show_default=False)]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16. [default: bfloat16 on CUDA, else float32]", show_default=False)
]
Seed = Annotated[int, typer.Option(help="Seed of the sampling.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopP = Annotated[float, typer.Option("--top-p", help="Keep the likeliest tokens that make up this probability.")]
TopK = Annotated[int, typer.Option("--top-k", help="Keep this many of the likeliest tokens; 0 keeps all.")]
MaxNewTokens = Annotated[int, typer.Option(help="Most tokens to generate.")]
System = Annotated[str | None, typer.Option(help="System prompt. [default: the model's own]", show_default=False)]


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where a model runs."""

    device: Device = None
    dtype: Dtype = None


@dataclasses.dataclass(frozen=True)
class Loading:
    """Which model is loaded, and where it runs."""

    model: Model = "default"
    device: Device = None
    dtype: Dtype = None

    def load(self, *, quiet: bool) -> LoadedModel:
        """The model, with progress on stderr. Raises what `load_model` raises."""
        return load(self.model, device=self.device, dtype=self.dtype, quiet=quiet)


@dataclasses.dataclass(frozen=True)
class Asked:
    """Which model is asked, and what it is told before the prompt."""

    model: Model = "default"
    system: System = None


class Group(TyperGroup):
    """A group of commands whose help gives each one's first sentence whole, wrapped instead of cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, command.get_short_help_str(_SENTENCE)) for name, command in commands if command is not None and not command.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


class ErrorGroup(Group):
    """The root group: turns every error into one line on stderr and an exit status; what nobody foresaw is kept as a report."""

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except NeuronscopeError as error:
            report_error(error, as_json=as_json)
            raise typer.Exit(exit_status(error)) from None
        except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  # the last resort: a person is told in one sentence, whatever it is
            told = _disk_refused(error) or NeuronscopeError(unforeseen(error, f"`neuronscope {ctx.invoked_subcommand or ''}`"))
            report_error(told, as_json=as_json)
            raise typer.Exit(FAILED) from None


def _disk_refused(error: Exception) -> StoreError | None:
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    return StoreError(f"{error.filename or 'the disk'}: {error.strerror}; check its permissions and free space")


def exit_status(error: NeuronscopeError) -> int:
    """2 for bad input, 1 for everything else."""
    return BAD_INPUT if isinstance(error, InvalidInput) else FAILED


def report_error(error: NeuronscopeError, *, as_json: bool) -> None:
    """Print an error on stderr: `error: message`, or `{"error": message, "field": name or null}`."""
    message = "stopped" if isinstance(error, Cancelled) and not str(error) else str(error)
    if as_json:
        line = json_text({"error": message, "field": getattr(error, "field", None)}, ascii_only=not is_unicode(sys.stderr))
    else:
        line = f"error: {printable(message).replace(chr(10), ' ')}"
    typer.echo(line, err=True)


def emit(result: Any, as_json: bool, human: str | Callable[[], str] | None = None) -> None:
    """Print a command's result on stdout: JSON, or `human` (a text or what makes it; default: indented JSON as well)."""
    if as_json or human is None:
        typer.echo(json_text(result, indent=2, ascii_only=not is_unicode(sys.stdout)))
        return
    typer.echo(printable(human if isinstance(human, str) else human()))


def printable(text: str) -> str:
    """`text` without control characters (newline and tab aside): model text must not drive the terminal."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned text; numbers to the right, floats with four significant digits."""
    if not rows:
        return "(none)"
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(columns)]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        return "  ".join(v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)).rstrip()

    return "\n".join([line(list(columns)), line(["-" * width for width in widths]), *(line(row) for row in cells)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value)).replace("\n", "\\n").replace("\t", " ")


def size(count: float) -> str:
    """Bytes for a reader: 538 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB", "MB") or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@contextmanager
def stderr_progress(*, quiet: bool = False) -> Iterator[Progress]:
    """A `Progress` that draws on stderr: a bar on a terminal, a line for each new message elsewhere."""
    shown = _Shown(draws=sys.stderr.isatty(), quiet=quiet)
    try:
        yield shown
    finally:
        shown.close()


class _Shown:
    """One bar at a time; a new message begins a new one."""

    def __init__(self, *, draws: bool, quiet: bool) -> None:
        self.draws, self.quiet = draws, quiet
        self.message = ""
        self.bar: tqdm[Any] | None = None

    def __call__(self, done: int, total: int | None, message: str) -> None:
        if self.quiet:
            return
        if not self.draws:
            if message != self.message:
                typer.echo(printable(message), err=True)
            self.message = message
            return
        from tqdm import tqdm

        if self.bar is None or self.bar.total != total:
            self.close()
            scaled = (total or 0) >= 10_000_000
            self.bar = tqdm(total=total, file=sys.stderr, leave=False, unit="B" if scaled else "", unit_scale=scaled, dynamic_ncols=True)
        if message != self.message:
            self.bar.set_description_str(printable(message), refresh=False)
            self.message = message
        self.bar.update(done - self.bar.n)
        self.bar.refresh()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def load(model: str, *, device: str | None = None, dtype: str | None = None, quiet: bool = False) -> LoadedModel:
    """Load a model with progress on stderr. Raises what `load_model` raises."""
    from neurons.checking.load import load_model

    with stderr_progress(quiet=quiet) as progress:
        return load_model(model, device=device, dtype=dtype, progress=progress)
