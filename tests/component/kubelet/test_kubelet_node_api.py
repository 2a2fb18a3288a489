"""The node API over a kubelet on the virtual clock."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from tiphys.base.http.types import Handler, Request
from tiphys.client.resources import PODS
from tiphys.kubelet.server.api import NodeApi
from tiphys.runtime.measures import Usage
from tiphys.runtime.types import ExecResult

OPEN = {"authentication": {"anonymous": {"enabled": True}}, "authorization": {"mode": "AlwaysAllow"}}
Ask = Callable[..., Awaitable[tuple[int, str]]]


def asking(handler: Handler) -> Ask:
    async def ask(path: str, method: str = "GET", body: bytes = b"", **query: str) -> tuple[int, str]:
        response = await handler(Request(method, path, urlencode(query), body=body))
        if response.stream is None:
            return response.status, response.body.decode()
        return response.status, b"".join([chunk async for chunk in response.stream]).decode()

    return ask


def served(node: Any, scenario: Callable[[NodeApi, Ask], Awaitable[None]], **fields: Any) -> None:
    """Run `scenario` against a kubelet whose configuration has these fields; the pod "web" runs."""
    node.config = replace(node.config, extra={**OPEN, **fields})
    node.runtime.used = Usage(3_000_000_000, 5000, 4000, 2, time=1000.0)

    async def main() -> None:
        async with node.running() as kubelet:
            await node.create(node.web)
            await node.until(node.is_phase("Running"))
            api = NodeApi(kubelet)
            await scenario(api, asking(api.handle))

    node.clock.run(main())


@pytest.fixture
def node(node: Any, pod: Any) -> Any:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    node.web = pod(containers=[{"livenessProbe": probe}])
    return node


def test_pods_are_shown_with_the_status_that_the_kubelet_knows(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        status, body = await ask("/pods")
        (found,) = json.loads(body)["items"]
        assert (status, found["status"]["phase"]) == (200, "Running")
        (running,) = json.loads((await ask("/runningpods/"))[1])["items"]
        assert [one["name"] for one in running["spec"]["containers"]] == ["main"]

    served(node, scenario)


def test_health_is_told_whole_or_check_by_check(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        assert await ask("/healthz") == (200, "ok")
        assert await ask("/healthz/syncloop") == (200, "ok")
        assert (await ask("/healthz", verbose=""))[1].endswith("[+]syncloop ok\nhealthz check passed\n")
        assert (await ask("/healthz/nope"))[0] == 404
        api._kubelet.started.clear()
        status, body = await ask("/healthz")
        assert status == 500
        assert "[-]syncloop failed: reason withheld" in body
        assert 'kubernetes_healthcheck{name="syncloop",type="healthz"} 0' in (await ask("/metrics/slis"))[1]

    served(node, scenario)


def test_what_pods_and_containers_do_is_counted(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        await node.clock.sleep(3)
        node.runtime.exit("main", 3)
        await node.until(lambda: node.status(container="main")["restartCount"] == 1)
        page = (await ask("/metrics"))[1]
        for line in (
            'kubelet_started_containers_total{container_type="container"} 2',
            'kubelet_terminated_containers_total{container_type="container",exit_code="3",reason="Error"} 1',
            "kubelet_started_pods_total 1",
            'kubelet_running_containers{container_state="running"} 1',
            "kubelet_pod_start_duration_seconds_count 1",
            'kubelet_desired_pods{static=""} 1',
            'kubelet_working_pods{lifecycle="sync",config="desired",static="false"} 1',
            "kubelet_mirror_pods 0",
            'kubelet_runtime_operations_total{operation_type="start_container"} 2',
            'kubelet_http_requests_total{method="GET",path="metrics",server_type="readwrite",long_running="false"} 1',
        ):
            assert f"{line}\n" in page
        probes = (await ask("/metrics/probes"))[1]
        assert 'prober_probe_total{probe_type="Liveness",result="successful",container="main",pod="web"' in probes

    served(node, scenario)


def test_series_of_a_pod_go_with_it(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        await node.clock.sleep(3)
        assert 'pod="web"' in (await ask("/metrics/probes"))[1]
        await node.api.delete(PODS, "web", "default", grace_seconds=1)
        await node.until(node.gone)
        await node.clock.sleep(3)
        assert 'pod="web"' not in (await ask("/metrics/probes"))[1]

    served(node, scenario)


def test_statistics_and_metrics_of_resources_agree(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        document = json.loads((await ask("/stats/summary"))[1])
        (found,) = document["pods"]
        assert found["containers"][0]["memory"]["workingSetBytes"] == 4000
        assert found["containers"][0]["rootfs"]["usedBytes"] == 8192
        page = (await ask("/metrics/resource"))[1]
        assert 'container_memory_working_set_bytes{container="main",namespace="default",pod="web"} 4000' in page
        only = json.loads((await ask("/stats/summary", only_cpu_and_memory="true"))[1])
        assert "network" not in only["pods"][0]

    served(node, scenario)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/containerLogs/default/nope/main", 404, 'pod "nope" does not exist'),
        ("/containerLogs/default/web/nope", 404, 'container "nope" not found in pod "web"'),
        ("/containerLogs/default/web", 404, "404 page not found"),
        ("/exec/default/nope/main?output=1&command=ls", 404, "pod does not exist"),
        ("/exec/default/web/nope?output=1&command=ls", 500, 'container not found ("nope")'),
        ("/exec/default/web/main?command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/attach/default/web/nope?output=1", 500, 'container not found ("nope")'),
        ("/portForward/default/nope", 404, "pod does not exist"),
        ("/portForward/default/web/other-uid", 404, "pod not found"),
        ("/readyz", 404, "404 page not found"),
        ("/metrics/nope", 404, "404 page not found"),
        ("/debug/pprof/nope", 404, "Unknown profile"),
    ],
)
def test_refusals_are_in_the_words_of_the_reference(node: Any, path: str, status: int, text: str) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        plain, _, query = path.partition("?")
        pairs = dict(pair.split("=") for pair in query.split("&") if pair)
        assert await ask(plain, **pairs) in ((status, text), (status, f"{text}\n"))

    served(node, scenario)


def test_checkpoints_are_refused_aloud(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        status, text = await ask("/checkpoint/default/web/main", "POST")
        assert status == 500
        assert text.startswith("checkpointing of default/web/main failed (rpc error: code = Unimplemented")
        assert await ask("/checkpoint/default/web/nope", "POST") == (404, "container nope does not exist")

    served(node, scenario)


def test_commands_are_run_and_their_failure_told(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        node.runtime.exec_results["echo hi"] = ExecResult(0, b"hi\n", b"")
        node.runtime.exec_results["false"] = ExecResult(1, b"", b"no")
        assert await ask("/run/default/web/main", "POST", cmd="echo hi") == (200, "hi\n")
        assert await ask("/run/default/web/main", "POST", cmd="false") == (500, "command 'false' exited with 1: no")

    served(node, scenario)


def test_debugging_can_be_turned_off(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        for path in ("/containerLogs/default/web/main", "/exec/default/web/main", "/logs/", "/runningpods/"):
            assert await ask(path) == (405, "Debug endpoints are disabled.\n")
        assert await ask("/debug/pprof/") == (405, "profiling endpoint is disabled.\n")
        assert (await ask("/pods"))[0] == 200

    served(node, scenario, enableDebuggingHandlers=False, enableProfilingHandler=False)


def test_the_read_only_port_serves_no_more_than_upstreams(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        ask = asking(api.open)
        for path in ("/healthz", "/pods", "/metrics", "/metrics/resource", "/stats/summary"):
            assert (await ask(path))[0] == 200
        for path in ("/configz", "/runningpods/", "/exec/default/web/main", "/logs/", "/debug/pprof/"):
            assert (await ask(path))[0] == 404

    served(node, scenario, authentication={}, authorization={})


def test_the_port_of_health_serves_health_alone(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        ask = asking(api.health)
        assert await ask("/healthz") == (200, "ok")
        assert (await ask("/healthz/nope"))[0] == 404
        assert (await ask("/pods"))[0] == 404

    served(node, scenario, authentication={}, authorization={})


def test_the_configuration_in_effect_is_shown(node: Any) -> None:
    async def scenario(api: NodeApi, ask: Ask) -> None:
        shown = json.loads((await ask("/configz"))[1])["kubeletconfig"]
        assert shown["authorization"]["mode"] == "AlwaysAllow"
        assert shown["containerLogMaxFiles"] == 7
        assert shown["streamingConnectionIdleTimeout"] == "4h0m0s"
        assert shown["clusterDNS"] == ["10.96.0.10"]

    served(node, scenario, containerLogMaxFiles=7)
