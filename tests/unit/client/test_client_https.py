from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.base.clock import SystemClock
from tiphys.base.errors import Conflict, Gone, NotFound, ServiceUnavailable
from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response
from tiphys.base.tls import Authority, server_context
from tiphys.client.config import ClientConfig
from tiphys.client.https import HttpsClient
from tiphys.client.resources import PODS
from tiphys.client.streams import closing

JSON = {"Content-Type": "application/json"}


def answer(status: int, body: Any) -> Response:
    return Response(status, dict(JSON), orjson.dumps(body))


class Recorder:
    """Answers from a list and keeps the requests."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answers.pop(0)


def talk(recorder: Recorder, conversation: Any, **options: Any) -> Any:
    """What `conversation(client)` returns, over TLS with certificates on both sides."""

    async def main() -> Any:
        authority = Authority.create("test")
        server_pair = authority.issue("server", names=("127.0.0.1",), server=True)
        pair = authority.issue("client", organizations=("system:masters",), client=True)
        context = server_context(server_pair, authority.certificate)
        async with serve(recorder, "127.0.0.1", 0, tls=context) as server:
            config = ClientConfig(
                server=f"https://127.0.0.1:{server.port}",
                ca=authority.certificate,
                certificate=pair.certificate,
                key=pair.key,
                **options,
            )
            client = HttpsClient(config, clock=SystemClock())
            try:
                return await conversation(client)
            finally:
                await client.close()

    return asyncio.run(main())


def test_calls_carry_identity_and_json() -> None:
    recorder = Recorder(answer(201, {"kind": "Pod", "metadata": {"name": "a"}}))
    pod = {"metadata": {"name": "a", "namespace": "ns"}}
    made = talk(recorder, lambda client: client.create(PODS, pod), token="secret")
    assert made["metadata"]["name"] == "a"
    (request,) = recorder.requests
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/ns/pods")
    assert orjson.loads(request.body) == pod
    assert request.headers["authorization"] == "Bearer secret"
    assert request.peer.certificate is not None


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    recorder = Recorder(answer(200, {}), answer(200, {}))

    async def conversation(client: HttpsClient) -> None:
        await client.get(PODS, "a", "ns")
        path.write_text("second\n")
        os.utime(path, (1, 1))
        await client.get(PODS, "a", "ns")

    talk(recorder, conversation, token_file=path)
    assert [each.headers["authorization"] for each in recorder.requests] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (answer(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "gone"}), NotFound),
        (answer(409, {"kind": "Status", "code": 409, "reason": "Conflict", "message": "behind"}), Conflict),
        (Response(503, {}, b"upstream is down"), ServiceUnavailable),
    ],
)
def test_answers_that_are_no_success_are_raised_as_their_class(response: Response, error: type[Exception]) -> None:
    with pytest.raises(error):
        talk(Recorder(response), lambda client: client.get(PODS, "a", "ns"))


def test_too_many_requests_are_waited_out() -> None:
    status = {"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "slow", "details": {}}
    busy = Response(429, {**JSON, "Retry-After": "0"}, orjson.dumps(status))
    assert talk(Recorder(busy, answer(200, {"kind": "Pod"})), lambda client: client.get(PODS, "a", "ns"))


def test_a_watch_is_cut_into_lines_wherever_chunks_end() -> None:
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}}
    events = [{"type": "ADDED", "object": {"metadata": {"name": name}}} for name in ("a", "b")]
    whole = b"\n".join(map(orjson.dumps, [*events, gone])) + b"\n"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 7):
            yield whole[start : start + 7]

    async def conversation(client: HttpsClient) -> list[str]:
        seen = []
        try:
            async with closing(client.watch(PODS, "ns", resource_version="5")) as source:
                async for event in source:
                    seen += [event.object["metadata"]["name"]]
        except Gone as error:
            seen.append(error.message)
        return seen

    recorder = Recorder(Response(200, dict(JSON), stream=chunks()))
    assert talk(recorder, conversation) == ["a", "b", "old"]
    assert recorder.requests[0].param("resourceVersion") == "5"


def test_a_server_that_is_not_trusted_is_refused() -> None:
    async def main() -> None:
        authority, other = Authority.create("test"), Authority.create("other")
        context = server_context(authority.issue("server", names=("127.0.0.1",), server=True))
        async with serve(Recorder(answer(200, {})), "127.0.0.1", 0, tls=context) as server:
            config = ClientConfig(server=f"https://127.0.0.1:{server.port}", ca=other.certificate)
            client = HttpsClient(config)
            try:
                with pytest.raises(ssl.SSLError):
                    await client.get(PODS, "a", "ns")
            finally:
                await client.close()

    asyncio.run(main())
