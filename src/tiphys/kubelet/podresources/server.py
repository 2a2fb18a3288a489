"""Serves the pod resources API at ROOT_DIR/pod-resources/kubelet.sock; see protocol.py.

Cores and memory come from whoever manages them (`Exclusive`); without managers there are none to tell.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tiphys.base.clock import Clock
from tiphys.base.grpc.server import UnixServer
from tiphys.base.grpc.types import Code, Content, RpcError
from tiphys.base.metrics import Registry
from tiphys.kubelet.devices.manager import DeviceManager
from tiphys.kubelet.podresources import protocol
from tiphys.kubelet.podresources.limit import TokenBucket
from tiphys.kubelet.podspec import (
    Object,
    init_containers,
    is_sidecar,
    is_terminal,
    main_containers,
    name_of,
    namespace_of,
    uid_of,
)

log = logging.getLogger(__name__)

QPS, BURST = 100.0, 10


class Exclusive(Protocol):
    """What containers have of cores and memory for themselves: asked of the cpu and memory managers."""

    def cpus(self, uid: str, container: str) -> Sequence[int]:
        """Cores that the container has for itself; () when it shares."""
        ...

    def allocatable_cpus(self) -> Sequence[int]: ...

    def memory(self, uid: str, container: str) -> Sequence[tuple[str, int, tuple[int, ...]]]:
        """(memory or hugepages-SIZE, bytes, NUMA nodes) of each block."""
        ...

    def allocatable_memory(self) -> Sequence[tuple[str, int, tuple[int, ...]]]: ...


class NoExclusive:
    """Nobody has anything for himself."""

    def cpus(self, uid: str, container: str) -> Sequence[int]:
        return ()

    def allocatable_cpus(self) -> Sequence[int]:
        return ()

    def memory(self, uid: str, container: str) -> Sequence[tuple[str, int, tuple[int, ...]]]:
        return ()

    def allocatable_memory(self) -> Sequence[tuple[str, int, tuple[int, ...]]]:
        return ()


class PodResources:
    """`pods` gives the node's pods; `claims(pod, container)` their dynamic resources as messages."""

    def __init__(
        self,
        root_dir: Path,
        clock: Clock,
        devices: DeviceManager,
        pods: Callable[[], Iterable[Object]],
        claims: Callable[[Object, Object], list[dict[str, Any]]],
        exclusive: Exclusive,
        metrics: Registry,
    ) -> None:
        self._path = root_dir / "pod-resources" / "kubelet.sock"
        self._clock = clock
        self._devices = devices
        self._pods = pods
        self._claims = claims
        self.exclusive = exclusive
        self._bucket = TokenBucket(QPS, BURST)
        counters = {
            key: metrics.counter(f"kubelet_pod_resources_endpoint_{key}", help, ("server_api_version",))
            for key, help in _COUNTERS.items()
        }
        self._count = counters

    async def run(self) -> None:
        """Until cancelled."""
        handlers = {
            protocol.LIST: self._limited(self._list),
            protocol.ALLOCATABLE: self._limited(self._allocatable),
            protocol.GET: self._limited(self._get),
            protocol.LIST_ALPHA: self._limited(self._list_alpha),
        }
        try:
            await UnixServer(self._path, handlers).run()
        except OSError as error:
            log.warning("the pod resources API is not served: %s", error)

    def _limited(self, handler: Callable[[dict[str, Any]], Content]) -> Callable[[dict[str, Any]], Awaitable[Content]]:
        async def serve(request: dict[str, Any]) -> Content:
            if not self._bucket.allow(self._clock.monotonic()):
                raise RpcError(Code.RESOURCE_EXHAUSTED, "rejected by rate limit")
            return handler(request)

        return serve

    def _list(self, request: dict[str, Any]) -> Content:
        self._count["requests_total"].inc("v1")
        self._count["requests_list"].inc("v1")
        self._devices.free_finished()
        return {"pod_resources": [self._pod(pod) for pod in self._pods() if not is_terminal(pod)]}

    def _list_alpha(self, request: dict[str, Any]) -> Content:
        self._count["requests_total"].inc("v1alpha1")
        self._devices.free_finished()
        return {"pod_resources": [self._old_pod(pod) for pod in self._pods()]}

    def _allocatable(self, request: dict[str, Any]) -> Content:
        self._count["requests_total"].inc("v1")
        self._count["requests_get_allocatable"].inc("v1")
        devices = [
            entry
            for name, pool in sorted(self._devices.pools().items())
            for entry in _devices(name, {id: pool.nodes_of(id) for id in sorted(pool.healthy)})
        ]
        memory = [_memory(*block) for block in self.exclusive.allocatable_memory()]
        return {"devices": devices, "cpu_ids": list(self.exclusive.allocatable_cpus()), "memory": memory}

    def _get(self, request: dict[str, Any]) -> Content:
        self._count["requests_total"].inc("v1")
        self._count["requests_get"].inc("v1")
        name, namespace = request["pod_name"], request["pod_namespace"]
        pod = next((one for one in self._pods() if (name_of(one), namespace_of(one)) == (name, namespace)), None)
        if pod is None:
            self._count["errors_get"].inc("v1")
            raise RpcError(Code.UNKNOWN, f"pod {name} in namespace {namespace} not found")
        return {"pod_resources": self._pod(pod)}

    def _pod(self, pod: Object) -> dict[str, Any]:
        sidecars = [container for container in init_containers(pod) if is_sidecar(container)]
        containers = [self._container(pod, container) for container in (*sidecars, *main_containers(pod))]
        return {"name": name_of(pod), "namespace": namespace_of(pod), "containers": containers}

    def _container(self, pod: Object, container: Object) -> dict[str, Any]:
        uid, name = uid_of(pod), container["name"]
        return {
            "name": name,
            "devices": self._held(uid, name),
            "cpu_ids": list(self.exclusive.cpus(uid, name)),
            "memory": [_memory(*block) for block in self.exclusive.memory(uid, name)],
            "dynamic_resources": self._claims(pod, container),
        }

    def _old_pod(self, pod: Object) -> dict[str, Any]:
        containers = [
            {"name": one["name"], "devices": _without_topology(self._held(uid_of(pod), one["name"]))}
            for one in main_containers(pod)
        ]
        return {"name": name_of(pod), "namespace": namespace_of(pod), "containers": containers}

    def _held(self, uid: str, container: str) -> list[dict[str, Any]]:
        held = self._devices.ledger.of(uid, container)
        return [entry for name, one in sorted(held.items()) for entry in _devices(name, one.devices)]


