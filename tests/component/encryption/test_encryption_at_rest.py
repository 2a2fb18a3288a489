"""Secrets in the store are encrypted, keys can be replaced while the server runs, and nobody notices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.encryption import EncryptedStore, Rules
from tiphys.apiserver.encryption.ciphers import AesCbc, AesGcm, Cipher, Identity
from tiphys.base.clock import SystemClock
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.store.memory import MemoryStore
from tiphys.store.sqlite import SqliteStore
from tiphys.store.types import Mismatch, Unavailable

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
SECRETS = "/api/v1/namespaces/default/secrets"
KEY = "core/secrets/default/a"
OLD, NEW = AesCbc("old", b"o" * 32), AesGcm("new", b"n" * 32)


def rules(*ciphers: Cipher) -> Rules:
    return Rules([(("", "secrets"), ciphers)])


async def http(server: ApiServer, method: str, url: str, body: Any = None) -> Response:
    path, _, query = url.partition("?")
    raw = b"" if body is None else orjson.dumps(body)
    headers = {"content-type": "application/json"} if raw else {}
    return await server.handler(Request(method, path, query, headers=headers, body=raw, user=ADMIN, raw_path=path))


def secret(name: str, text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": text}}


def test_secrets_are_encrypted_on_the_disk_and_plain_in_answers(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def write() -> None:
        store = SqliteStore.open(path)
        async with ApiServer(ApiServerConfig(), EncryptedStore(store, rules(NEW, Identity())), SystemClock()) as server:
            for name in ("a", "b"):
                assert (await http(server, "POST", SECRETS, secret(name, "hunter2-is-long"))).status == 201
            row = await store.get(KEY)
            assert row is not None
            assert row.value.startswith(b"k8s:enc:aesgcm:v1:new:")
            assert (await http(server, "DELETE", f"{SECRETS}/b")).status == 200
        await store.close()

    async def read() -> None:
        store = SqliteStore.open(path)
        async with ApiServer(ApiServerConfig(), EncryptedStore(store, rules(NEW)), SystemClock()) as server:
            found = orjson.loads((await http(server, "GET", f"{SECRETS}/a")).body)
            assert found["data"] == {"password": "aHVudGVyMi1pcy1sb25n"}
            page = await http(
                server, "GET", f"{SECRETS}?resourceVersion={found['metadata']['resourceVersion']}&limit=5"
            )
            assert orjson.loads(page.body)["items"][0]["data"] == found["data"]
        await store.close()

    asyncio.run(write())
    assert b"aHVudGVyMi1pcy1sb25n" not in path.read_bytes()
    asyncio.run(read())


def test_what_another_key_wrote_is_written_anew_with_its_next_change() -> None:
    async def body() -> None:
        inner = MemoryStore()
        store = EncryptedStore(inner, rules(OLD))
        async with ApiServer(ApiServerConfig(), store, SystemClock()) as server:
            made = orjson.loads((await http(server, "POST", SECRETS, secret("a", "x"))).body)
            same = await http(server, "PUT", f"{SECRETS}/a", made)
            assert orjson.loads(same.body)["metadata"] == made["metadata"]
            await store.change(rules(NEW, OLD))
            assert store.stale == {KEY}
            # Clients see another version and nothing else: `kubectl get | kubectl replace` spreads the new key.
            again = orjson.loads((await http(server, "PUT", f"{SECRETS}/a", made)).body)
            assert again["data"] == made["data"]
            assert again["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
            row = await inner.get(KEY)
            assert row is not None
            assert row.value.startswith(NEW.prefix)
            assert not store.stale

    asyncio.run(body())


def test_a_value_that_no_key_reads_stops_the_start_and_is_named() -> None:
    async def body() -> None:
        inner = MemoryStore()
        await EncryptedStore(inner, rules(OLD)).put(KEY, b"{}")
        with pytest.raises(ExceptionGroup) as caught:
            async with ApiServer(ApiServerConfig(), EncryptedStore(inner, rules(NEW)), SystemClock()):
                pass
        (problem,) = caught.value.exceptions
        assert isinstance(problem, Unavailable)
        assert str(problem) == f'unable to transform key "{KEY}": no matching prefix found'

    asyncio.run(body())


def test_the_store_is_the_same_but_for_its_values() -> None:
    async def body() -> None:
        inner = MemoryStore()
        store = EncryptedStore(inner, rules(NEW))
        first = await store.put(KEY, b"one", expect=0, actor="jane")
        assert (first.value, first.actor, await store.get(KEY)) == (b"one", "jane", first)
        with pytest.raises(Mismatch) as caught:
            await store.put(KEY, b"two", expect=7)
        assert caught.value.current == first
        second = await store.put(KEY, b"two", expect=first.revision)
        gone = await store.delete(KEY, expect=second.revision)
        assert gone is not None
        assert gone.value == b"two"
        async with store.watch("", 0) as batches:
            seen = [(e.row.value, e.previous.value if e.previous else None) async for e in _upto(batches, 3)]
        assert seen == [(b"one", None), (b"two", b"one"), (b"", b"two")]
        assert [row.value for row in (await store.list("", revision=2)).rows] == [b"two"]
        assert [row.value for row in (await inner.list("", revision=2)).rows] != [b"two"]
        assert (await store.revision(), await store.size(), store.shared) == (3, 0, False)
        await store.compact(3)
        await store.close()

    asyncio.run(body())


async def _upto(batches: Any, revision: int) -> Any:
    async for batch in batches:
        for event in batch:
            yield event
        if batch[-1].row.revision >= revision:
            return


def test_a_value_of_an_unknown_key_does_not_stop_the_other_events() -> None:
    async def body() -> None:
        inner = MemoryStore()
        store = EncryptedStore(inner, rules(NEW))
        async with ApiServer(ApiServerConfig(), store, SystemClock()) as server:
            await EncryptedStore(inner, rules(OLD)).put("core/secrets/default/foreign", b"{}")
            assert (await http(server, "POST", SECRETS, secret("a", "x"))).status == 201
            assert (await http(server, "GET", f"{SECRETS}/foreign")).status == 404

    asyncio.run(body())
