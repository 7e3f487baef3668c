"""The store that most sentence tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..toys import Made, make_store
from .reader import SHARDS


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_store(tmp_path / "store", SHARDS)
