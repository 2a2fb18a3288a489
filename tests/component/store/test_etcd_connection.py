"""The store in etcd when the connection comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etcd_server import EtcdServer, free_port
from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent
from tiphys.base.tls import Authority
from tiphys.store.etcd import EtcdStore
from tiphys.store.etcd_connection import EtcdConfig, check_url
from tiphys.store.etcd_messages import TXN, put_op, put_request, txn_request
from tiphys.store.types import Event, StoreTooLarge, Unavailable


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path) as server:
        yield server


async def take(events: AsyncIterator[tuple[Event, ...]], upto: int) -> list[int]:
    seen: list[int] = []
    async for batch in events:
        seen += [event.row.revision for event in batch]
        if seen[-1] >= upto:
            break
    return seen


async def eventually(call: Callable[[], Awaitable[int]]) -> int:
    """Try until etcd answers again."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except Unavailable:
                await SystemClock().sleep(0.05)


def test_a_watch_goes_on_without_loss_when_etcd_comes_back(etcd: EtcdServer) -> None:
    async def body() -> None:
        store, other = EtcdStore(etcd.config("/same")), EtcdStore(etcd.config("/same"))
        written = [(await store.put(f"k{n}", b"v")).revision for n in range(5)]
        async with store.watch("", 0) as events:
            seen = await take(events, written[2])
            etcd.kill()
            for call in (store.put("lost", b""), store.get("k1"), store.revision()):
                with pytest.raises(Unavailable, match=r"etcd http://127.0.0.1"):
                    await call

            async def back() -> None:
                etcd.start()
                await eventually(other.revision)
                written.extend([await put(other, f"later{n}") for n in range(5)])

            async with asyncio.TaskGroup() as group:
                group.create_task(back())
                async with asyncio.timeout(30):
                    async for batch in events:
                        seen += [event.row.revision for event in batch]
                        if batch[-1].row.key == "later4":
                            break
        assert seen == written
        assert await eventually(store.revision) == written[-1]
        await store.close()
        await other.close()

    asyncio.run(body())


async def put(store: EtcdStore, key: str) -> int:
    return (await store.put(key, b"v")).revision


def test_another_server_is_used_when_the_first_is_gone(etcd: EtcdServer) -> None:
    async def body() -> None:
        config = replace(etcd.config(), servers=(f"http://127.0.0.1:{free_port()}", etcd.url))
        store = EtcdStore(config)
        row = await store.put("a", b"1", expect=0)
        assert await store.get("a") == row
        async with store.watch("", row.revision - 1) as events:
            assert await take(events, row.revision) == [row.revision]
        await store.close()

    asyncio.run(body())


def test_deletions_name_their_author_and_foreign_writes_do_not_matter(etcd: EtcdServer) -> None:
    async def body() -> None:
        store, other = EtcdStore(etcd.config("/mine")), EtcdStore(etcd.config("/theirs"))
        await other.put("x", b"")
        row = await store.put("a/é", b"\n[1]\n", actor='quo"te', cause="apps\n")
        await other.put("x", b"")
        assert await store.revision() == row.revision
        gone = await store.delete("a/é", expect=row.revision, actor="jane", cause="gc")
        await other.delete("x")
        assert gone is not None
        async with store.watch("a/", 0) as events:
            batch = await anext(events)
        assert [(e.row.actor, e.row.cause, e.deleted) for e in batch] == [
            ('quo"te', "apps\n", False),
            ("jane", "gc", True),
        ]
        assert (batch[1].previous, batch[0].row.value) == (row, b"\n[1]\n")
        await store.close()
        await other.close()

    asyncio.run(body())


def test_lists_longer_than_a_piece_are_of_one_revision(etcd: EtcdServer) -> None:
    async def body() -> None:
        store = EtcdStore(etcd.config())
        async with asyncio.TaskGroup() as group:
            for n in range(2100):
                group.create_task(store.put(f"k/{n:05}", b"v"))
        page = await store.list("k/")
        assert [row.key for row in page.rows] == [f"k/{n:05}" for n in range(2100)]
        first = await store.list("k/", limit=1500)
        assert (len(first.rows), first.remaining) == (1500, 600)
        await store.close()

    asyncio.run(body())


def test_what_is_too_large_for_etcd_is_refused_in_its_words(etcd: EtcdServer) -> None:
    async def body() -> None:
        store = EtcdStore(etcd.config())
        with pytest.raises(StoreTooLarge, match="etcdserver: request is too large"):
            await store.put("a", b"x" * 1_600_000)
        assert await store.get("a") is None
        await store.close()

    asyncio.run(body())


def test_values_of_others_under_the_prefix_are_refused_by_name(etcd: EtcdServer) -> None:
    async def body() -> None:
        store = EtcdStore(etcd.config("/registry"))
        foreign = txn_request([], [put_op(put_request(b"/registry/pods/default/web", b"k8s\x00\n\x02v1"))], [])
        await store.connection.write(TXN, foreign)
        with pytest.raises(Unavailable, match="/registry/pods/default/web was not written by Tiphys"):
            await store.list("")
        await store.close()

    asyncio.run(body())


@pytest.mark.parametrize("url", ["ftp://x:1", "https://", "10.0.0.1:2379", "https://x:99999", "http://x/path"])
def test_what_is_no_servers_url_is_refused(url: str) -> None:
    with pytest.raises(Permanent):
        check_url(url)


def test_urls_without_a_port_and_ipv6_addresses() -> None:
    assert check_url("https://etcd.example") == "etcd.example:2379"
    assert check_url("http://[::1]:2379/") == "[::1]:2379"


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    (tmp_path / "tls.crt").write_text("")
    with pytest.raises(Permanent, match="belong together"):
        EtcdStore(EtcdConfig(("https://127.0.0.1:1",), certificate=tmp_path / "tls.crt"))


def test_a_client_shows_its_certificate_and_checks_the_servers(tmp_path: Path) -> None:
    authority, stranger = Authority.create("etcd-ca"), Authority.create("other-ca")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "other.crt").write_bytes(stranger.certificate)
    for name in ("server", "client"):
        pair = authority.issue(name, names=["127.0.0.1"], server=name == "server", client=True)
        pair.save(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
    files = {
        "--cert-file": "server.crt", "--key-file": "server.key", "--trusted-ca-file": "ca.crt"
    }  # fmt: skip
    flags = [word for flag, file in files.items() for word in (flag, str(tmp_path / file))]

    async def body(server: EtcdServer) -> None:
        plain = replace(server.config("/tls"), ca=tmp_path / "ca.crt")
        shown = replace(plain, certificate=tmp_path / "client.crt", key=tmp_path / "client.key")
        store = EtcdStore(shown)
        row = await store.put("a", b"1")
        assert await store.get("a") == row
        await store.close()
        for wrong in (plain, replace(shown, ca=tmp_path / "other.crt")):
            store = EtcdStore(wrong)
            with pytest.raises(Unavailable):
                await store.get("a")
            await store.close()
        with pytest.raises(Permanent, match="missing"):
            EtcdStore(replace(shown, ca=tmp_path / "missing"))

    with EtcdServer(tmp_path, "--client-cert-auth", *flags, scheme="https") as server:
        asyncio.run(body(server))
