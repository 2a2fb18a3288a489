"""Open the store that a cluster's URL names (`store.urls`), and close it at the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tiphys.store.types import Store
from tiphys.store.urls import check, files, open_store

__all__ = ["check", "files", "opened"]


@contextlib.asynccontextmanager
async def opened(url: str, default: Path) -> AsyncIterator[Store]:
    """The store of `url`, closed at the end; `default` is where SQLite goes unless the URL says so."""
    store = open_store(url, default)
    try:
        yield store
    finally:
        await store.close()
