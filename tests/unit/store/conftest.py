"""Every behaviour test of the store runs against each implementation; etcd's where its program is on PATH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etcd_server import EtcdServer, Rebased
from tiphys.store.etcd import EtcdStore
from tiphys.store.memory import MemoryStore
from tiphys.store.sqlite import SqliteStore
from tiphys.store.types import Store

OpenStore = Callable[..., Store]


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """An etcd for the whole run; each test uses a prefix of its own."""
    with EtcdServer(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "etcd"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens a new store; `buffer` bounds what waits for one watch (etcd's own business)."""
    if request.param == "memory":
        return MemoryStore
    if request.param == "etcd":
        server: EtcdServer = request.getfixturevalue("etcd")
        return lambda **options: Rebased(EtcdStore(server.config()))

    count = iter(range(1000))
    return lambda **options: SqliteStore.open(tmp_path / f"{next(count)}.db", **options)
