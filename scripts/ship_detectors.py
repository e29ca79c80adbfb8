"""Rebuild the shipped detectors of the default model from the lexicon (`make detectors`). Goes on where it was stopped.

    python scripts/ship_detectors.py [FOLDER]

FOLDER keeps the sentences' activations on the way (about 2.3 GB); then the detectors in neurons/detectors/shipped are replaced.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from neurons.cli.atlas_concepts import human
from neurons.cli.common import stderr_progress
from neurons.detectors.build import build_detectors
from neurons.detectors.lexicon import SHIPPED as SHIPPED_LEXICON
from neurons.detectors.lexicon import load_lexicon
from neurons.detectors.store import SHIPPED
from neurons.models.load import load_model

LIMIT = 2_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/detectors"))
    folder = parser.parse_args().folder
    loaded = load_model("default")
    with stderr_progress() as progress:
        made = build_detectors(
            loaded, load_lexicon([SHIPPED_LEXICON]), folder=folder / "made", work=folder / "work", keep_work=True, progress=progress
        )
    size = sum(path.stat().st_size for path in (folder / "made").iterdir())
    sys.stdout.write(f"{human(made)}\n{size / 1e6:.2f} MB\n")
    if size > LIMIT:
        raise SystemExit(f"the shipped detectors may have {LIMIT / 1e6:.0f} MB, not {size / 1e6:.2f}")
    shutil.rmtree(SHIPPED, ignore_errors=True)
    shutil.copytree(folder / "made", SHIPPED)


if __name__ == "__main__":
    main()
