"""Durable writes a second of a store: 32 writers, 2 KB values.

usage: python bench/store.py [SECONDS] [--busy] [--store URL]

--busy keeps the event loop busy between writes, as a loaded API server does. --store: SQLite unless it is said
otherwise, e.g. http://127.0.0.1:2379 for etcd.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tiphys.store.types import Store
from tiphys.store.urls import open_store

WRITERS, VALUE = 32, b"x" * 2048
RUN = time.time_ns()
"""What keys of this run begin with: a store may have been used before."""


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def writer(store: Store, number: int, end: float, busy: bool) -> int:
    count, revision = 0, 0
    while time.perf_counter() < end:
        if count % 2:
            await store.put(f"bench/{RUN}/w{number}-{count - 1}", VALUE, expect=revision)
        else:
            revision = (await store.put(f"bench/{RUN}/w{number}-{count}", VALUE, expect=0)).revision
        count += 1
        if busy:
            spin(100e-6)
    return count


async def run(seconds: float, busy: bool, url: str) -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        opened = time.perf_counter()
        store = open_store(url, Path(folder) / "store.db")
        print(f"created in {(time.perf_counter() - opened) * 1e3:.1f} ms")
        start = time.perf_counter()
        counts = await asyncio.gather(*(writer(store, n, start + seconds, busy) for n in range(WRITERS)))
        spent = time.perf_counter() - start
        print(f"{sum(counts) / spent:,.0f} writes/s (half creates, half compare-and-swap updates)")
        start = time.perf_counter()
        page = await store.list(f"bench/{RUN}/")
        print(f"list of {len(page.rows):,} rows: {(time.perf_counter() - start) * 1e3:.0f} ms")
        await store.close()
        start = time.perf_counter()
        store = open_store(url, Path(folder) / "store.db")
        await store.revision()
        print(f"opened in {(time.perf_counter() - start) * 1e3:.1f} ms")
        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float, nargs="?", default=5.0)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--store", default="")
    options = parser.parse_args()
    asyncio.run(run(options.seconds, options.busy, options.store))
