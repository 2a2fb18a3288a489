"""Every behaviour test of the store runs against each implementation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tiphys.store.memory import MemoryStore
from tiphys.store.sqlite import SqliteStore
from tiphys.store.types import Store

OpenStore = Callable[..., Store]


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens a new store; `buffer` bounds what waits for one watch."""
    if request.param == "memory":
        return MemoryStore

    count = iter(range(1000))
    return lambda **options: SqliteStore.open(tmp_path / f"{next(count)}.db", **options)
