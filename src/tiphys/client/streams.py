"""Small help for asynchronous iterators that hold a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def closing(source: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close `source` on the way out, if it can be closed: leaving a loop early does not do that by itself."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks of a stream, cut at line ends; empty lines are left out.

    Raises ConnectionError when the stream ends within a line: the peer was cut off."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
    if rest.strip():
        raise ConnectionError("the stream ended within a line")
