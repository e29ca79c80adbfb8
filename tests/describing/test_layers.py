"""Tables of layers are taken from disk where they were made under the same key, and made again otherwise."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from neurons.describing.layers import layer_table


def test_a_layer_is_made_once_for_each_key(tmp_path: Path) -> None:
    made: list[str] = []

    def ask(key: str) -> pd.DataFrame:
        def make() -> pd.DataFrame:
            made.append(key)
            return pd.DataFrame({"index": [1, 2], "said": [key, key]})

        return layer_table(tmp_path, "layer", 3, key, make)

    assert ask("one").equals(ask("one"))
    assert made == ["one"]
    assert ask("two")["said"].tolist() == ["two", "two"]
    assert made == ["one", "two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer-003.json", "layer-003.parquet"]
