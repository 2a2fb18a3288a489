"""Probes come from where the node is: each connection of theirs is made by what the kubelet was handed."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc  # type: ignore[import-untyped]  # has no types of its own
import pytest

from tiphys.kubelet.probes.prober import Prober, Result, Target

ELSEWHERE = "192.0.2.7"
"""An address that only `dial` can reach."""


class Dialler:
    """Connects to this machine, whatever address it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> socket.socket:
        self.asked.append(host)
        connection = socket.socket()
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        except OSError:
            connection.close()
            raise
        return connection


async def answering() -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1")


def probed(kind: str) -> tuple[Result, list[str]]:
    dial = Dialler()
    prober = Prober(None, dial)  # type: ignore[arg-type]  # no probe here runs anything in a container

    async def scenario() -> Result:
        async with await answering() as server:
            port = server.sockets[0].getsockname()[1]
            probe: dict[str, Any] = {kind: {"port": port}}
            return await prober.probe(probe, Target("id", {"name": "main"}, ELSEWHERE))

    return asyncio.run(scenario()), dial.asked


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
def test_probes_connect_from_the_nodes_network(kind: str) -> None:
    result, asked = probed(kind)
    assert result.healthy
    assert asked == [ELSEWHERE]


def test_grpc_probes_do_so_too() -> None:
    dial = Dialler()

    async def scenario() -> Result:
        server = grpc.aio.server()

        async def respond(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return b"\x08\x01"

        check = {"Check": grpc.unary_unary_rpc_method_handler(respond)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", check),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            prober = Prober(None, dial)  # type: ignore[arg-type]  # as above
            return await prober.probe({"grpc": {"port": port}}, Target("id", {"name": "main"}, ELSEWHERE))
        finally:
            await server.stop(None)

    assert asyncio.run(scenario()).healthy
    assert dial.asked == [ELSEWHERE]


def test_a_refused_connection_is_told_as_ever() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        prober = Prober(None, Dialler())  # type: ignore[arg-type]  # as above
        probe = prober.probe({"tcpSocket": {"port": port}}, Target("id", {"name": "main"}, ELSEWHERE))
        result = asyncio.run(_done(probe))
    assert (result.healthy, result.output) == (False, f"dial tcp {ELSEWHERE}:{port}: connect: connection refused")


async def _done(work: Any) -> Result:
    result: Result = await work
    return result
