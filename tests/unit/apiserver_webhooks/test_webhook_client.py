"""WebhookClient against real HTTPS servers: who is trusted, what is refused, what it says when things go wrong."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from tiphys.apiserver.webhooks import CallFailed, Destination, ServiceResolver, WebhookClient
from tiphys.base.http.server import serve
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.tls import Authority, server_context

CA = Authority.create("webhooks")
SERVICE = "hooks.testing.svc"


class Objects:
    """A Reader of a few objects."""

    def __init__(self, objects: dict[tuple[str, str], list[dict[str, Any]]] | None = None) -> None:
        self._objects = objects or {}

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        for obj in self._objects.get((group, plural), []):
            if (obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) == (namespace, name):
                return obj
        return None

    async def wait_exists(self, *_: Any) -> None:
        return None

    def list(self, group: str, plural: str, namespace: str = "") -> list[dict[str, Any]]:
        found = self._objects.get((group, plural), [])
        return [obj for obj in found if namespace in ("", obj["metadata"].get("namespace", ""))]

    def revision(self, group: str, plural: str) -> int:
        return 1


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "hooks", "namespace": "testing"}, "spec": spec}


def outside(port: int) -> Objects:
    """The Service hooks/testing, which leads to this machine."""
    return Objects({("", "services"): [service(type="ExternalName", externalName="localhost", ports=[{"port": port}])]})


def trusted(**config: Any) -> Destination:
    return Destination.of({"caBundle": base64.b64encode(CA.certificate).decode(), **config})


async def echo(request: Request) -> Response:
    return Response(200, {"Content-Type": "application/json"}, request.body)


@asynccontextmanager
async def listening(handler: Handler, *names: str) -> Any:
    tls = server_context(CA.issue("hook", names=names or ("127.0.0.1", SERVICE), server=True))
    async with serve(handler, "127.0.0.1", 0, tls=tls) as server:
        yield server


def play(handler: Handler, scenario: Callable[[WebhookClient, int], Awaitable[None]], *names: str) -> None:
    async def main() -> None:
        async with listening(handler, *names) as server:
            client = WebhookClient(ServiceResolver(outside(server.port)))
            try:
                await scenario(client, server.port)
            finally:
                await client.close()

    asyncio.run(main())


async def failure(client: WebhookClient, to: Destination, **options: Any) -> str:
    with pytest.raises(CallFailed) as caught:
        await client.call(to, {}, timeout=options.pop("timeout", 5.0), **options)
    return str(caught.value)


def test_a_review_is_posted_and_its_answer_decoded() -> None:
    seen: list[Request] = []

    async def answer(request: Request) -> Response:
        seen.append(request)
        return await echo(request)

    async def scenario(client: WebhookClient, port: int) -> None:
        to = trusted(url=f"https://127.0.0.1:{port}/review")
        assert await client.call(to, {"kind": "X"}, timeout=9.2) == {"kind": "X"}
        assert (seen[0].method, seen[0].path, seen[0].query_string) == ("POST", "/review", "timeout=10s")
        assert seen[0].headers["content-type"] == "application/json"

    play(answer, scenario)


def test_a_service_is_reached_by_its_own_name_and_certificate() -> None:
    hosts: list[str] = []

    async def answer(request: Request) -> Response:
        hosts.append(request.headers["host"])
        return await echo(request)

    async def scenario(client: WebhookClient, port: int) -> None:
        to = trusted(service={"namespace": "testing", "name": "hooks", "port": port, "path": "/x"})
        await client.call(to, {}, timeout=5)
        assert hosts == [f"{SERVICE}:{port}"]

    play(answer, scenario, SERVICE)


def test_a_server_with_another_name_is_not_the_service() -> None:
    async def scenario(client: WebhookClient, port: int) -> None:
        to = trusted(service={"namespace": "testing", "name": "hooks", "port": port, "path": "/x"})
        text = await failure(client, to)
        assert text.startswith(
            f'Post "https://{SERVICE}:{port}/x?timeout=5s": tls: failed to verify certificate: x509: '
        )

    play(echo, scenario, "other.testing.svc", "127.0.0.1", "localhost")


def test_another_authority_is_not_trusted() -> None:
    async def scenario(client: WebhookClient, port: int) -> None:
        other = base64.b64encode(Authority.create("other").certificate).decode()
        text = await failure(client, Destination.of({"url": f"https://127.0.0.1:{port}/", "caBundle": other}))
        assert text.endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")
        text = await failure(client, Destination.of({"url": f"https://127.0.0.1:{port}/"}))
        assert text.endswith("x509: certificate signed by unknown authority")

    play(echo, scenario)


def test_connections_are_kept() -> None:
    ports: set[int] = set()

    async def answer(request: Request) -> Response:
        ports.add(request.peer.port)
        return await echo(request)

    async def scenario(client: WebhookClient, port: int) -> None:
        for _ in range(20):
            await client.call(trusted(url=f"https://127.0.0.1:{port}/"), {}, timeout=5)
        assert len(ports) == 1

    play(answer, scenario)


def test_a_server_that_hangs_is_left_after_the_timeout() -> None:
    async def hang(request: Request) -> Response:
        await asyncio.get_running_loop().create_future()
        return Response(200)

    async def scenario(client: WebhookClient, port: int) -> None:
        text = await failure(client, trusted(url=f"https://127.0.0.1:{port}/slow"), timeout=0.1)
        assert text == f'Post "https://127.0.0.1:{port}/slow?timeout=1s": context deadline exceeded'

    play(hang, scenario)


def test_an_endless_answer_is_cut() -> None:
    async def endless(request: Request) -> Response:
        async def stream() -> Any:
            while True:
                yield b"x" * 65536

        return Response(200, {"Content-Type": "application/json"}, stream=stream())

    async def scenario(client: WebhookClient, port: int) -> None:
        text = await failure(client, trusted(url=f"https://127.0.0.1:{port}/"))
        assert text.endswith("http: response body too large: more than 8388608 bytes")

    play(endless, scenario)


@pytest.mark.parametrize(
    ("status", "headers", "body", "text"),
    [
        (
            200,
            {},
            b"hello",
            "couldn't get version/kind; json parse error: invalid character 'h' looking for ",
        ),
        (200, {}, b"", "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        (200, {}, b"[]", "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value "),
        (404, {}, b"", "the server could not find the requested resource"),
        (500, {}, b"boom", 'an error on the server ("boom") has prevented the request from succeeding'),
        (302, {"Location": "http://127.0.0.1:1/"}, b"", "the server responded with the status code 302 but did not "),
        (403, {}, b'{"kind":"Status","status":"Failure","message":"go away"}', "go away"),
    ],
)
def test_answers_that_make_no_sense(status: int, headers: dict[str, str], body: bytes, text: str) -> None:
    async def answer(request: Request) -> Response:
        return Response(status, {"Content-Type": "text/plain", **headers}, body)

    async def scenario(client: WebhookClient, port: int) -> None:
        assert (await failure(client, trusted(url=f"https://127.0.0.1:{port}/"))).startswith(text)

    play(answer, scenario)


def test_nobody_listens() -> None:
    async def scenario(client: WebhookClient, port: int) -> None:
        text = await failure(client, trusted(url="https://127.0.0.1:1/x"))
        assert text == 'Post "https://127.0.0.1:1/x?timeout=5s": dial tcp 127.0.0.1:1: connect: connection refused'

    play(echo, scenario)


def test_a_connection_that_ends_early() -> None:
    async def main() -> None:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            writer.close()

        tls = server_context(CA.issue("hook", names=("127.0.0.1",), server=True))
        server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        client = WebhookClient(ServiceResolver(Objects()))
        assert (await failure(client, trusted(url=f"https://127.0.0.1:{port}/"))).endswith(": EOF")
        await client.close()
        server.close()

    asyncio.run(main())


def test_a_server_without_tls() -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server:
            client = WebhookClient(ServiceResolver(Objects()))
            text = await failure(client, trusted(url=f"https://127.0.0.1:{server.port}/"))
            assert "tls: first record does not look like a TLS handshake" in text or text.endswith("EOF")
            await client.close()

    asyncio.run(main())


def test_a_bundle_that_is_none_is_said_so() -> None:
    async def scenario(client: WebhookClient, port: int) -> None:
        garbage = base64.b64encode(b"garbage").decode()
        text = await failure(client, Destination.of({"url": f"https://127.0.0.1:{port}/", "caBundle": garbage}))
        assert text.endswith("unable to load root certificates: unable to parse bytes as PEM block")

    play(echo, scenario)


def slice_of(*addresses: str, ready: bool | None = None, name: str = "", port: int = 8443) -> dict[str, Any]:
    return {
        "metadata": {"name": "s", "namespace": "testing", "labels": {"kubernetes.io/service-name": "hooks"}},
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
    }


def resolve(service: dict[str, Any] | None, *slices: dict[str, Any], port: int = 443) -> tuple[str, int]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {("discovery.k8s.io", "endpointslices"): list(slices)}
    found["", "services"] = [service] if service else []
    return ServiceResolver(Objects(found)).resolve("testing", "hooks", port)


def test_a_service_leads_to_a_ready_endpoint() -> None:
    routed = service(ports=[{"name": "https", "port": 443}])
    slices = [slice_of("10.0.0.1", ready=False, name="https"), slice_of("10.0.0.2", ready=True, name="https")]
    assert resolve(routed, *slices) == ("10.0.0.2", 8443)
    assert resolve(service(type="ExternalName", externalName="a.example"), port=1) == ("a.example", 1)


@pytest.mark.parametrize(
    ("service", "slices", "text"),
    [
        (None, [], 'service "hooks" not found'),
        (service(ports=[{"port": 80}]), [], 'no service port 443 found for service "hooks"'),
        (service(ports=[{"port": 443}]), [], 'no endpoints available for service "hooks"'),
        (service(ports=[{"port": 443}]), [slice_of("127.0.0.1")], 'no endpoints available for service "hooks"'),
        (service(ports=[{"port": 443}]), [slice_of("169.254.169.254")], 'no endpoints available for service "hooks"'),
        (
            service(ports=[{"port": 443}]),
            [slice_of("10.0.0.1", name="b")],
            'no endpoints available for service "hooks"',
        ),
    ],
)
def test_services_that_lead_nowhere(service: Any, slices: list[Any], text: str) -> None:
    with pytest.raises(Exception, match=text):
        resolve(service, *slices)


def test_what_a_failure_says_of_a_service_that_is_not_there() -> None:
    async def main() -> None:
        client = WebhookClient(ServiceResolver(Objects()))
        to = trusted(service={"namespace": "testing", "name": "hooks", "path": "x"})
        text = await failure(client, to)
        assert text == 'Post "https://hooks.testing.svc:443/x?timeout=5s": service "hooks" not found'

    asyncio.run(main())


def test_reviews_are_encoded_once() -> None:
    async def scenario(client: WebhookClient, port: int) -> None:
        body = orjson.dumps({"a": 1})
        assert await client.post(trusted(url=f"https://127.0.0.1:{port}/"), body, timeout=5) == body

    play(echo, scenario)


def test_servers_that_were_not_asked_for_long_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiphys.apiserver.webhooks.client.MAX_SERVERS", 2)

    async def scenario(client: WebhookClient, port: int) -> None:
        for number in range(6):
            to = trusted(url=f"https://127.0.0.1:{port}/{number}")
            assert await client.call(to, {}, timeout=5) == {}
        many = [client.call(trusted(url=f"https://127.0.0.1:{port}/{n}"), {}, timeout=5) for n in range(8)]
        assert await asyncio.gather(*many) == [{}] * 8

    play(echo, scenario)
