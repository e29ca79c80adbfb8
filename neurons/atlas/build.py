"""From nothing to an atlas in one call: corpus, collection, merge, figures. Each step goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurons.atlas.collect import TABLE_BYTES, collect, prepare
from neurons.atlas.collection import Collection, merge
from neurons.atlas.corpus import Corpus
from neurons.atlas.finalise import FinaliseSettings, finalise
from neurons.atlas.own_corpus import SHIPPED_TEXTS, build_own_corpus
from neurons.atlas.plan import CollectSettings
from neurons.atlas.readers import Skipped
from neurons.atlas.store import Atlas, atlas_folder, open_folder
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.core.types import ModelRef
from neurons.models.loaded import LoadedModel


@dataclass(frozen=True)
class BuildSettings:
    """What `build_atlas` makes."""

    corpus: tuple[str, ...] = (SHIPPED_TEXTS,)
    """Files, folders, data set ids, or "default" for the shipped texts."""
    column: str | None = None
    licence: str = "not stated"
    tokens: int | None = None
    """At most this many counted tokens; None takes all."""
    conversations: int = 0
    """Conversations that the model writes for the chat part."""
    held_out: float = 0.1
    probe: bool = True
    memory_bytes: int = TABLE_BYTES
    """For the token tables."""
    collect: CollectSettings = field(default_factory=CollectSettings)


def collection_folder(ref: ModelRef) -> Path:
    """Where a model's collection is kept while it is built: checkpoints, full tables. Not needed once the atlas stands."""
    return subfolder("collections") / ref.weights_hash[:32]


def prepare_collection(
    loaded: LoadedModel, settings: BuildSettings, *, folder: Path | None = None, progress: Progress = no_progress
) -> tuple[Path, tuple[Skipped, ...]]:
    """Build the corpus and the plan, or find them there already. Returns the collection's folder and what was skipped of the corpus."""
    folder = folder or collection_folder(loaded.ref)
    if (folder / "plan.json").exists():
        return folder, ()
    stored = folder / "corpus.zarr.zip"
    skipped: tuple[Skipped, ...] = ()
    if stored.exists():
        corpus = Corpus.load(stored)
    else:
        built = build_own_corpus(
            loaded,
            settings.corpus,
            column=settings.column,
            licence=settings.licence,
            tokens=settings.tokens,
            conversations=settings.conversations,
            chat_file=folder / "chat.jsonl",
            held_out=settings.held_out,
            progress=progress,
        )
        corpus, skipped = built.corpus, built.skipped
        corpus.save(stored)
    prepare(loaded, corpus, folder, settings=settings.collect, table_bytes=settings.memory_bytes)
    return folder, skipped


def build_atlas(
    loaded: LoadedModel,
    settings: BuildSettings | None = None,
    *,
    folder: Path | None = None,
    target: Path | None = None,
    progress: Progress = no_progress,
) -> tuple[Atlas, tuple[Skipped, ...]]:
    """Corpus, collection, figures. `folder` holds the collection, `target` the atlas; both default to the model's own places.

    Started again after a stop or a kill it goes on. Raises `InvalidInput`, `InvalidFile`, `StoreError`, `Cancelled`.
    """
    settings = settings or BuildSettings()
    folder, skipped = prepare_collection(loaded, settings, folder=folder, progress=progress)
    collect(loaded, folder, progress=progress)
    return finish(loaded, folder, target=target, settings=FinaliseSettings(probe=settings.probe), progress=progress), skipped


def finish(
    loaded: LoadedModel,
    folder: Path,
    *,
    target: Path | None = None,
    settings: FinaliseSettings | None = None,
    shards: Sequence[str] | None = None,
    progress: Progress = no_progress,
) -> Atlas:
    """Merge the shards in `folder` and write the atlas. An unfinished collection gives an atlas that says so."""
    merge(folder, shards=shards, progress=progress)
    target = target or atlas_folder(loaded.ref)
    finalise(loaded, Collection(folder), target, settings=settings, progress=progress)
    return open_folder(target)
