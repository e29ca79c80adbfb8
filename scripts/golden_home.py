"""Write a small home with the code that is on the path, by its own commands, and pack it: a fixture for tests/formats.

    cd CHECKOUT_OF_A_VERSION && PYTHONPATH=. python .../scripts/golden_home.py NAME MODEL OUT.tar.xz

MODEL is the folder of a tiny model (tests/support/tiny_models.py). Commands that the version does not have yet are left out, and named.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from neurons.core.json_text import json_text

STEER = {"name": "loud", "neurons": ["1:2", "0:7-"], "mode": "set", "strength": 0.5, "values": [1.0, -2.0], "tokens": "all"}


def main(name: str, model: str, out: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place, "home")
        os.environ["NEURONSCOPE_HOME"] = str(home)
        from typer.testing import CliRunner

        from neurons.cli.main import app

        left_out = []

        def run(*arguments: str) -> str:
            result = CliRunner().invoke(app, list(arguments))
            if result.exit_code:
                left_out.append(" ".join(arguments[:2]))
                print(f"  left out: {arguments[:2]}: {result.output[-200:]} {result.exception!r}", file=sys.stderr)
            return result.output

        steer = Path(place, "steer.json")
        steer.write_text(json_text(STEER))
        prompts = Path(place, "prompts.txt")
        prompts.write_text("one\ntwo\n")
        short = ["--model", model, "--max-new-tokens", "3"]
        run("trace", "Hello there", *short, "--name", "greeting", "--tag", "kept")
        kept = json.loads(run("traces", "list", "--json"))["traces"][0]["id"]
        run("trace", "Hello again", *short, "--steer", str(steer))
        run("attribute", kept, "--token", "30", "--model", model)
        run("traces", "note", kept, "a note")
        run("traces", "pin", kept)
        run("trace", "to be evicted", *short, "--name", "evicted")
        run("traces", "evict", json.loads(run("traces", "list", "evicted", "--json"))["traces"][0]["id"])
        run("trace", "to be deleted", *short, "--name", "gone")
        run("traces", "delete", json.loads(run("traces", "list", "gone", "--json"))["traces"][0]["id"])
        run("concept", "save", "mine", "--neurons", "1:2,0:7-", "--model", model)
        run("prompts", "save", str(prompts), "two")
        run("prompts", "run", str(prompts), *short, "--name", "pair")
        facts = {"version": name, "kept": kept, "left_out": left_out, "commands": "scripts/golden_home.py"}
        Path(home, "golden.json").write_text(json_text(facts, indent=1))
        pack(home, Path(out))
    print(f"{out}: {Path(out).stat().st_size:,} bytes, left out: {left_out}")


def pack(home: Path, out: Path) -> None:
    with tarfile.open(out, "w:xz", preset=9) as archive:
        for path in sorted(home.rglob("*")):
            inside = path.relative_to(home)
            if path.is_file() and inside.parts[0] != "models" and path.suffix != ".lock":
                entry = tarfile.TarInfo(inside.as_posix())
                entry.size, entry.mode = path.stat().st_size, 0o600
                with path.open("rb") as stream:
                    archive.addfile(entry, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
