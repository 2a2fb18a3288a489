"""The proxy between clients and backends that send nonsense, in any pieces: it goes on."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway_world import LOOPBACK, ask, backend, fields_of, proxying, read_head, run

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
    b"HEAD / HTTP/1.0\r\n\r\n",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nhi",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
]


def spoilt(data: bytes, dice: random.Random) -> bytes:
    """With a few bytes changed, gone, or there twice; sometimes as it was."""
    made = bytearray(data)
    for _ in range(dice.choice((0, 0, 1, 1, 2, 5))):
        place = dice.randrange(len(made))
        made[place : place + dice.randrange(3)] = dice.choice(
            (b"", b"\r", b"\n", b"\0", b" ", b":", b"\xff", bytes(made[:4]))
        )
        made = made or bytearray(b"x")
    return bytes(made)


async def send(writer: asyncio.StreamWriter, data: bytes, dice: random.Random) -> None:
    while data:
        size = dice.choice((1, 3, 20, 1000))
        writer.write(data[:size])
        data = data[size:]
        if dice.random() < 0.3:
            await asyncio.wait_for(writer.drain(), 5)


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_on_either_side(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)

    async def foolish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            if b"GET /sane" in await read_head(reader):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsane")
            else:
                await send(writer, spoilt(dice.choice(ANSWERS), dice), dice)
            if dice.random() < 0.4:
                return

    async def one(port: int) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            for _ in range(dice.randrange(1, 4)):
                await send(writer, spoilt(dice.choice(REQUESTS), dice), dice)
            async with asyncio.timeout(dice.choice((0.01, 0.05))):
                while await reader.read(65536):
                    pass
        except (OSError, TimeoutError, RuntimeError):  # the last is uvloop's for a closed connection
            pass
        finally:
            writer.transport.abort()

    async def scenario() -> None:
        async with backend(foolish) as origin, proxying(ports=(origin,)) as (_, port):
            for _ in range(30):
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(8):
                        tasks.create_task(one(port))
            status, _, body = await ask(port, "/sane")
            assert (status, body) in ((200, b"sane"), (502, body))

    run(scenario(), 60)
    assert not [record for record in caplog.records if record.exc_info]


def test_what_a_client_sends_in_pieces_reaches_the_backend_once_and_whole() -> None:
    dice = random.Random(11)
    seen: list[bytes] = []

    async def noting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            fields = fields_of(head)
            body = b""
            if "transfer-encoding" in fields:
                while size := int(await reader.readline(), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                await reader.readline()
            else:
                body = await reader.readexactly(int(fields.get("content-length", "0")))
            seen.append(head.split(b" ")[1] + b" " + body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def scenario() -> None:
        async with backend(noting) as origin, proxying(ports=(origin,)) as (_, port):
            expected = []
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            data = b""
            for number in range(200):
                body = dice.randbytes(dice.choice((0, 1, 50, 5000)))
                head = b"POST /%d HTTP/1.1\r\nHost: a\r\n" % number
                if dice.random() < 0.5:
                    data += head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                else:
                    parts = [body[place : place + 777] for place in range(0, len(body), 777)]
                    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
                    data += head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
                expected.append(b"/%d %b" % (number, body))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send(writer, data, dice))
                for one in expected:
                    answer = await read_head(reader)
                    assert answer.startswith(b"HTTP/1.1 200")
                    assert await reader.readexactly(int(fields_of(answer)["content-length"])) == one.partition(b" ")[2]
            assert seen == expected
            writer.close()

    run(scenario(), 60)
