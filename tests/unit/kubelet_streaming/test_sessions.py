"""exec and attach by the channel protocols of WebSocket and by SPDY, as client libraries speak them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from tiphys.base.http import websocket
from tiphys.base.http.client import HttpClient
from tiphys.base.http.spdy import SpdyConnection, SpdyStream
from tiphys.base.http.websocket import WebSocket

Serving = Callable[..., AbstractAsyncContextManager[tuple[Any, int]]]
EXIT_3 = {
    "metadata": {},
    "status": "Failure",
    "message": "command terminated with non-zero exit code: exit status 3",
    "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}


@asynccontextmanager
async def opened(serving: Serving, query: str, *protocols: str) -> AsyncIterator[tuple[Any, WebSocket]]:
    async with serving() as (node, port), HttpClient(f"http://127.0.0.1:{port}") as client:
        socket = await websocket.connect(client, f"/exec?{query}", protocols)
        yield node, socket
        await socket.close()


async def channels(socket: WebSocket) -> dict[int, bytes]:
    """All that comes on each channel until the end."""
    got: dict[int, bytes] = {}
    while (message := await socket.recv()) is not None:
        assert isinstance(message, bytes)
        got[message[0]] = got.get(message[0], b"") + message[1:]
    return got


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
def test_output_and_exit_code(serving: Serving, protocol: str) -> None:
    async def run() -> dict[int, bytes]:
        query = "command=exit&command=3&stdout=true&stderr=true"
        async with opened(serving, query, "v9.channel.k8s.io", protocol) as (_, socket):
            assert socket.protocol == protocol
            return await channels(socket)

    got = asyncio.run(run())
    assert (got[1], got[2], json.loads(got[3])) == (b"", b"going\n", EXIT_3)


def test_success_is_told(serving: Serving) -> None:
    async def run() -> dict[int, bytes]:
        async with opened(serving, "command=both&stdout=true", "v4.channel.k8s.io") as (_, socket):
            return await channels(socket)

    assert asyncio.run(run()) == {1: b"out\n", 3: b'{"metadata":{},"status":"Success"}'}


def test_the_end_of_input_ends_a_session_that_detaches(serving: Serving) -> None:
    async def run() -> list[dict[int, bytes]]:
        ended = []
        for path in ("/attach?detaches=true&command=sleep", "/attach?command=cat"):
            query = f"{path}&stdin=true&stdout=true"
            async with serving() as (_, port), HttpClient(f"http://127.0.0.1:{port}") as client:
                socket = await websocket.connect(client, query, ("v5.channel.k8s.io",))
                await socket.send(b"\x00said")
                await socket.send(b"\xff\x00")
                ended.append(await channels(socket))
                await socket.close()
        return ended

    detached, to_the_end = asyncio.run(run())
    assert json.loads(detached[3])["status"] == json.loads(to_the_end[3])["status"] == "Success"
    assert (detached[1], to_the_end[1]) == (b"", b"said")


@pytest.mark.parametrize(("command", "reason"), [("missing", "exec: missing: no such file"), ("broken", "shim")])
def test_failures_are_internal_errors(serving: Serving, command: str, reason: str) -> None:
    async def run() -> dict[int, bytes]:
        async with opened(serving, f"command={command}&stdout=true", "v5.channel.k8s.io") as (_, socket):
            return await channels(socket)

    status = json.loads(asyncio.run(run())[3])
    assert status["reason"] == "InternalError"
    assert "Internal error occurred: error executing command in container: " in status["message"]
    assert reason in status["message"]


def test_v5_closes_stdin(serving: Serving) -> None:
    async def run() -> dict[int, bytes]:
        async with opened(serving, "command=cat&stdin=true&stdout=true", "v5.channel.k8s.io") as (_, socket):
            await socket.send(b"\0hello ")
            await socket.send("\0text")  # some libraries send text
            await socket.send(b"\xff\0")
            return await channels(socket)

    assert asyncio.run(run())[1] == b"hello text"


def test_base64_channels_are_text(serving: Serving) -> None:
    async def run() -> list[str]:
        query = "command=cat&stdin=true&stdout=true"
        async with opened(serving, query, "v4.base64.channel.k8s.io") as (_, socket):
            assert await socket.recv() == "1"
            await socket.send("0" + base64.b64encode(b"\xff\0").decode())
            answer = await socket.recv()
            assert isinstance(answer, str)
            return [answer[0], base64.b64decode(answer[1:]).hex()]

    assert asyncio.run(run()) == ["1", "ff00"]


def test_v1_tells_failures_as_text(serving: Serving) -> None:
    async def run() -> dict[int, bytes]:
        async with opened(serving, "command=exit&command=3&stdout=true") as (_, socket):
            return await channels(socket)

    assert asyncio.run(run())[3] == b"command terminated with non-zero exit code: exit status 3"


def test_terminals_are_resized_and_have_no_stderr(serving: Serving) -> None:
    async def run() -> dict[int, bytes]:
        query = "command=size&stdout=true&stderr=true&tty=true"
        async with opened(serving, query, "v5.channel.k8s.io") as (_, socket):
            await socket.send(b"\4nonsense")
            await socket.send(b'\4{"Width":120,"Height":40}\n')
            return await channels(socket)

    assert asyncio.run(run())[1] == b"120x40"


def test_a_client_that_leaves_ends_the_session(serving: Serving) -> None:
    async def run() -> None:
        async with opened(serving, "command=sleep&stdout=true", "v5.channel.k8s.io") as (node, socket):
            await socket.recv()
            while not node.sessions:
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            await socket.close()
            async with asyncio.timeout(5):
                await node.sessions[0].closed.wait()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "query", "status", "text"),
    [
        ({}, "stdout=true", 400, "unable to upgrade: header X-Stream-Protocol-Version does not exist"),
        ({"X-Stream-Protocol-Version": "v9"}, "stdout=true", 403, "client supports [v9], server accepts [v4.channel"),
        ({"X-Stream-Protocol-Version": "v4.channel.k8s.io"}, "stdout=true", 400, "missing upgrade headers"),
        ({}, "", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ({"Connection": "Upgrade", "Upgrade": "websocket"}, "stdout=true", 400, "not a WebSocket handshake"),
    ],
)
def test_requests_that_cannot_be_upgraded_are_told_why(
    serving: Serving, headers: Mapping[str, str], query: str, status: int, text: str
) -> None:
    async def run() -> None:
        async with serving() as (_, port), HttpClient(f"http://127.0.0.1:{port}") as client:
            answer = await client.request("POST", f"/exec?{query}", headers=headers)
            assert answer.status == status
            assert text in answer.body.decode()

    asyncio.run(run())


SPDY = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io, v3.channel.k8s.io"}


@asynccontextmanager
async def spdy(serving: Serving, path: str, headers: Mapping[str, str]) -> AsyncIterator[SpdyConnection]:
    async with serving() as (_, port), HttpClient(f"http://127.0.0.1:{port}") as client:
        answer, duplex = await client.upgrade("POST", path, headers)
        assert duplex is not None, answer
        connection = SpdyConnection(duplex, server=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.run())
            yield connection
            await connection.close()


async def everything(stream: SpdyStream) -> bytes:
    data = b""
    while chunk := await stream.read():
        data += chunk
    return data


def test_spdy_sessions(serving: Serving) -> None:
    data = bytes(range(256)) * 8000

    async def run() -> tuple[bytes, bytes]:
        async with spdy(serving, "/exec?command=cat&stdin=true&stdout=true", SPDY) as connection:
            error = await connection.open({"streamType": "error"})
            stdin = await connection.open({"streamType": "stdin"})
            stdout = await connection.open({"streamType": "stdout"})

            async def send() -> None:
                await stdin.write(data)
                await stdin.write_eof()

            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                output = group.create_task(everything(stdout))
            return output.result(), await everything(error)

    output, status = asyncio.run(run())
    assert output == data
    assert json.loads(status) == {"metadata": {}, "status": "Success"}


def test_spdy_exit_codes_terminals_and_duplicate_streams(serving: Serving) -> None:
    async def run() -> tuple[bytes, bytes]:
        async with spdy(serving, "/exec?command=exit&command=3&stderr=true", SPDY) as connection:
            error = await connection.open({"streamType": "error"})
            with pytest.raises(ConnectionResetError):
                await connection.open({"streamType": "error"})
            await connection.open({"streamType": "stderr"})
            status = await everything(error)
        async with spdy(serving, "/exec?command=size&stdout=true&tty=true", SPDY) as connection:
            await connection.open({"streamType": "error"})
            stdout = await connection.open({"streamType": "stdout"})
            resize = await connection.open({"streamType": "resize"})
            await resize.write(b'{"Width":80,')
            await resize.write(b'"Height":25}\n')
            return status, await everything(stdout)

    status, size = asyncio.run(run())
    assert json.loads(status) == EXIT_3
    assert size == b"80x25"