_COUNTERS = {
    "requests_total": "Cumulative number of requests to the PodResource endpoint. Broken down by server api version.",
    "requests_list": "Number of requests to the PodResource List endpoint. Broken down by server api version.",
    "requests_get_allocatable": "Number of requests to the PodResource GetAllocatableResources endpoint. Broken down "
    "by server api version.",
    "requests_get": "Number of requests to the PodResource Get endpoint. Broken down by server api version.",
    "errors_list": "Number of requests to the PodResource List endpoint which returned error. Broken down by server "
    "api version.",
    "errors_get_allocatable": "Number of requests to the PodResource GetAllocatableResources endpoint which returned "
    "error. Broken down by server api version.",
    "errors_get": "Number of requests to the PodResource Get endpoint which returned error. Broken down by server "
    "api version.",
}


def _topology(nodes: Iterable[int]) -> dict[str, Any]:
    return {"nodes": [{"ID": node} for node in nodes]}


def _devices(resource: str, devices: Mapping[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    """One entry a device and NUMA node, as upstream."""
    found: list[dict[str, Any]] = []
    for id, nodes in devices.items():
        entry = {"resource_name": resource, "device_ids": [id]}
        found += [{**entry, "topology": _topology((node,))} for node in nodes] or [entry]
    return found


def _without_topology(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "topology"} for entry in devices]


def _memory(kind: str, size: int, nodes: tuple[int, ...]) -> dict[str, Any]:
    return {"memory_type": kind, "size": size, "topology": _topology(nodes)}
