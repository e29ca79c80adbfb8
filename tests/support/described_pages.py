"""Page tests whose tiny model has a described atlas: real figures of that model, made once per test run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neurons.atlas.collect import collect, prepare
from neurons.atlas.collection import Collection, merge
from neurons.atlas.finalise import FinaliseSettings, finalise
from neurons.atlas.store import Atlas, atlas_folder, open_folder
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.models.load import load_model
from tests.support.app_pages import loaded
from tests.support.atlases import SETTINGS
from tests.support.descriptions import DESCRIBE, english_corpus, letter_pairs


@pytest.fixture(scope="session")
def plain_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collected atlas of the model in `tiny_folder`, without descriptions."""
    folder, model = tmp_path_factory.mktemp("plain-atlas"), load_model(str(tiny_folder))
    prepare(model, english_corpus(model), folder / "work", settings=replace(SETTINGS, exemplars=24, extremes=128))
    collect(model, folder / "work")
    merge(folder / "work")
    return finalise(model, Collection(folder / "work"), folder / "atlas", settings=FinaliseSettings(probe=False))


@pytest.fixture(scope="session")
def described_folder(tiny_folder: Path, plain_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, described."""
    folder, model = tmp_path_factory.mktemp("described-atlas"), load_model(str(tiny_folder))
    shutil.copytree(plain_folder, folder / "atlas")
    atlas = open_folder(folder / "atlas")
    return describe_atlas(model, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=folder / "work").folder


@pytest.fixture
def described(app_home: Path, described_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The described atlas is in this test's home; queries are embedded as it was."""
    monkeypatch.setattr("neurons.concepts.search.embed_query", lambda text: letter_pairs([text])[0])
    shutil.copytree(described_folder, atlas_folder(loaded().ref))


def installed() -> Atlas:
    """The atlas in this test's home."""
    return open_folder(atlas_folder(loaded().ref))
