"""Health checks against the gRPC library's own server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc  # type: ignore[import-untyped]  # has no types of its own
import pytest

from tiphys.kubelet.probes.grpc import check

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


async def ask(answer: Callable[[bytes], bytes | None], service: str = "", known: bool = True) -> tuple[bool, str]:
    """What a check of a server says that answers with `answer`; None is "no such service"."""

    async def respond(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        found = answer(request)
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return found or b""

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(respond)
    name = "grpc.health.v1.Health" if known else "other.Service"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Check": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return await check("127.0.0.1", port, service, 5)
    finally:
        await server.stop(None)


def run(work: Awaitable[tuple[bool, str]]) -> tuple[bool, str]:
    async def main() -> tuple[bool, str]:
        return await work

    return asyncio.run(main())


def test_a_server_that_serves_is_healthy() -> None:
    assert run(ask(lambda _: SERVING)) == (True, "service healthy")


def test_the_name_of_the_service_is_asked_for() -> None:
    wanted = "a" * 200
    healthy, _ = run(
        ask(lambda request: SERVING if request == b"\x0a\xc8\x01" + wanted.encode() else NOT_SERVING, wanted)
    )
    assert healthy


@pytest.mark.parametrize(
    ("answer", "known", "words"),
    [
        (NOT_SERVING, True, "NOT_SERVING"),
        (None, True, "rpc error: code = NotFound desc = unknown service"),
        (SERVING, False, "does not implement"),
    ],
)
def test_anything_else_is_not(answer: bytes | None, known: bool, words: str) -> None:
    healthy, message = run(ask(lambda _: answer, known=known))
    assert not healthy
    assert words in message


def test_a_port_that_nobody_listens_at_is_not_healthy() -> None:
    healthy, message = run(check("127.0.0.1", 1, "", 1))
    assert not healthy
    assert message == 'timeout: failed to connect service "127.0.0.1:1" within 1s: context deadline exceeded'
