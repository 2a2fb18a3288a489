"""A cluster with a Deployment `web`, autoscalers, and metrics APIs that the test answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.local import LocalClient
from tiphys.client.resources import DEPLOYMENTS, EVENTS
from tiphys.client.types import Client, Object
from tiphys.controllers.autoscaler import HORIZONTAL_POD_AUTOSCALERS
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
LABELS = {"app": "web"}
CONTROLLERS = "namespace,serviceaccount,replicaset,deployment,horizontalpodautoscaling"
PODS_PATH = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NS}/pods"
CUSTOM = "/apis/custom.metrics.k8s.io"
EXTERNAL = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{NS}/queue"

Answers = dict[str | tuple[str, str], Callable[[], Any]]
"""By path, or by path and method."""


class Measuring(LocalClient):
    """A client to whom some paths are answered by the test."""

    answers: Answers

    async def exchange(self, call: Call) -> Any:
        answer = self.answers.get((call.path, call.method)) or self.answers.get(call.path)
        answered = answer() if answer is not None else None
        return await super().exchange(call) if answered is None else answered


class Measured(Cluster):
    """A cluster with metrics servers behind it, so to speak."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock, nodes=2, controllers=CONTROLLERS)
        self.answers: Answers = {}

    def connect(self, user: User) -> Client:
        client = Measuring(self.server.handler, user)
        client.answers = self.answers
        return client

    def usage(self, millicores: int, replicas: Callable[[], list[str]]) -> None:
        """Every pod uses so much CPU."""

        def answer() -> Mapping[str, Any]:
            now = rfc3339(self.clock.time() + 600)
            items = [
                {
                    "metadata": {"name": name},
                    "timestamp": now,
                    "window": "30s",
                    "containers": [{"name": "c", "usage": {"cpu": f"{millicores}m", "memory": "100Mi"}}],
                }
                for name in replicas()
            ]
            return {"items": items}

        self.answers[PODS_PATH] = answer


def play(scenario: Callable[[Measured], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Measured(clock) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def deployment(replicas: int) -> dict[str, Any]:
    container = {"name": "c", "image": "web:1", "resources": {"requests": {"cpu": "1", "memory": "200Mi"}}}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NS}, "spec": spec}


def autoscaler(*metrics: Any, least: int = 1, most: int = 10, **spec: Any) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    bounds = {"minReplicas": least, "maxReplicas": most}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": NS},
        "spec": {"scaleTargetRef": reference, **bounds, "metrics": list(metrics) or [cpu(50)], **spec},
    }


def cpu(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def conditions(obj: Object) -> dict[str, tuple[str, str]]:
    found = (obj.get("status") or {}).get("conditions") or ()
    return {each["type"]: (each["status"], each["reason"]) for each in found}


async def start(cluster: Measured, replicas: int, wanted: dict[str, Any]) -> None:
    await cluster.client.create(DEPLOYMENTS, deployment(replicas))
    await cluster.wait(
        DEPLOYMENTS, NS, "web", lambda obj: (obj.get("status") or {}).get("availableReplicas", 0) == replicas
    )
    await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, wanted)


async def told(cluster: Measured) -> dict[str, str]:
    await cluster.clock.sleep(1)
    found = (await cluster.client.list(EVENTS, NS)).items
    return {
        each["reason"]: each["message"] for each in found if each["involvedObject"]["kind"] == "HorizontalPodAutoscaler"
    }


async def settled(cluster: Measured, replicas: int) -> Object:
    await cluster.wait(DEPLOYMENTS, NS, "web", lambda obj: obj["spec"]["replicas"] == replicas)
    return await cluster.wait(
        HORIZONTAL_POD_AUTOSCALERS, NS, "web", lambda obj: (obj.get("status") or {}).get("desiredReplicas") == replicas
    )


def listing(cluster: Measured) -> Callable[[], list[str]]:
    store = cluster.nodes._pods
    return lambda: [pod["metadata"]["name"] for pod in store.list(NS)]
