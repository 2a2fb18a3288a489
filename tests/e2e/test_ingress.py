"""Ingresses and Gateways of a real cluster: real pods behind the gateway, asked at the addresses that statuses tell."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.base.tls import Authority

pytestmark = pytest.mark.e2e
NAMESPACE = "ingress-tests"
PAGES = """
mkdir -p /www/shop && hostname >/www/index.html && echo shop >/www/shop/index.html && exec httpd -f -p 8080 -h /www
"""
SHOUT = r"""
while read -r line; do [ "$line" = "$(printf '\r')" ] && break; done
printf 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'
exec cat
"""


def pod(name: str, *command: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": "busybox", "command": [*command], "imagePullPolicy": "Never"}
    if "httpd" in command[-1]:
        container["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def service(name: str, app: str) -> dict[str, Any]:
    spec = {"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def ingress(
    name: str, host: str, *paths: tuple[str, str, str], annotations: Mapping[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    """Paths are (path, type, service)."""
    entries = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": target, "port": {"name": "http"}}}}
        for path, kind, target in paths
    ]
    named = {f"nginx.ingress.kubernetes.io/{key}": value for key, value in (annotations or {}).items()}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "annotations": named},
        "spec": {"rules": [{"host": host, "http": {"paths": entries}}], **spec},
    }


def apply(commands: Commands, *objects: Mapping[str, Any]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    commands.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(items))


@pytest.fixture(scope="module")
def site(cluster: Commands) -> Iterator[Commands]:
    """Two pods that tell their names, one that speaks another protocol after an upgrade, and Services of theirs."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    shouting = "nc", "-ll", "-p", "8080", "-e", "sh", "-c", SHOUT
    apply(cluster, pod("one", "sh", "-c", PAGES), pod("two", "sh", "-c", PAGES), pod("ws", *shouting))
    apply(cluster, *(service(name, name) for name in ("one", "two", "ws")))
    cluster.kubectl("wait", "-n", NAMESPACE, "pod", "--all", "--for=condition=Ready", "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=true")


def address(site: Commands, kind: str, name: str) -> str:
    """The one that its status tells, once it does."""
    found: list[str] = []

    def told() -> bool:
        status = site.get(kind, name, "-n", NAMESPACE).get("status") or {}
        ips = [one["ip"] for one in (status.get("loadBalancer") or {}).get("ingress") or ()]
        found[:] = ips + [one["value"] for one in status.get("addresses") or ()]
        return bool(found)

    site.until(told)
    return found[0]


def ask(
    where: str, host: str, path: str = "/", port: int = 80, **fields: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(where, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host, **fields})
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip(), answer.headers


def page(where: str, host: str, path: str = "/", port: int = 80) -> str:
    """The answer's text, or its status when it is no good; "" while nobody answers."""
    try:
        status, text, _ = ask(where, host, path, port)
    except OSError:
        return ""
    return text if status == 200 else str(status)


def test_hosts_paths_and_rewrites(site: Commands) -> None:
    apply(
        site,
        ingress(
            "plain", "plain.example", ("/", "Prefix", "one"), ("/shop", "Prefix", "two"), ("/exact", "Exact", "two")
        ),
        ingress(
            "rewritten",
            "rewritten.example",
            ("/app(/|$)(.*)", "ImplementationSpecific", "one"),
            annotations={"rewrite-target": "/$2"},
        ),
    )
    where = address(site, "ingress", "plain")
    site.until(lambda: page(where, "plain.example") == "one")
    assert page(where, "plain.example", "/shop/") == "shop"
    assert page(where, "plain.example", "/exact/no") == "404"
    assert page(where, "nobody.example") == "404"
    site.until(lambda: page(where, "rewritten.example", "/app/shop/") == "shop")
    assert page(where, "rewritten.example", "/app") == "one"


def test_tls_by_secrets_which_may_change(site: Commands, tmp_path: Path) -> None:
    authority = Authority.create("test authority")

    def store(name: str, *hosts: str) -> None:
        pair = authority.issue(name, names=hosts, server=True)
        pair.save(tmp_path / "tls.crt", tmp_path / "tls.key")
        secret = site.kubectl(
            *("create", "secret", "tls", name, "-n", NAMESPACE, "--dry-run=client", "-o", "json"),
            *("--cert", str(tmp_path / "tls.crt"), "--key", str(tmp_path / "tls.key")),
        ).stdout
        site.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=secret)

    def presented(where: str, host: str) -> str:
        """The common name of the certificate for that host, "" when it is not one of the authority's."""
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        try:
            with (
                socket.create_connection((where, 443), 5) as raw,
                context.wrap_socket(raw, server_hostname=host) as tls,
            ):
                subject: Any = tls.getpeercert() or {"subject": ()}
        except OSError:
            return ""
        return next((value for parts in subject["subject"] for key, value in parts if key == "commonName"), "")

    store("first", "tls.example")
    store("second", "*.wild.example")
    tls = [{"hosts": ["tls.example"], "secretName": "first"}, {"hosts": ["*.wild.example"], "secretName": "second"}]
    apply(site, ingress("secure", "tls.example", ("/", "Prefix", "one"), tls=tls))
    where = address(site, "ingress", "secure")
    site.until(lambda: presented(where, "tls.example") == "first")
    assert presented(where, "a.wild.example") == "second"
    assert presented(where, "other.example") == ""
    status, _, headers = ask(where, "tls.example", "/x?y")
    assert (status, headers["Location"]) == (308, "https://tls.example/x?y")
    store("third", "tls.example")
    apply(
        site,
        ingress(
            "secure", "tls.example", ("/", "Prefix", "one"), tls=[{"hosts": ["tls.example"], "secretName": "third"}]
        ),
    )
    site.until(lambda: presented(where, "tls.example") == "third")


