"""Write requirements.lock: every package that Neuronscope and its tests need, pinned as in constraints.txt, with the hashes of its files.

`make lock` calls it with the path of uv. torch and what its CUDA build brings are left out: the build for processors has the same version
and another hash, and which of the two it is decides where it comes from.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
TORCHS_OWN = re.compile(r"^(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
HEADER = """\
# Every package that Neuronscope and its tests need, with the hashes of its files. `make lock` writes it, from constraints.txt.
# torch is not here: its build for processors and its builds for CUDA have one version and several hashes. See docs/install.md.
"""


def blocks(text: str) -> list[str]:
    """The requirements of a hashed file, each with its hashes."""
    found: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith((" ", "#", "-")):
            found.append(line)
        elif line.startswith(" ") and found:
            found[-1] += f"\n{line}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uv", type=Path, help="the uv program")
    uv = parser.parse_args().uv
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "lock")
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        command = [str(uv), "pip", "compile", "pyproject.toml", "--extra", "dev", "-c", "constraints.txt", *options, "-o", str(out)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            sys.exit("error: the packages could not be looked up; requirements.lock is as it was")
        kept = [block for block in blocks(out.read_text(encoding="utf-8")) if not TORCHS_OWN.match(block)]
    LOCK.write_text(HEADER + "\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(kept)} packages in {LOCK.name}")


if __name__ == "__main__":
    main()
