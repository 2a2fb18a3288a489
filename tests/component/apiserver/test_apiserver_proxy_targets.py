"""The proxy subresources reach pods and nothing else, whatever names, statuses and slices say."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import quote

import pytest

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.podproxy import _rest, _through
from tiphys.apiserver.proxyable import proxyable
from tiphys.base.clock import SystemClock
from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.client.types import Resource
from tiphys.store.memory import MemoryStore

ADMIN = User("admin", groups=("system:masters",))
PODS, SERVICES, ACCOUNTS = (Resource("", "v1", name) for name in ("pods", "services", "serviceaccounts"))
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")


def ask(path: str, ip: str = "10.1.2.3", endpoint: dict[str, Any] | None = None) -> tuple[int, list[str]]:
    """The answer's status for `path`, and what a server on the loopback address was asked meanwhile; {port} is its
    port."""
    asked: list[str] = []

    async def internal(request: Request) -> Response:
        asked.append(request.path)
        return Response(200, body=b"secret")

    async def main() -> int:
        async with (
            ApiServer(ApiServerConfig(), MemoryStore(), SystemClock()) as server,
            serve(internal, "127.0.0.1", 0) as inside,
        ):
            client = LocalClient(server.handler, ADMIN)
            await client.create(ACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
            meta = {"name": "p", "namespace": "default"}
            spec = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": inside.port}]}]}
            made = await client.create(PODS, {"metadata": meta, "spec": spec})
            status = {"podIP": ip, "podIPs": [{"ip": ip}]}
            await client.update(PODS, {**made, "status": status}, subresource="status")
            service = {"metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
            await client.create(SERVICES, service)
            piece = {
                "metadata": {**meta, "labels": {"kubernetes.io/service-name": "s"}},
                "addressType": "IPv4",
                "ports": [{"name": "", "port": inside.port}],
                "endpoints": [endpoint or {"addresses": ["10.9.9.9"]}],
            }
            await client.create(SLICES, piece)
            raw = path.replace("{port}", str(inside.port))
            from urllib.parse import unquote

            request = Request("GET", unquote(raw), raw_path=raw, user=ADMIN)
            async with asyncio.timeout(5):
                return (await server.handler(request)).status

    return asyncio.run(main()), asked


def test_a_port_cannot_carry_another_host() -> None:
    for port in ("80@127.0.0.1:{port}", "80@127.0.0.1", "1/../x", "http", "0", "65536", "٣", "-1"):
        name = quote(f"http:p:{port}", safe="{}")
        assert ask(f"/api/v1/namespaces/default/pods/{name}/proxy/") in ((400, []), (404, [])), port


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254"])
def test_a_pods_status_cannot_lead_to_the_servers_own_addresses(ip: str) -> None:
    assert ask("/api/v1/namespaces/default/pods/p/proxy/", ip) == (400, [])


@pytest.mark.parametrize(
    "endpoint",
    [
        {"addresses": ["10.9.9.9"]},
        {"addresses": ["10.9.9.9"], "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}},
        {"addresses": ["10.1.2.3"], "targetRef": {"kind": "Pod", "namespace": "other", "name": "p"}},
        {"addresses": ["10.1.2.3"], "targetRef": {"kind": "Node", "name": "p"}},
    ],
)
def test_endpoints_that_are_no_pods_are_not_proxied_to(endpoint: dict[str, Any]) -> None:
    assert ask("/api/v1/namespaces/default/services/s/proxy/", endpoint=endpoint) == (503, [])


def test_addresses() -> None:
    good = ("10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd00::1")
    bad = ("", "x", "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "ff02::1")
    assert [address for address in (*good, *bad, "::ffff:127.0.0.1") if proxyable(address)] == list(good)


@pytest.mark.parametrize(
    ("raw", "namespace", "rest"),
    [
        ("/api/v1/namespaces/proxy/pods/p/proxy/a%2Fb/c", "proxy", "/a%2Fb/c"),
        ("/api/v1/nodes/proxy/proxy/stats", "", "/stats"),
        ("/api/v1/nodes/n/prox%79/stats", "", "/stats"),
        ("/api/v1/nodes/n/proxy", "", "/"),
    ],
)
def test_what_follows_proxy_is_passed_on_as_it_came(raw: str, namespace: str, rest: str) -> None:
    from types import SimpleNamespace

    call: Any = SimpleNamespace(request=Request("GET", raw, raw_path=raw), namespace=namespace)
    call.info = SimpleNamespace(rest="")
    assert _rest(call) == rest


def test_a_pods_certificate_is_taken_as_it_is() -> None:
    from types import SimpleNamespace

    call: Any = SimpleNamespace(request=Request("GET", "/api/v1/namespaces/n/pods/https:p:/proxy/x"), namespace="n")
    call.info = SimpleNamespace(rest="x")
    secure, plain = (_through(call, f"{scheme}://10.1.2.3:443") for scheme in ("https", "http"))
    assert secure.tls is not None
    assert secure.tls.verify_mode is ssl.CERT_NONE
    assert plain.tls is None


def test_impersonation_ends_at_this_server() -> None:
    from tiphys.apiserver.authz import AlwaysAllow
    from tiphys.apiserver.impersonate import impersonate
    from tiphys.apiserver.types import RequestInfo

    async def seen(request: Request) -> Response:
        return Response(200, body=" ".join(sorted(request.headers)).encode())

    async def main() -> Response:
        headers = {"impersonate-user": "jane", "impersonate-group": "a", "impersonate-extra-x": "y", "accept": "z"}
        request = Request("GET", "/", headers=headers, user=ADMIN, attributes={"info": RequestInfo("get", "/")})
        answer = await impersonate(AlwaysAllow())(seen)(request)
        assert request.user is not None
        assert request.user.name == "jane"
        return answer

    assert asyncio.run(main()).body == b"accept"
