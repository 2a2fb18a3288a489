"""Durable writes a second of the SQLite store: 32 writers, 2 KB values, group commit.

usage: python bench/store.py [SECONDS] [--busy]

--busy keeps the event loop busy between writes, as a loaded API server does.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tiphys.store.sqlite import SqliteStore

WRITERS, VALUE = 32, b"x" * 2048


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def writer(store: SqliteStore, number: int, end: float, busy: bool) -> int:
    count, revision = 0, 0
    while time.perf_counter() < end:
        if count % 2:
            await store.put(f"core/pods/default/w{number}-{count - 1}", VALUE, expect=revision)
        else:
            revision = (await store.put(f"core/pods/default/w{number}-{count}", VALUE, expect=0)).revision
        count += 1
        if busy:
            spin(100e-6)
    return count


async def run(seconds: float, busy: bool) -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        opened = time.perf_counter()
        store = SqliteStore.open(Path(folder) / "store.db")
        print(f"created in {(time.perf_counter() - opened) * 1e3:.1f} ms")
        start = time.perf_counter()
        counts = await asyncio.gather(*(writer(store, n, start + seconds, busy) for n in range(WRITERS)))
        spent = time.perf_counter() - start
        print(f"{sum(counts) / spent:,.0f} writes/s (half creates, half compare-and-swap updates)")
        start = time.perf_counter()
        page = await store.list("")
        print(f"list of {len(page.rows):,} rows: {(time.perf_counter() - start) * 1e3:.0f} ms")
        await store.close()
        start = time.perf_counter()
        store = SqliteStore.open(Path(folder) / "store.db")
        print(f"opened in {(time.perf_counter() - start) * 1e3:.1f} ms")
        await store.close()


if __name__ == "__main__":
    numbers = [float(word) for word in sys.argv[1:] if word != "--busy"]
    asyncio.run(run(numbers[0] if numbers else 5, "--busy" in sys.argv))
