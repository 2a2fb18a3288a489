"""/metrics: what the kubelet has counted, and what follows from its state at this moment."""

from __future__ import annotations

import gc
import os
import resource
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.base.clock import Clock
from tiphys.kubelet.podspec import Object, is_deleted, is_terminal, namespace_of
from tiphys.kubelet.server.families import Page, Sample
from tiphys.kubelet.server.sample import VolumeSample
from tiphys.kubelet.staticpods.manifest import is_static

if TYPE_CHECKING:
    from tiphys.kubelet.app import Kubelet
    from tiphys.kubelet.state import PodState

_VOLUMES = (
    ("capacity_bytes", "Capacity in bytes of the volume"),
    ("available_bytes", "Number of available bytes in the volume"),
    ("used_bytes", "Number of used bytes in the volume"),
    ("inodes", "Maximum number of inodes in the volume"),
    ("inodes_free", "Number of free inodes in the volume"),
    ("inodes_used", "Number of used inodes in the volume"),
)


def own_metrics(kubelet: Kubelet, claims: Sequence[tuple[Object, VolumeSample]], version: str) -> bytes:
    """The whole page; `claims` are volumes behind claims with their pods."""
    page = Page()
    _pods(page, kubelet)
    _wanted(page, kubelet)
    _resizes(page, kubelet)
    _claims(page, claims)
    _about(page, kubelet, version)
    _certificates(page, kubelet)
    process(page, kubelet.clock)
    return kubelet.metrics.registry.render() + page.render()


def _certificates(page: Page, kubelet: Kubelet) -> None:
    config = kubelet.config
    if config.rotate_certificates or config.server_tls_bootstrap:
        from tiphys.kubelet.certificates.lifetimes import lifetimes

        for name, help, seconds in lifetimes(config, kubelet.clock):
            page.add(name, "gauge", help, [({}, seconds)])


def _pods(page: Page, kubelet: Kubelet) -> None:
    states: Counter[str] = Counter()
    running = ephemeral = 0
    for worker in kubelet.workers.values():
        sandbox, pod = worker.state.sandbox, worker.state.pod
        running += sandbox is not None and sandbox.running
        ephemeral += len(pod["spec"].get("ephemeralContainers") or ())
        states.update(str(record.state) for record in worker.state.records.values())
    page.add("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", [({}, running)])
    shown: list[Sample] = [({"container_state": state}, states[state]) for state in sorted({*states, "running"})]
    page.add("kubelet_running_containers", "gauge", "Number of containers currently running", shown)
    help = "Current number of ephemeral containers in pods managed by this kubelet."
    page.add("kubelet_managed_ephemeral_containers", "gauge", help, [({}, ephemeral)])


def _wanted(page: Page, kubelet: Kubelet) -> None:
    """Pods by whether they are static ("true") or of the API ("")."""
    states = [worker.state for worker in kubelet.workers.values()]
    of = {label: [one for one in states if is_static(one.pod) == bool(label)] for label in ("", "true")}
    desired: list[Sample] = [({"static": label}, sum(not is_deleted(one.pod) for one in of[label])) for label in of]
    help = "The number of pods the kubelet is being instructed to run."
    page.add("kubelet_desired_pods", "gauge", help, desired)
    active: list[Sample] = [({"static": label}, sum(not is_terminal(one.pod) for one in of[label])) for label in of]
    help = "The number of pods the kubelet considers active and which are being considered when admitting new pods."
    page.add("kubelet_active_pods", "gauge", help, active)
    help = "The number of mirror pods the kubelet will try to create (one per admitted static pod)"
    page.add("kubelet_mirror_pods", "gauge", help, [({}, sum(one.rejection is None for one in of["true"]))])
    working = Counter(
        (lifecycle(one), "orphan" if one.removed else "desired", str(is_static(one.pod)).lower()) for one in states
    )
    names = ("lifecycle", "config", "static")
    shown: list[Sample] = [(dict(zip(names, labels, strict=True)), count) for labels, count in sorted(working.items())]
    help = (
        "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, "
    )
    help += "orphaned, or runtime only (also orphaned), and whether the pod is static."
    page.add("kubelet_working_pods", "gauge", help, shown)