def test_a_change_takes_effect_while_connections_live(site: Commands) -> None:
    apply(site, service("live", "one"), ingress("live", "live.example", ("/", "Prefix", "live")))
    where = address(site, "ingress", "live")
    site.until(lambda: page(where, "live.example") == "one")
    kept = http.client.HTTPConnection(where, timeout=5)
    with contextlib.closing(kept):
        kept.request("GET", "/", headers={"Host": "live.example"})
        assert kept.getresponse().read() == b"one\n"
        used = kept.sock
        apply(site, service("live", "two"))
        site.until(lambda: page(where, "live.example") == "two")
        kept.request("GET", "/", headers={"Host": "live.example"})
        assert kept.getresponse().read() == b"two\n"
        assert kept.sock is used
    site.kubectl("delete", "ingress", "live", "-n", NAMESPACE)
    site.until(lambda: page(where, "live.example") == "404")


def test_a_websocket(site: Commands) -> None:
    apply(site, ingress("ws", "ws.example", ("/", "Prefix", "ws")))
    where = address(site, "ingress", "ws")
    lines = ["GET /chat HTTP/1.1", "Host: ws.example", "Connection: Upgrade", "Upgrade: websocket", "", ""]

    def switched() -> bool:
        with socket.create_connection((where, 80), 5) as raw, raw.makefile("rb") as answers:
            raw.sendall("\r\n".join(lines).encode())
            if b"101" not in answers.readline():
                return False
            while answers.readline().strip():
                pass
            raw.sendall(b"hello\n")
            assert answers.readline() == b"hello\n"
            return True

    site.until(switched)


def test_a_gateway_shares_requests_by_weight(site: Commands) -> None:
    api = "gateway.networking.k8s.io/v1"
    listener = {"name": "http", "port": 8088, "protocol": "HTTP", "hostname": "*.gw.example"}
    spec = {"gatewayClassName": "tiphys", "listeners": [listener]}
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/moved"}}],
            "filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "new.example", "statusCode": 301}}],
        },
        {"backendRefs": [{"name": "one", "port": 80, "weight": 3}, {"name": "two", "port": 80, "weight": 1}]},
    ]
    route = {"parentRefs": [{"name": "edge"}], "hostnames": ["a.gw.example"], "rules": rules}
    apply(
        site,
        {"apiVersion": api, "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec},
        {"apiVersion": api, "kind": "HTTPRoute", "metadata": {"name": "shared"}, "spec": route},
    )
    site.kubectl("wait", "-n", NAMESPACE, "gateway/edge", "--for=condition=Programmed", "--timeout=30s")
    where = address(site, "gateway", "edge")
    site.until(lambda: page(where, "a.gw.example", port=8088) in ("one", "two"))
    answers = [page(where, "a.gw.example", port=8088) for _ in range(80)]
    assert set(answers) == {"one", "two"}
    assert 40 <= answers.count("one") <= 75
    status, _, headers = ask(where, "a.gw.example", "/moved/x", 8088)
    assert (status, headers["Location"]) == (301, "http://new.example:8088/moved/x")
    assert page(where, "b.gw.example", port=8088) == "404"
    site.kubectl("delete", "gateway", "edge", "-n", NAMESPACE)
    site.until(
        lambda: not site.get("service", "-n", NAMESPACE, "-l", "app.kubernetes.io/managed-by=tiphys-gateway")["items"]
    )


def test_the_gateway_is_a_component_that_comes_back(site: Commands) -> None:
    apply(site, ingress("back", "back.example", ("/", "Prefix", "one")))
    where = address(site, "ingress", "back")
    site.until(lambda: page(where, "back.example") == "one")

    def running() -> int:
        components = json.loads(site.tiphys("status", "e2e", "-o", "json").stdout)["components"]
        return int(next((one["pid"] for one in components if one["component"] == "gateway"), 0))

    before = running()
    assert before
    os.kill(before, signal.SIGKILL)
    site.until(lambda: page(where, "back.example") == "one", 20)
    assert running() not in (0, before)
    assert site.tiphys("logs", "gateway", "--name", "e2e", "--tail", "1").returncode == 0
