"""metrics.k8s.io as clients see it, over kubelets that are functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

from tiphys.base.http.types import Request, Response
from tiphys.client.types import Client, Resource
from tiphys.metricsserver.scraper import Scraper, origin
from tiphys.metricsserver.server import MetricsServer
from tiphys.testing.clock import VirtualClock

BASE = "/apis/metrics.k8s.io/v1beta1"


def node(name: str) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}
    return {"metadata": {"name": name, "labels": {"zone": "a"}}, "status": status}


def pod(name: str, where: str, namespace: str = "default", phase: str = "Running") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"nodeName": where}, "status": {"phase": phase}}


class Objects:
    """A client that lists; selectors are `app=NAME` and `metadata.name=NAME`."""

    def __init__(self, nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> None:
        self.nodes, self.pods = nodes, pods

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> SimpleNamespace:
        items = self.nodes if resource.plural == "nodes" else self.pods
        if namespace:
            items = [one for one in items if one["metadata"]["namespace"] == namespace]
        if labels:
            items = [one for one in items if one["metadata"]["labels"].get("app") == labels.partition("=")[2]]
        if fields:
            items = [one for one in items if one["metadata"]["name"] == fields.partition("=")[2]]
        return SimpleNamespace(items=items)


class Kubelets(Scraper):
    """Each container uses half a core, each node two."""

    def __init__(self, clock: VirtualClock, containers: Mapping[str, list[tuple[str, str, str]]]) -> None:
        super().__init__(None, clock)
        self.clock, self.containers = clock, containers
        self.asked: list[str] = []
        self.down: set[str] = set()

    async def _ask(self, node: Any) -> str:
        name = node["metadata"]["name"]
        self.asked.append(name)
        if name in self.down:
            raise OSError("connection refused")
        now = self.clock.time()
        stamp = int(now * 1000)
        lines = [f"node_cpu_usage_seconds_total {now * 2} {stamp}", f"node_memory_working_set_bytes 1048576 {stamp}"]
        for namespace, pod, container in self.containers.get(name, []):
            labels = f'container="{container}",namespace="{namespace}",pod="{pod}"'
            lines += [
                f"container_cpu_usage_seconds_total{{{labels}}} {now / 2} {stamp}",
                f"container_memory_working_set_bytes{{{labels}}} 3000 {stamp}",
                f"container_start_time_seconds{{{labels}}} 5",
            ]
        return "\n".join(lines)


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        pods = [
            pod("web", "n1"),
            pod("db", "n2"),
            pod("new", "n1"),
            pod("done", "n1", phase="Succeeded"),
            pod("web", "n2", "prod"),
        ]
        containers = {
            "n1": [("default", "web", "c"), ("default", "web", "side")],
            "n2": [("default", "db", "c"), ("prod", "web", "c")],
        }
        self.kubelets = Kubelets(self.clock, containers)
        objects = cast("Client", Objects([node("n1"), node("n2")], pods))
        self.server = MetricsServer(objects, self.kubelets, self.clock)

    async def get(self, path: str, accept: str = "", method: str = "GET", **query: str) -> tuple[int, Any]:
        request = Request(method, BASE + path, urlencode(query), {"accept": accept})
        response: Response = await self.server.handle(request)
        return response.status, json.loads(response.body)


def test_pods_are_listed_with_what_they_use() -> None:
    world = World()

    async def scenario() -> None:
        status, found = await world.get("/pods")
        assert status == 200
        assert (found["kind"], found["apiVersion"]) == ("PodMetricsList", "metrics.k8s.io/v1beta1")
        names = [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found["items"]]
        assert names == [("default", "web"), ("default", "db"), ("prod", "web")]  # "new" has no figures yet
        web = found["items"][0]
        assert web["window"] == "1s"
        assert web["metadata"]["labels"] == {"app": "web"}
        assert web["containers"] == [
            {"name": "c", "usage": {"cpu": "500m", "memory": "3000"}},
            {"name": "side", "usage": {"cpu": "500m", "memory": "3000"}},
        ]

    world.clock.run(scenario())


def test_only_the_nodes_of_the_pods_that_are_asked_for_are_looked_at() -> None:
    world = World()

    async def scenario() -> None:
        _, found = await world.get("/namespaces/default/pods", labelSelector="app=db")
        assert [one["metadata"]["name"] for one in found["items"]] == ["db"]
        assert set(world.kubelets.asked) == {"n2"}

    world.clock.run(scenario())


def test_whoever_asks_again_gets_a_longer_window_and_no_more_looks_than_needed() -> None:
    world = World()

    async def scenario() -> None:
        for _ in range(5):
            await world.get("/nodes/n1")
        assert world.kubelets.asked == ["n1", "n1"]
        await world.clock.sleep(15)
        _, found = await world.get("/nodes/n1")
        assert found["window"] == "15s"
        assert found["usage"] == {"cpu": "2", "memory": "1Mi"}
        assert world.kubelets.asked == ["n1"] * 3
        await world.clock.sleep(1000)
        _, found = await world.get("/nodes/n1")
        assert found["window"] == "1s"

    world.clock.run(scenario())


def test_a_node_that_does_not_answer_hides_no_other() -> None:
    world = World()
    world.kubelets.down.add("n1")

    async def scenario() -> None:
        _, found = await world.get("/nodes")
        assert [one["metadata"]["name"] for one in found["items"]] == ["n2"]
        status, answer = await world.get("/nodes/n1")
        assert (status, answer["message"]) == (404, 'nodemetrics.metrics.k8s.io "n1" not found')

    world.clock.run(scenario())


def test_what_is_not_there_is_told_in_the_words_of_the_reference() -> None:
    world = World()

    async def scenario() -> None:
        status, answer = await world.get("/namespaces/default/pods/new")
        assert (status, answer["message"]) == (404, 'podmetrics.metrics.k8s.io "default/new" not found')
        assert (await world.get("/pods", watch="true"))[0] == 405
        assert (await world.get("/pods", method="DELETE"))[0] == 405
        assert (await world.get("/services"))[0] == 404
        status, resources = await world.get("")
        assert {one["kind"] for one in resources["resources"]} == {"NodeMetrics", "PodMetrics"}

    world.clock.run(scenario())


def test_tables_show_the_sum_of_a_pods_containers() -> None:
    world = World()

    async def scenario() -> None:
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
        _, found = await world.get("/namespaces/default/pods", accept)
        assert [one["name"] for one in found["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
        assert found["rows"][0]["cells"] == ["web", "1", "6000", "1s"]

    world.clock.run(scenario())


def test_kubelets_are_where_their_node_says() -> None:
    assert origin(node("n1")) == "https://10.0.0.1:10250"
    other = {
        "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "fd00::1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 7}},
    }
    assert origin({"metadata": {"name": "n"}, "status": other}) == "https://[fd00::1]:7"
