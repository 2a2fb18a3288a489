"""What names a store, and what does not."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tiphys.base.errors import Permanent
from tiphys.store import urls
from tiphys.store.memory import MemoryStore
from tiphys.store.sqlite import SqliteStore


def test_a_url_names_a_store(tmp_path: Path) -> None:
    for url, file in (("", "default.db"), ("sqlite", "default.db"), (f"sqlite:{tmp_path}/other.db", "other.db")):
        store = urls.open_store(url, tmp_path / "default.db")
        assert isinstance(store, SqliteStore)
        assert (tmp_path / file).exists()
        asyncio.run(store.close())
    assert isinstance(urls.open_store("memory:", tmp_path), MemoryStore)
    assert urls.files(f"sqlite:{tmp_path}/x")[1] == tmp_path / "x-wal"
    assert urls.files("https://10.0.0.1:2379") == urls.files("") == ()


def test_etcd_s_files_come_from_flags_or_the_url() -> None:
    pytest.importorskip("grpc")
    from tiphys.store.etcd import EtcdStore

    store = urls.open_store("http://a:1,http://b:2?prefix=/x", Path())
    assert isinstance(store, EtcdStore)
    assert (store.config.servers, store.config.prefix) == (("http://a:1", "http://b:2"), "/x")
    store = urls.open_store("http://a:1", Path(), urls.EtcdFlags(prefix="/y"))
    assert isinstance(store, EtcdStore)
    assert store.config.prefix == "/y"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgres://x", "not a store; allowed are sqlite"),
        ("memory:/x", "not a store"),
        ("sqlite:relative.db", "'relative.db' must be an absolute path"),
        ("etcd:2379", "not a store"),
        ("https://a:1?user=x", "user is not known; allowed are ca, cert, key, prefix"),
        ("https://a:x", "etcd: 'https://a:x'"),
        ("https://a:1,b:2", "'b:2' is not the URL of a server"),
        ("https://a:1,http://b:2", "all with TLS or all without"),
        ("https://a:1?ca=/does/not/exist", "/does/not/exist"),
    ],
)
def test_what_names_no_store_is_refused(url: str, problem: str) -> None:
    if url.startswith("http"):
        pytest.importorskip("grpc")
    with pytest.raises(Permanent, match=re.escape(problem)):
        urls.check(url)
