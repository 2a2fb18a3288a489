"""What is answered over HTTP: at health check node ports, at /healthz and /livez, at /metrics and /proxyMode."""

from __future__ import annotations

import json
from collections.abc import Callable

import orjson

from tiphys.base.clock import Clock
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.metrics import CONTENT_TYPE, Counter, Registry
from tiphys.proxy.health.state import ProxyHealth

_JSON = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
WEIGHT = "X-Load-Balancing-Endpoint-Weight"
MODE = b"nftables"


def of_service(namespace: str, name: str, endpoints: int, *, healthy: bool) -> Response:
    """What a load balancer is told of a Service on this node: 200 if it has endpoints here (KEP-1669)."""
    body = (
        "{\n"
        '\t"service": {\n'
        f'\t\t"namespace": {json.dumps(namespace)},\n'
        f'\t\t"name": {json.dumps(name)}\n'
        "\t},\n"
        f'\t"localEndpoints": {endpoints},\n'
        f'\t"serviceProxyHealthy": {str(healthy).lower()}\n'
        "}"
    )
    headers = {**_JSON, WEIGHT: str(endpoints)}
    return Response(200 if endpoints and healthy else 503, headers=headers, body=body.encode())


def health_handler(health: ProxyHealth, clock: Clock, healthz: Counter, livez: Counter) -> Handler:
    """Of kube-proxy's port 10256; answers are counted by their status."""
    paths = {"/healthz": (health.healthz, healthz), "/livez": (health.livez, livez)}

    async def answer(request: Request) -> Response:
        found = paths.get(request.path)
        if found is None:
            return _not_found()
        ask, counter = found
        fine, body = ask(clock.time())
        status = 200 if fine else 503
        counter.inc(str(status))
        return Response(status, headers=dict(_JSON), body=orjson.dumps(body))

    return answer


def metrics_handler(registry: Registry, configuration: Callable[[], object] | None = None) -> Handler:
    """Of kube-proxy's port 10249. `configuration` is what /configz shows, a KubeProxyConfiguration."""

    async def answer(request: Request) -> Response:
        match request.path:
            case "/metrics":
                return Response(headers={"Content-Type": CONTENT_TYPE}, body=registry.render())
            case "/proxyMode":
                return Response(headers=dict(_TEXT), body=MODE)
            case "/healthz":
                return Response(headers=dict(_TEXT), body=b"ok")
            case "/configz" if configuration is not None:
                body = {"kubeproxy.config.k8s.io": configuration()}
                return Response(headers={"Content-Type": "application/json"}, body=orjson.dumps(body))
            case _:
                return _not_found()

    return answer


def _not_found() -> Response:
    return Response(404, headers=dict(_TEXT), body=b"404 page not found\n")
