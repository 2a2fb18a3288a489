"""What the node and its containers use: /stats/summary, /metrics/resource and /metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.base.clock import rfc3339
from tiphys.base.errors import TiphysError
from tiphys.kubelet.labels import Record
from tiphys.kubelet.machine import available_memory, disk_room
from tiphys.kubelet.podspec import Object, name_of, namespace_of, uid_of
from tiphys.runtime.types import Runtime, Usage

if TYPE_CHECKING:
    from tiphys.kubelet.app import Kubelet


@dataclass(frozen=True, slots=True)
class Sample:
    """One running container's use."""

    pod: Object
    record: Record
    usage: Usage


async def sample(kubelet: Kubelet) -> list[Sample]:
    """Of all running containers."""
    found = []
    for worker in list(kubelet.workers.values()):
        for record in worker.state.running():
            usage = await _usage(kubelet.runtime, record.id)
            if usage is not None:
                found.append(Sample(worker.state.pod, record, usage))
    return found


async def _usage(runtime: Runtime, id: str) -> Usage | None:
    try:
        return await runtime.usage(id)
    except (TiphysError, OSError):
        return None  # it has just ended


async def summary(kubelet: Kubelet) -> dict[str, Any]:
    """stats/v1alpha1 Summary, the parts that metrics-server and kubectl read."""
    now = rfc3339(kubelet.clock.time())
    samples = await sample(kubelet)
    return {"node": _node(kubelet, now), "pods": _pods(samples, now)}


def _node(kubelet: Kubelet, now: str) -> dict[str, Any]:
    memory = kubelet.agent.machine.memory
    total, free = disk_room(kubelet.config.root_dir)
    available = available_memory()
    return {
        "nodeName": kubelet.config.node_name,
        "cpu": {"time": now, "usageCoreNanoSeconds": machine_cpu()},
        "memory": {
            "time": now,
            "availableBytes": available,
            "usageBytes": memory - available,
            "workingSetBytes": memory - available,
        },
        "fs": {"time": now, "availableBytes": free, "capacityBytes": total, "usedBytes": total - free},
    }


def machine_cpu() -> int:
    """Nanoseconds that all cores were busy since the machine started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, *rest = (int(field) for field in fields)
    return (user + nice + system + sum(rest[:3])) * 10_000_000


def _pods(samples: Iterable[Sample], now: str) -> list[dict[str, Any]]:
    pods: dict[str, dict[str, Any]] = {}
    for one in samples:
        reference = {"name": name_of(one.pod), "namespace": namespace_of(one.pod), "uid": uid_of(one.pod)}
        entry = pods.setdefault(reference["uid"], {"podRef": reference, "containers": []})
        entry["containers"].append(
            {
                "name": one.record.name,
                "startTime": rfc3339(one.record.started_at),
                "cpu": {"time": now, "usageCoreNanoSeconds": one.usage.cpu_nanoseconds},
                "memory": {
                    "time": now,
                    "usageBytes": one.usage.memory_bytes,
                    "workingSetBytes": one.usage.memory_working_set,
                },
            }
        )
    for entry in pods.values():
        entry["cpu"] = {"time": now, "usageCoreNanoSeconds": _sum(entry, "cpu", "usageCoreNanoSeconds")}
        used = {name: _sum(entry, "memory", name) for name in ("usageBytes", "workingSetBytes")}
        entry["memory"] = {"time": now, **used}
    return list(pods.values())


def _sum(entry: dict[str, Any], kind: str, name: str) -> int:
    return sum(container[kind][name] for container in entry["containers"])


async def resource_metrics(kubelet: Kubelet) -> str:
    """/metrics/resource in the Prometheus text format."""
    samples = await sample(kubelet)
    memory = kubelet.agent.machine.memory - available_memory()
    lines = [
        *_head("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds"),
        f"node_cpu_usage_seconds_total {machine_cpu() / 1e9}",
        *_head("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes"),
        f"node_memory_working_set_bytes {memory}",
        *_head("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container"),
        *(f"container_cpu_usage_seconds_total{_labels(one)} {one.usage.cpu_nanoseconds / 1e9}" for one in samples),
        *_head("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes"),
        *(f"container_memory_working_set_bytes{_labels(one)} {one.usage.memory_working_set}" for one in samples),
        *_head("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds"),
        *(f"container_start_time_seconds{_labels(one)} {one.record.started_at}" for one in samples),
    ]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, help: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def _labels(one: Sample) -> str:
    names = (("container", one.record.name), ("namespace", namespace_of(one.pod)), ("pod", name_of(one.pod)))
    return "{" + ",".join(f'{name}="{value}"' for name, value in names) + "}"


def metrics(kubelet: Kubelet) -> str:
    """/metrics: the kubelet's own."""
    workers = list(kubelet.workers.values())
    running = sum(len(worker.state.running()) for worker in workers)
    pods = sum(1 for worker in workers if worker.state.running())
    lines = [
        *_head("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox"),
        f"kubelet_running_pods {pods}",
        *_head("kubelet_running_containers", "gauge", "Number of containers currently running"),
        f'kubelet_running_containers{{container_state="running"}} {running}',
        *_head("kubelet_node_name", "gauge", "The node's name. The count is always 1."),
        f'kubelet_node_name{{node="{kubelet.config.node_name}"}} 1',
    ]
    return "\n".join(lines) + "\n"
