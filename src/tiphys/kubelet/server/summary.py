"""/stats/summary: a sample as the JSON of k8s.io/kubelet/pkg/apis/stats/v1alpha1. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.kubelet.podspec import name_of, namespace_of, uid_of
from tiphys.kubelet.server.sample import ContainerSample, FileSystem, NodeSample, PodSample, Rates, VolumeSample
from tiphys.runtime.measures import DiskUsage, Interface, Pressure, Stall, Usage

Json = dict[str, Any]


def summary(sample: NodeSample, rates: Rates, *, only_cpu_and_memory: bool = False) -> Json:
    """The whole document; `only_cpu_and_memory` leaves out everything else."""
    now = rfc3339(sample.time)
    node: Json = {
        "nodeName": sample.name,
        "systemContainers": [
            {"name": name, "startTime": rfc3339(sample.started_at), **_compute(usage, rates.of(name), limited=False)}
            for name, usage in sample.groups.items()
        ],
        "startTime": rfc3339(sample.started_at),
        **_compute(sample.usage, rates.of("/"), capacity=sample.memory_capacity),
    }
    if only_cpu_and_memory:
        for one in (node, *node["systemContainers"]):
            one.pop("io", None)
            one.pop("swap", None)
        return {"node": node, "pods": [_pod(one, sample, rates, only=True) for one in sample.pods]}
    node["swap"] = _swap(sample.usage, sample.swap_capacity, now)
    node["network"] = _network(sample.interfaces, now)
    if sample.filesystem is not None and sample.images is not None:
        node["fs"] = _room(sample.filesystem, now)
        images = {**_room(sample.images, now), "usedBytes": sample.images_used}
        node["runtime"] = {"imageFs": images, "containerFs": _room(sample.images, now)}
        node["rlimit"] = {"time": now, "maxpid": sample.pid_max, "curproc": sample.processes}
    return {"node": node, "pods": [_pod(one, sample, rates, only=False) for one in sample.pods]}


def _pod(pod: PodSample, node: NodeSample, rates: Rates, *, only: bool) -> Json:
    now = rfc3339(node.time)
    found: Json = {
        "podRef": {"name": name_of(pod.pod), "namespace": namespace_of(pod.pod), "uid": uid_of(pod.pod)},
        "startTime": rfc3339(pod.started_at),
        "containers": [_container(one, node, rates, only=only) for one in pod.containers],
    }
    if pod.usage is not None:
        found |= _compute(pod.usage, rates.of(pod.cgroup))
        found["process_stats"] = {"process_count": pod.usage.pids}
        found["swap"] = _swap(pod.usage, 0, now)
    if only:
        return {key: value for key, value in found.items() if key not in ("io", "swap", "process_stats")}
    if pod.interfaces:
        found["network"] = _network(pod.interfaces, now)
    if pod.volumes:
        found["volume"] = [_volume(one, pod, now) for one in pod.volumes]
    if node.filesystem is not None:
        found["ephemeral-storage"] = _files(node.filesystem, ephemeral(pod), now)
    return found


def ephemeral(pod: PodSample) -> DiskUsage:
    """What a pod takes of the node's disk: what its containers wrote, their logs, its volumes that live there."""
    parts = [part for one in pod.containers for part in (one.rootfs, one.logs) if part is not None]
    parts += [volume.used for volume in pod.volumes if volume.counts]
    return DiskUsage(sum(part.bytes for part in parts), sum(part.inodes for part in parts))


def _container(one: ContainerSample, node: NodeSample, rates: Rates, *, only: bool) -> Json:
    now = rfc3339(node.time)
    found: Json = {
        "name": one.name,
        "startTime": rfc3339(one.record.started_at),
        **_compute(one.usage, rates.of(one.record.id), limit=one.memory_limit),
    }
    if only:
        found.pop("io", None)
        return found
    if node.images is not None and node.filesystem is not None and one.rootfs is not None and one.logs is not None:
        found["rootfs"] = _files(node.images, one.rootfs, now)
        found["logs"] = _files(node.filesystem, one.logs, now)
    found["swap"] = _swap(one.usage, 0, now)
    return found


def _compute(
    usage: Usage, rate: int | None, *, capacity: int = 0, limit: int | None = None, limited: bool = True
) -> Json:
    """cpu, memory and io. Available is what a limit leaves; `capacity` is one that always holds."""
    now = rfc3339(usage.time)
    cpu: Json = {"time": now, "usageNanoCores": rate, "usageCoreNanoSeconds": usage.cpu_nanoseconds}
    memory: Json = {
        "time": now,
        "availableBytes": _available(usage, capacity or (usage.memory_limit if limit is None else limit)),
        "usageBytes": usage.memory_bytes,
        "workingSetBytes": usage.memory_working_set,
        "rssBytes": usage.rss,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
    }
    if not limited:
        del memory["availableBytes"]
    found: Json = {"cpu": _known(cpu), "memory": _known(memory)}
    if usage.pressure:
        for name in ("cpu", "memory"):
            if name in usage.pressure:
                found[name]["psi"] = _pressure(usage.pressure[name])
        if "io" in usage.pressure:
            found["io"] = {"time": now, "psi": _pressure(usage.pressure["io"])}
    return found


def _available(usage: Usage, limit: int) -> int | None:
    return max(0, limit - usage.memory_working_set) if limit else None


def _pressure(pressure: Pressure) -> Json:
    return {"full": _stall(pressure.full), "some": _stall(pressure.some)}


def _stall(stall: Stall) -> Json:
    return {
        "total": stall.total * 1000,
        "avg10": stall.avg10,
        "avg60": stall.avg60,
        "avg300": stall.avg300,
    }


def _swap(usage: Usage, capacity: int, now: str) -> Json:
    return {"time": now, "swapAvailableBytes": max(0, capacity - usage.swap), "swapUsageBytes": usage.swap}


def _network(interfaces: Iterable[Interface], now: str) -> Json:
    shown = [
        {
            "name": one.name,
            "rxBytes": one.rx_bytes,
            "rxErrors": one.rx_errors,
            "txBytes": one.tx_bytes,
            "txErrors": one.tx_errors,
        }
        for one in interfaces
    ]
    first: Json = next((one for one in shown if one["name"] == "eth0"), {"name": ""})
    return {"time": now, **first, "interfaces": shown}


def _room(room: FileSystem, now: str) -> Json:
    return {
        "time": now,
        "availableBytes": room.available,
        "capacityBytes": room.capacity,
        "usedBytes": room.used,
        "inodesFree": room.inodes_free,
        "inodes": room.inodes,
        "inodesUsed": room.inodes - room.inodes_free,
    }


def _files(room: FileSystem, used: DiskUsage, now: str) -> Json:
    """Of a part of a file system."""
    return {**_room(room, now), "usedBytes": used.bytes, "inodesUsed": used.inodes}


def _volume(volume: VolumeSample, pod: PodSample, now: str) -> Json:
    found = {**_files(volume.filesystem, volume.used, now), "name": volume.name}
    if volume.claim:
        found["pvcRef"] = {"name": volume.claim, "namespace": namespace_of(pod.pod)}
    return found


def _known(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None}
