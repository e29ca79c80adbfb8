"""Rebuild the shipped atlas: texts, chat, collection, figures, descriptions (`make atlas`). Goes on where it was stopped.

    python scripts/ship_atlas.py FOLDER [--shard I/N] [--only-figures] [--tokens N] [--conversations N]

FOLDER keeps everything on the way (about 16 GB). With --shard only that part of the collection is done; without it, what is missing
is done, the neurons are described and scored, and the atlas in neurons/atlas/shipped is replaced. --only-figures takes the shards as
they are, finished or not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from build_corpus import build

from neurons.atlas.build import finish
from neurons.atlas.collect import collect, prepare
from neurons.atlas.corpus import Corpus
from neurons.atlas.finalise import FinaliseSettings
from neurons.atlas.store import SHIPPED
from neurons.cli.common import stderr_progress
from neurons.concepts.embed import embedder
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.models.load import load_model

LIMIT = 34_000_000
FIGURES = FinaliseSettings(tokens=5, previous=4, projected=5, probed=3, all_extremes=False)
WORDS = DescribeSettings(components=64, steps=31)
"""What is left out to stay below the limit: every neuron and polarity is covered, with shorter lists than an atlas of one's own has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/atlas"))
    parser.add_argument("--shard", default="")
    parser.add_argument("--only-figures", action="store_true")
    parser.add_argument("--tokens", type=int, default=1_750_000)
    parser.add_argument("--conversations", type=int, default=1100)
    parser.add_argument("--device", help="cuda collects thirty times as fast; figures agree to rounding")
    options = parser.parse_args()
    loaded = load_model("default", device=options.device, dtype="float32")
    collection = options.folder / "real"
    with stderr_progress() as progress:
        if not options.only_figures:
            stored = options.folder / "corpus.zarr.zip"
            if not stored.exists():
                build(loaded, options.folder, tokens=options.tokens, conversations=options.conversations, progress=progress)
            if not (collection / "plan.json").exists():
                prepare(loaded, Corpus.load(stored), collection)
            number, _, count = (options.shard or "0/1").partition("/")
            collect(loaded, collection, shard=int(number), shards=int(count), progress=progress)
        if not options.shard:
            whole = options.folder / "atlas"
            atlas = finish(loaded, collection, target=whole, settings=FIGURES, progress=progress)
            described = describe_atlas(
                loaded,
                atlas,
                settings=WORDS,
                encode=lambda texts: embedder().encode(texts, progress=progress),
                work=options.folder / "describing",
                keep_work=True,
                progress=progress,
            )
            size = sum(path.stat().st_size for path in whole.iterdir())
            sys.stdout.write(f"{described.tokens:,} tokens, {size / 1e6:.1f} MB in {whole}\n")
            if size > LIMIT:
                raise SystemExit(f"the shipped atlas may have {LIMIT / 1e6:.0f} MB, not {size / 1e6:.1f}")
            shutil.rmtree(SHIPPED, ignore_errors=True)
            shutil.copytree(whole, SHIPPED)


if __name__ == "__main__":
    main()
