"""Write docs/cli.md from the commands' own help; with --check, only say whether it is up to date (exit status 1 when not)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"
sys.path.insert(0, str(ROOT))
os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "120"

HEAD = """# Command line

Written by `make docs` from the commands' own help; do not edit by hand.

Every command that gives a result takes `--json`. Results go to stdout, progress and errors to stderr, so that
`neuronscope trace "..." --json | jq .answer` works. Exit status: 0 done; 1 failed, or the answer is no (a replay that differs,
a damaged trace); 2 bad usage or input. With `--json` an error is `{"error": message, "field": name or null}` on stderr.

`MODEL` is `default`, a Hugging Face id, a model folder or a `.gguf` file.
"""


def commands() -> list[tuple[str, Any]]:
    """(full name, click context) of every command and group, groups before their commands."""
    import typer

    from neurons.cli.main import build

    root = typer.main.get_command(build())
    found: list[tuple[str, Any]] = []

    def visit(name: str, command: Any, parent: Any) -> None:
        context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=100, max_content_width=100)
        found.append((context.command_path, context))
        for child_name, child in getattr(command, "commands", {}).items():
            if not child.hidden:
                visit(child_name, child, context)

    visit("neuronscope", root, None)
    return found


def page() -> str:
    """The text of docs/cli.md."""
    parts = [HEAD]
    for name, context in commands():
        help_text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
        parts.append(f"{'##' if name.count(' ') < 2 else '###'} {name}\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/cli.md is out of date: run `make docs`", file=sys.stderr)
            return 1
        return 0
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
