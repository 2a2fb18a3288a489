"""Manifests of static pods from a web server."""

from __future__ import annotations

import asyncio
from typing import Any

from tiphys.base.clock import SystemClock
from tiphys.kubelet.staticpods.urls import UrlSource

POD = b'{"kind":"Pod","metadata":{"name":"%s"},"spec":{"containers":[{"name":"c","image":"i"}]}}'


class Server:
    """Answers one request after the other with what is in `answers`, the last one again and again."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        code, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        head = f"HTTP/1.1 {code} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


def follow(server: Server, times: int, **headers: str) -> list[list[str]]:
    """Names of the pods that the source told of, each time, until the server was asked `times` times."""
    told: list[list[str]] = []

    def changed(pods: list[dict[str, Any]]) -> None:
        told.append([pod["metadata"]["name"] for pod in pods])

    async def scenario() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1")
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/pods?x=1"
        source = UrlSource(url, headers, "node-1", SystemClock(), 0.01, changed)
        async with listening, asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(source.run())
            while len(server.asked) < times + 1:
                await SystemClock().sleep(0.005)
            task.cancel()

    asyncio.run(scenario())
    return told


def test_what_the_server_says_is_told_once() -> None:
    server = Server((200, POD % b"a"), (200, POD % b"a"), (200, POD % b"b"))
    assert follow(server, 4, Authorization="secret")[:2] == [["a-node-1"], ["b-node-1"]]
    assert server.asked[0].startswith(b"GET /pods?x=1 HTTP/1.1\r\n")
    assert b"secret" in server.asked[0]


def test_a_bad_answer_changes_nothing_and_an_empty_one_ends_all() -> None:
    server = Server((200, POD % b"a"), (500, b"no"), (200, b"{{{"), (200, b""), (200, POD % b"a"))
    told = follow(server, 6)
    assert told[0] == ["a-node-1"]
    assert told[1] == []
    assert told[-1] == ["a-node-1"]


def test_a_list_is_several_pods() -> None:
    items = b",".join(POD % name for name in (b"a", b"b"))
    server = Server((200, b'{"kind":"PodList","apiVersion":"v1","items":[' + items + b"]}"))
    assert follow(server, 1) == [["a-node-1", "b-node-1"]]


def test_an_answer_without_end_is_cut_off() -> None:
    assert follow(Server((200, b"#" * (11 << 20))), 1) == []
