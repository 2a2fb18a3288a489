"""Lifecycle hooks over HTTP, asked of real servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.base.clock import SystemClock
from tiphys.kubelet.hooks import HookFailed, Hooks

POD = {"metadata": {"name": "web", "namespace": "ns", "uid": "u1"}, "spec": {}}
CONTAINER: dict[str, Any] = {"name": "main"}


async def answering(reply: bytes, asked: list[bytes]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(4096))
        writer.write(reply)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1")


def run_hook(reply: bytes, **action: Any) -> tuple[str, list[bytes]]:
    asked: list[bytes] = []

    async def scenario() -> str:
        async with await answering(reply, asked) as server:
            port = server.sockets[0].getsockname()[1]
            hooks = Hooks(None, SystemClock())  # type: ignore[arg-type]  # no hook here runs anything in a container
            hook = {"httpGet": {"port": port, "path": "done", **action}}
            return await hooks.run(POD, CONTAINER, "id", hook, "127.0.0.1")

    return asyncio.run(scenario()), asked


def test_any_answer_is_good_enough() -> None:
    told, asked = run_hook(b"HTTP/1.1 500 no\r\n\r\n", httpHeaders=[{"name": "X-A", "value": "b"}])
    assert told == ""
    assert asked[0].startswith(b"GET /done HTTP/1.1\r\n")
    assert b"user-agent: kube-lifecycle/1.36" in asked[0].lower()
    assert b"X-A: b" in asked[0]


def test_a_server_without_tls_is_asked_again_without() -> None:
    headers = [{"name": "Authorization", "value": "secret"}, {"name": "X-A", "value": "b"}]
    told, asked = run_hook(b"HTTP/1.1 200 ok\r\n\r\n", scheme="HTTPS", httpHeaders=headers)
    assert told.startswith("request to HTTPS lifecycle hook 127.0.0.1:")
    assert told.endswith(" got HTTP response, retry with HTTP succeeded")
    assert asked[-1].startswith(b"GET /done HTTP/1.1")
    assert b"secret" not in asked[-1]
    assert b"X-A: b" in asked[-1]


def test_a_hook_that_reaches_nobody_fails_with_the_reason() -> None:
    hooks = Hooks(None, SystemClock())  # type: ignore[arg-type]  # as above
    hook = {"httpGet": {"port": 1, "path": "done"}}
    why = (
        r'^HTTP lifecycle hook \(done\) for Container "main" in Pod "web_ns\(u1\)" failed - error: '
        r'Get "http://127.0.0.1:1/done": dial tcp 127.0.0.1:1: connect: connection refused$'
    )
    with pytest.raises(HookFailed, match=why):
        asyncio.run(hooks.run(POD, CONTAINER, "id", hook, "127.0.0.1"))


def test_a_hook_of_no_known_kind_fails() -> None:
    hooks = Hooks(None, SystemClock())  # type: ignore[arg-type]  # as above
    with pytest.raises(HookFailed, match="Cannot run handler: invalid handler: tcpSocket"):
        asyncio.run(hooks.run(POD, CONTAINER, "id", {"tcpSocket": {"port": 1}}, "127.0.0.1"))
