"""Shared by the transport's tests: one certificate authority, and raw sockets against a running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tiphys.base import tls

Raw = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="session")
def authority() -> tls.Authority:
    return tls.Authority.create("test-ca")


@pytest.fixture(scope="session")
def server_pair(authority: tls.Authority) -> tls.KeyPair:
    return authority.issue("server", names=["localhost", "127.0.0.1"], server=True)


@pytest.fixture
def raw() -> Callable[[int], AbstractAsyncContextManager[Raw]]:
    """A plain connection to a port of this machine."""

    @asynccontextmanager
    async def connect(port: int) -> AsyncIterator[Raw]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()

    return connect
