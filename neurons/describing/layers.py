"""Tables of single layers kept on disk while a long piece of work goes on: a stopped one does not begin again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from neurons.storage.files import atomic_path, disk_errors, write_json


def layer_table(work: Path, name: str, layer: int, key: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of `layer` under `name` in `work`: as it was kept under the same `key`, else made and kept. Raises `StoreError`."""
    path, stamp = work / f"{name}-{layer:03d}.parquet", work / f"{name}-{layer:03d}.json"
    if path.exists() and stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == key:
        return pd.read_parquet(path)
    table = make()
    with disk_errors(path), atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(stamp, key)
    return table
