"""/healthz, /livez and what load balancers are told: states and answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tiphys.base.http.types import Request, Response
from tiphys.base.metrics import Registry
from tiphys.proxy.health import answers
from tiphys.proxy.health.state import TO_BE_DELETED, ProxyHealth
from tiphys.proxy.metrics import ProxyMetrics
from tiphys.testing.clock import VirtualClock

START = 1_700_000_000.0


def node(*taints: str, deleted: bool = False) -> dict[str, Any]:
    metadata = {"name": "n1", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})}
    return {"metadata": metadata, "spec": {"taints": [{"key": key} for key in taints]}}


@pytest.fixture
def health() -> ProxyHealth:
    made = ProxyHealth(timeout=10)
    made.node_is(node())
    return made


def test_a_proxy_that_has_not_synced_yet_is_healthy(health: ProxyHealth) -> None:
    fine, body = health.livez(START)
    assert fine
    assert body == {"lastUpdated": "2023-11-14T22:13:20Z", "currentTime": "2023-11-14T22:13:20Z", "healthy": True}


def test_nothing_to_do_keeps_it_healthy(health: ProxyHealth) -> None:
    health.updated("IPv4", START)
    fine, body = health.livez(START + 3600.25)
    assert fine
    assert body["lastUpdated"] == body["currentTime"] == "2023-11-14T23:13:20.25Z"
    assert body["status"] == {"IPv4": {"lastUpdated": "2023-11-14T22:13:20Z", "healthy": True}}


def test_a_change_that_waits_too_long_makes_its_family_unhealthy(health: ProxyHealth) -> None:
    health.updated("IPv4", START)
    health.updated("IPv6", START)
    health.queued("IPv6", START + 1)
    health.queued("IPv6", START + 9)
    assert health.livez(START + 10)[0]
    fine, body = health.livez(START + 11)
    assert not fine
    assert (body["healthy"], body["lastUpdated"]) == (False, "2023-11-14T22:13:20Z")
    assert [body["status"][family]["healthy"] for family in ("IPv4", "IPv6")] == [True, False]
    health.updated("IPv6", START + 12)
    assert health.livez(START + 60)[0]


@pytest.mark.parametrize(
    ("gone", "eligible"),
    [(node("other"), True), (node(TO_BE_DELETED), False), (node(deleted=True), False), (None, False)],
)
def test_a_node_that_is_to_go_fails_healthz_but_lives(
    health: ProxyHealth, gone: dict[str, Any] | None, eligible: bool
) -> None:
    health.updated("IPv4", START)
    health.node_is(gone)
    fine, body = health.healthz(START)
    assert (fine, body["nodeEligible"], body["healthy"]) == (eligible, eligible, True)
    alive, without = health.livez(START)
    assert alive
    assert "nodeEligible" not in without


def test_a_load_balancer_is_told_how_many_endpoints_are_here() -> None:
    answer = answers.of_service("shop", "front", 3, healthy=True)
    assert answer.status == 200
    assert answer.headers == {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": "3",
    }
    assert answer.body == (
        b'{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "front"\n\t},\n\t"localEndpoints": 3,\n'
        b'\t"serviceProxyHealthy": true\n}'
    )


@pytest.mark.parametrize(("endpoints", "healthy"), [(0, True), (2, False)])
def test_it_is_told_to_go_elsewhere(endpoints: int, healthy: bool) -> None:
    answer = answers.of_service("shop", "front", endpoints, healthy=healthy)
    assert answer.status == 503
    assert json.loads(answer.body)["serviceProxyHealthy"] is healthy


def ask(handler: Any, path: str) -> Response:
    answer: Response = asyncio.run(handler(Request("GET", path)))
    return answer


def test_the_health_port_answers_and_counts(health: ProxyHealth) -> None:
    metrics = ProxyMetrics(Registry())
    clock = VirtualClock(START)
    handler = answers.health_handler(health, clock, metrics.healthz, metrics.livez)
    assert (ask(handler, "/healthz").status, ask(handler, "/livez").status) == (200, 200)
    health.node_is(None)
    assert (ask(handler, "/healthz").status, ask(handler, "/livez").status) == (503, 200)
    assert ask(handler, "/").status == 404
    told = metrics.registry.render().decode()
    assert 'kubeproxy_proxy_healthz_total{code="503"} 1\n' in told
    assert 'kubeproxy_proxy_livez_total{code="200"} 2\n' in told


def test_the_metrics_port_tells_mode_metrics_and_configuration() -> None:
    metrics = ProxyMetrics(Registry())
    metrics.changed("service")
    metrics.synced("IPv4", START, 0.004, full=True, triggers=(START - 0.3, START - 70))
    handler = answers.metrics_handler(metrics.registry, lambda: {"mode": "nftables"})
    assert ask(handler, "/proxyMode").body == b"nftables"
    assert ask(handler, "/healthz").body == b"ok"
    assert json.loads(ask(handler, "/configz").body) == {"kubeproxy.config.k8s.io": {"mode": "nftables"}}
    told = ask(handler, "/metrics").body.decode()
    assert "kubeproxy_sync_proxy_rules_service_changes_pending 0\n" in told
    assert "kubeproxy_sync_proxy_rules_service_changes_total 1\n" in told
    assert 'kubeproxy_sync_full_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 1\n' in told
    assert 'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.5"} 1\n' in told
    assert 'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 2\n' in told
    assert ask(handler, "/nothing").status == 404
