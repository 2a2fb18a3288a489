"""Open the store that a URL names.

""  sqlite            SQLite in the cluster's data directory
sqlite:/a/file        SQLite there
memory:               gone with the process: for tests and simulations
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tiphys.base.errors import Permanent
from tiphys.store.types import Store


def check(url: str) -> None:
    """Raises Permanent for a URL that names no store."""
    scheme, _, rest = url.partition(":")
    if scheme in ("http", "https", "etcd"):
        raise Permanent(f"--store {url}: etcd is not supported yet; sqlite and memory: are")
    if scheme not in ("", "sqlite", "memory") or (scheme == "memory" and rest):
        raise Permanent(f"--store {url}: not a store; allowed are sqlite, sqlite:FILE and memory:")
    if scheme == "sqlite" and rest and not rest.startswith("/"):
        raise Permanent(f"--store {url}: {rest!r} must be an absolute path, such as sqlite:/var/lib/state.db")


@contextlib.asynccontextmanager
async def opened(url: str, default: Path) -> AsyncIterator[Store]:
    """The store of `url`, closed at the end; `default` is where SQLite goes unless the URL says so."""
    check(url)
    store = _open(url, default)
    try:
        yield store
    finally:
        await store.close()


def files(url: str) -> tuple[Path, ...]:
    """The files of the store of `url` that are not in the cluster's data directory."""
    scheme, _, rest = url.partition(":")
    return tuple(Path(rest + suffix) for suffix in ("", "-wal", "-shm")) if scheme == "sqlite" and rest else ()


def _open(url: str, default: Path) -> Store:
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        from tiphys.store.memory import MemoryStore

        return MemoryStore()
    from tiphys.store.sqlite import SqliteStore

    file = Path(rest) if rest else default
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteStore.open(file)
