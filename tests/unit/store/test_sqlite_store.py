"""What only the store on disk promises: durability, one process at a time, mode 0600, loud refusals."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiphys.store.sqlite import SqliteStore
from tiphys.store.types import Store, Unavailable

WRITE_FOREVER = """
import asyncio, sys
from tiphys.store.sqlite import SqliteStore

async def write(store, number, start):
    for n in range(start, 10**9):
        row = await store.put(f"{number}/{n}", b"x" * 500, expect=0)
        sys.stdout.write(f"{row.key} {row.revision}\\n")
        sys.stdout.flush()

async def main():
    store = SqliteStore.open(sys.argv[1])
    await asyncio.gather(*(write(store, f"{sys.argv[2]}-{n}", 0) for n in range(16)))

asyncio.run(main())
"""

WRITE_UNTIL_FULL = """
import asyncio, resource, sys
from tiphys.store.sqlite import SqliteStore
from tiphys.store.types import Unavailable

async def main():
    store = SqliteStore.open(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    written = 0
    try:
        while True:
            await store.put(f"k{written}", b"x" * 20_000)
            written += 1
    except Unavailable as error:
        print("refused", error)
    assert len((await store.list("")).rows) == written
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    row = await store.put("after", b"")
    assert row.revision == written + 1, row
    await store.close()
    print("recovered", written)

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(1)
    path = tmp_path / "store.db"
    acknowledged: dict[str, int] = {}
    for round_ in range(24):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOREVER, str(path), str(round_)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(chance.uniform(0.0, 0.08))  # noqa: TID251 - the moment of death is the test's input
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        for line in lines:
            if line.endswith("\n"):  # else it was cut short
                key, revision = line.split()
                acknowledged[key] = int(revision)
    found = asyncio.run(read_all(path))
    assert len(acknowledged) > 500
    assert {key: found.get(key) for key in acknowledged} == acknowledged
    assert sorted(found.values()) == list(range(1, len(found) + 1))


async def read_all(path: Path) -> dict[str, int]:
    store = SqliteStore.open(path)
    page = await store.list("")
    await store.close()
    return {row.key: row.revision for row in page.rows}


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_FULL, str(tmp_path / "store.db")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "refused store" in done.stdout
    assert "recovered" in done.stdout


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    async def body() -> None:
        store: Store = SqliteStore.open(tmp_path / "store.db")
        await store.put("a", b"secret")
        files = list(tmp_path.iterdir())
        assert len(files) == 4
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        await store.close()

    asyncio.run(body())


def test_two_cannot_open_one_file(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "store.db"
        store = SqliteStore.open(path)
        with pytest.raises(Unavailable, match="another process has it open"):
            SqliteStore.open(path)
        await store.close()
        await SqliteStore.open(path).close()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version=99", "its schema is version 99"),
        ("PRAGMA application_id=1", "not a store of Tiphys"),
    ],
)
def test_a_file_of_another_kind_or_a_later_version_is_refused(tmp_path: Path, statement: str, message: str) -> None:
    path = tmp_path / "store.db"
    asyncio.run(SqliteStore.open(path).close())
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(Unavailable, match=message):
        SqliteStore.open(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(Unavailable, match="not a database"):
        SqliteStore.open(path)


def test_a_damaged_database_says_so_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def fill() -> None:
        store = SqliteStore.open(path)
        for number in range(200):
            await store.put(f"k/{number}", b"x" * 2000)
        await store.close()

    async def read() -> None:
        store = SqliteStore.open(path)
        try:
            await store.list("")
        finally:
            await store.close()

    asyncio.run(fill())
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for start in range(8192, len(whole), 8192):  # the head of every page but the first
        damaged[start : start + 64] = b"\xa5" * 64
    for content in (bytes(damaged), whole[: len(whole) // 2], b"not a database" * 1000):
        path.write_bytes(content)
        with pytest.raises(Unavailable, match=r"store\.db: .*; restore it from a backup, or move it away"):
            asyncio.run(read())


def test_a_compaction_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def fill() -> None:
        store = SqliteStore.open(path)
        for _ in range(10):
            await store.put("a", b"v")
        await store.close()

    async def compact() -> None:
        store = SqliteStore.open(path)
        await store.compact(0)
        await store.close()

    asyncio.run(fill())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE mark SET revision = 9 WHERE name = 'compacted'")
    connection.close()
    asyncio.run(compact())
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT revision FROM log").fetchall() == [(9,), (10,)]
    connection.close()


def test_a_waiting_watch_uses_no_processor_time(tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path / "store.db")
        async with store.watch("", 0) as events:
            used = time.process_time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await anext(events)
            assert time.process_time() - used < 0.05
        await store.close()

    asyncio.run(body())
