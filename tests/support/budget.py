"""A pytest plugin of `make torture`: the tests of a part share its time. Each may take what is left, divided by the tests that are left."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.tally import UNTIL_VARIABLE

SECONDS_VARIABLE = "NEURONSCOPE_PART_SECONDS"
_END = time.time() + float(os.environ.get(SECONDS_VARIABLE, "inf"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    left = len(item.session.items) - item.session.items.index(item)
    now = time.time()
    os.environ[UNTIL_VARIABLE] = str(now + (_END - now) / left)
