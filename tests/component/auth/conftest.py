"""API servers on real sockets with TLS, started as the command line starts them, and services that they ask."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.apiserver import serve
from tiphys.base.clock import SystemClock
from tiphys.base.http.client import ClientResponse, HttpClient
from tiphys.base.http.server import serve as listen
from tiphys.base.http.types import Request, Response
from tiphys.base.tls import Authority, KeyPair, client_context, server_context

TOKEN = "secret"


@dataclass
class Secured:
    """A running API server; `authority` is its own."""

    port: int
    directory: Path
    authority: Authority

    async def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        pair: KeyPair | None = None,
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> ClientResponse:
        """One request over TLS."""
        head = {"Content-Type": "application/json", **(headers or {})}
        if token:
            head["Authorization"] = f"Bearer {token}"
        tls = client_context(self.authority.certificate, pair)
        async with HttpClient(f"https://127.0.0.1:{self.port}", tls=tls) as client:
            return await client.request(
                method, path, headers=head, body=orjson.dumps(body) if body is not None else b""
            )

    async def user(self, **how: Any) -> dict[str, Any]:
        """Whom the server takes the asker for; the Status of a refusal."""
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        body = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
        answer: dict[str, Any] = orjson.loads((await self.ask(path, method="POST", body=body, **how)).body)
        return answer["status"]["userInfo"] if answer.get("kind") == "SelfSubjectReview" else answer


@dataclass
class Service:
    """An HTTPS service that answers with what `answer` makes of a request, and remembers what it was asked."""

    answer: Callable[[Request], Any]
    authority: Authority = field(default_factory=lambda: Authority.create("service"))
    asked: list[Request] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        found = self.answer(request)
        if isinstance(found, Response):
            return found
        return Response(200, {"Content-Type": "application/json"}, orjson.dumps(found))

    def kubeconfig(self, path: Path) -> Path:
        import base64

        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self.authority.certificate).decode(),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "s", "cluster": cluster}],
            "users": [{"name": "s", "user": {"token": "mine"}}],
            "contexts": [{"name": "s", "context": {"cluster": "s", "user": "s"}}],
            "current-context": "s",
        }
        path.write_bytes(orjson.dumps(config))
        return path


@contextlib.asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Service]:
    pair = service.authority.issue("localhost", names=("localhost", "127.0.0.1"), server=True)
    async with listen(service.handle, "127.0.0.1", 0, tls=server_context(pair)) as server:
        service.url = f"https://localhost:{server.port}"
        yield service


@contextlib.asynccontextmanager
async def secured(directory: Path, *flags: str) -> AsyncIterator[Secured]:
    import argparse

    parser = argparse.ArgumentParser()
    serve.add_flags(parser)
    tokens = directory / "tokens.csv"
    tokens.write_text(f'{TOKEN},admin,1,"system:masters"\nplain,bob,2\n')
    data = directory / "data"
    options = parser.parse_args(
        [
            f"--data-dir={data}", "--secure-port=0", "--bind-address=127.0.0.1", f"--token-auth-file={tokens}",
            *flags,
        ]
    )  # fmt: skip
    async with serve.serving(options, SystemClock()) as (_server, port):
        yield Secured(port, directory, Authority.load(data / "pki" / "ca.crt", data / "pki" / "ca.key"))


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Any]:
    """A context manager: an API server with these flags."""

    def make(*flags: str) -> Any:
        return secured(tmp_path, *flags)

    return make


@pytest.fixture
def remote() -> Callable[[Callable[[Request], Any]], Any]:
    """A context manager: a service that gives these answers."""

    def make(answer: Callable[[Request], Any]) -> Any:
        return serving(Service(answer))

    return make
