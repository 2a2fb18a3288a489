"""SPDY/3.1 between two of our connections over an in-memory pipe, and against frames made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tiphys.base.http import spdy_frames as wire
from tiphys.base.http.spdy import SpdyConnection, SpdyStream
from tiphys.base.http.spdy_frames import Kind, SpdyError


class Pipe:
    """One end of a Duplex in memory."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.other: Pipe = self

    async def read(self, limit: int = 65536) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        await self.other.incoming.put(data)

    async def write_eof(self) -> None:
        await self.other.incoming.put(b"")

    async def close(self) -> None:
        await self.write_eof()


def pipe() -> tuple[Pipe, Pipe]:
    one, other = Pipe(), Pipe()
    one.other, other.other = other, one
    return one, other


@asynccontextmanager
async def pair(
    work: Callable[[SpdyStream], Coroutine[Any, Any, None]],
) -> AsyncIterator[tuple[SpdyConnection, SpdyConnection]]:
    """A client and a server that runs `work` on each stream; streams with a `refuse` header are refused."""
    one, other = pipe()
    client, server = SpdyConnection(one, server=False), SpdyConnection(other)
    async with asyncio.TaskGroup() as group:

        async def accept(stream: SpdyStream) -> bool:
            if "refuse" in stream.headers:
                return False
            group.create_task(work(stream))
            return True

        group.create_task(client.run())
        group.create_task(server.run(accept))
        yield client, server
        await client.close()


async def echo(stream: SpdyStream) -> None:
    while data := await stream.read():
        await stream.write(data)
    await stream.write_eof()


async def everything(stream: SpdyStream) -> bytes:
    data = b""
    while chunk := await stream.read():
        data += chunk
    return data


def test_the_dictionary_is_the_published_one() -> None:
    import zlib

    assert (len(wire.dictionary()), zlib.adler32(wire.dictionary())) == (1423, 0xE3C6A7C2)


def test_streams_carry_headers_and_data_both_ways_at_once() -> None:
    data = bytes(range(256)) * 4000

    async def run() -> None:
        async with pair(echo) as (client, _):

            async def talk(number: int) -> None:
                stream = await client.open({"streamType": "data", "n": str(number)})
                async with asyncio.TaskGroup() as group:

                    async def send() -> None:
                        await stream.write(data)
                        await stream.write_eof()

                    group.create_task(send())
                    assert await everything(stream) == data

            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(talk(number))

    asyncio.run(run())


def test_refused_streams_and_resets_are_errors_of_their_stream_only() -> None:
    async def reset(stream: SpdyStream) -> None:
        if stream.headers.get("kind") == "reset":
            await stream.reset()
        else:
            await echo(stream)

    async def run() -> None:
        async with pair(reset) as (client, _):
            with pytest.raises(ConnectionResetError):
                await client.open({"refuse": "1"})
            broken = await client.open({"kind": "reset"})
            assert await broken.read() == b""
            with pytest.raises(ConnectionResetError):
                await broken.write(b"x")
            fine = await client.open({"kind": "echo"})
            await fine.write(b"hello")
            assert await fine.read() == b"hello"

    asyncio.run(run())


def test_windows_are_kept_once_the_peer_counts_them() -> None:
    async def run() -> None:
        one, other = pipe()
        server = SpdyConnection(other)
        streams: list[SpdyStream] = []

        async def accept(stream: SpdyStream) -> bool:
            streams.append(stream)
            return True

        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(accept))
            codec = wire.HeaderCodec()
            await one.write(wire.control_frame(Kind.SETTINGS, bytes.fromhex("00000001 00000007 00010000")))
            await one.write(wire.syn_stream(1, codec.pack({"a": "b"})))
            await one.read()
            writing = group.create_task(streams[0].write(b"x" * 200_000))
            received = 0
            while received <= 65536 - 32768:
                received += len(await one.read()) - 8
            for _ in range(20):
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            assert not writing.done()
            await one.write(wire.window_update(1, 200_000))
            await writing
            await one.close()

    asyncio.run(run())


def test_pings_are_answered() -> None:
    async def run() -> bytes:
        one, other = pipe()
        server = SpdyConnection(other)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run())
            await one.write(wire.control_frame(Kind.PING, (7).to_bytes(4)))
            answer = await one.read()
            await one.close()
            return answer

    assert asyncio.run(run()) == wire.control_frame(Kind.PING, (7).to_bytes(4))


@pytest.mark.parametrize(
    "frames",
    [
        b"\x80\x02\0\1\0\0\0\0",
        wire.syn_stream(1, b"not zlib"),
        wire.syn_stream(2, wire.HeaderCodec().pack({})),
        b"\0\0\0\1\0\xff\xff\xff",
        wire.control_frame(Kind.PING, b""),
        wire.syn_stream(1, wire.HeaderCodec().pack({"a": "x" * 100_000})),
        b"GET / HTTP/1.1\r\nHost: whatever\r\n\r\n",
    ],
)
def test_broken_frames_end_the_connection(frames: bytes) -> None:
    async def run() -> None:
        one, other = pipe()
        await one.write(frames)
        await one.close()
        with suppress(SpdyError):
            await SpdyConnection(other).run()
        while (data := await one.read()) != b"":
            assert data[:2] == b"\x80\x03"

    asyncio.run(run())