def lifecycle(state: PodState) -> str:
    """Where a pod's work stands: sync, terminating (its containers are being stopped), terminated (cleaning up)."""
    if state.complete:
        return "terminated"
    return "terminating" if is_deleted(state.pod) or state.removed or state.verdict is not None else "sync"


def _resizes(page: Page, kubelet: Kubelet) -> None:
    marks = [worker.state.resize for worker in kubelet.workers.values()]
    pending = Counter(mark.pending.reason.lower() for mark in marks if mark.pending is not None)
    shown: list[Sample] = [({"reason": reason}, count) for reason, count in sorted(pending.items())]
    page.add("kubelet_pod_pending_resizes", "gauge", "Number of pending resizes for pods.", shown)
    progress = sum(mark.progress is not None for mark in marks)
    page.add("kubelet_pod_in_progress_resizes", "gauge", "Number of in-progress resizes for pods.", [({}, progress)])
    manager = kubelet.limits.exclusive_cpus
    if manager is not None:
        help = "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores."
        size = len(manager.shared) * 1000
        page.add("kubelet_cpu_manager_shared_pool_size_millicores", "gauge", help, [({}, size)])
        help = "The total number of CPUs exclusively allocated to containers running on this node"
        taken = len(manager.layout.all_cpus - manager.shared - manager.reserved)
        page.add("kubelet_cpu_manager_exclusive_cpu_allocation_count", "gauge", help, [({}, taken)])


def _claims(page: Page, claims: Sequence[tuple[Object, VolumeSample]]) -> None:
    shown: dict[tuple[str, str], VolumeSample] = {(namespace_of(pod), one.claim): one for pod, one in claims}
    for (namespace, claim), volume in shown.items():
        room, used = volume.filesystem, volume.used
        labels = {"namespace": namespace, "persistentvolumeclaim": claim}
        values = (room.capacity, room.available, used.bytes, room.inodes, room.inodes_free, used.inodes)
        for (name, help), value in zip(_VOLUMES, values, strict=True):
            page.add(f"kubelet_volume_stats_{name}", "gauge", help, [(labels, value)])


def _about(page: Page, kubelet: Kubelet, version: str) -> None:
    name = {"node": kubelet.config.node_name}
    page.add("kubelet_node_name", "gauge", "The node's name. The count is always 1.", [(name, 1)])
    page.add("kubelet_cgroup_version", "gauge", "cgroup version on the hosts.", [({}, kubelet.runtime.cgroups.version)])
    help = "Metrics provider used by kubelet to collect container stats. Values can be 'cadvisor' and 'cri'"
    page.add("kubelet_metrics_provider", "gauge", help, [({"provider": "cri"}, 1)])
    labels = {"git_version": version, "major": "1", "minor": version.split(".")[1], "platform": "linux/amd64"}
    labels["platform"] = f"linux/{kubelet.agent.machine.architecture}"
    help = "A metric with a constant '1' value labeled by version and platform on which Kubernetes was built."
    page.add("kubernetes_build_info", "gauge", help, [(labels, 1)])


def process(page: Page, clock: Clock) -> None:
    """Of this process, by the names that client libraries of Prometheus use."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = [int(word) * os.sysconf("SC_PAGE_SIZE") for word in Path("/proc/self/statm").read_text().split()]
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    families = (
        (
            "cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            used.ru_utime + used.ru_stime,
        ),
        ("resident_memory_bytes", "gauge", "Resident memory size in bytes.", pages[1]),
        ("virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", pages[0]),
        ("open_fds", "gauge", "Number of open file descriptors.", len(os.listdir("/proc/self/fd")) - 1),
        ("max_fds", "gauge", "Maximum number of open file descriptors.", soft),
        ("start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", started_at(clock)),
    )
    for name, kind, help, value in families:
        page.add(f"process_{name}", kind, help, [({}, value)])
    counts: list[Sample] = [({"generation": str(age)}, one["collections"]) for age, one in enumerate(gc.get_stats())]
    page.add("python_gc_collections_total", "counter", "Number of times this generation was collected", counts)


def started_at(clock: Clock) -> float:
    """When this process started."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return round(clock.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK"), 2)
