"""/metrics/cadvisor: what cAdvisor tells of containers, pods' cgroups and the machine. Pure.

Families, labels and help are those of cAdvisor as the kubelet uses it over containerd; left out is what this kernel or
runtime does not tell (per device I/O without the controller, load averages), rather than shown as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tiphys.kubelet.machine import Machine
from tiphys.kubelet.podspec import name_of, namespace_of
from tiphys.kubelet.server.families import Page
from tiphys.kubelet.server.sample import ContainerSample, FileSystem, NodeSample
from tiphys.runtime.measures import DeviceUsage, DiskUsage, Interface, Processes, Usage

Number = Callable[[Usage], float]

_CPU: tuple[tuple[str, str, Number], ...] = (
    ("user_seconds_total", "Cumulative user cpu time consumed in seconds.", lambda use: use.cpu_user / 1e9),
    ("system_seconds_total", "Cumulative system cpu time consumed in seconds.", lambda use: use.cpu_system / 1e9),
)
_QUOTA: tuple[tuple[str, str, Number], ...] = (
    ("periods_total", "Number of elapsed enforcement period intervals.", lambda use: use.periods),
    ("throttled_periods_total", "Number of throttled period intervals.", lambda use: use.throttled_periods),
    (
        "throttled_seconds_total",
        "Total time duration the container has been throttled.",
        lambda use: use.throttled_nanoseconds / 1e9,
    ),
)
_MEMORY: tuple[tuple[str, str, str, Number], ...] = (
    ("cache", "gauge", "Number of bytes of page cache memory.", lambda use: use.cache),
    ("rss", "gauge", "Size of RSS in bytes.", lambda use: use.rss),
    ("kernel_usage", "gauge", "Size of kernel memory allocated in bytes.", lambda use: use.kernel),
    ("mapped_file", "gauge", "Size of memory mapped files in bytes.", lambda use: use.mapped_file),
    ("swap", "gauge", "Container swap usage in bytes.", lambda use: use.swap),
    ("failcnt", "counter", "Number of memory usage hits limits", lambda use: use.memory_failures),
    (
        "usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        lambda use: use.memory_bytes,
    ),
    ("max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", lambda use: use.memory_max),
    ("working_set_bytes", "gauge", "Current working set in bytes.", lambda use: use.memory_working_set),
    ("total_active_file_bytes", "gauge", "Current total active file in bytes.", lambda use: use.active_file),
    ("total_inactive_file_bytes", "gauge", "Current total inactive file in bytes.", lambda use: use.inactive_file),
)
_NETWORK: tuple[tuple[str, str, Callable[[Interface], int]], ...] = (
    ("receive_bytes", "Cumulative count of bytes received", lambda one: one.rx_bytes),
    ("receive_packets", "Cumulative count of packets received", lambda one: one.rx_packets),
    ("receive_packets_dropped", "Cumulative count of packets dropped while receiving", lambda one: one.rx_dropped),
    ("receive_errors", "Cumulative count of errors encountered while receiving", lambda one: one.rx_errors),
    ("transmit_bytes", "Cumulative count of bytes transmitted", lambda one: one.tx_bytes),
    ("transmit_packets", "Cumulative count of packets transmitted", lambda one: one.tx_packets),
    ("transmit_packets_dropped", "Cumulative count of packets dropped while transmitting", lambda one: one.tx_dropped),
    ("transmit_errors", "Cumulative count of errors encountered while transmitting", lambda one: one.tx_errors),
)
_PROCESSES: tuple[tuple[str, str, Callable[[Processes], int]], ...] = (
    ("processes", "Number of processes running inside the container.", lambda one: one.count),
    ("file_descriptors", "Number of open file descriptors for the container.", lambda one: one.descriptors),
    ("sockets", "Number of open sockets for the container.", lambda one: one.sockets),
    (
        "threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        lambda one: one.threads_limit,
    ),
)
_IO: tuple[tuple[str, str, Callable[[DeviceUsage], int]], ...] = (
    ("reads_bytes_total", "Cumulative count of bytes read", lambda one: one.read_bytes),
    ("reads_total", "Cumulative count of reads completed", lambda one: one.reads),
    ("writes_bytes_total", "Cumulative count of bytes written", lambda one: one.written_bytes),
    ("writes_total", "Cumulative count of writes completed", lambda one: one.writes),
)
_STALLS = (
    ("stalled", "full", "Total time duration no tasks in the container could make progress due to {} congestion."),
    ("waiting", "some", "Total time duration tasks in the container have waited due to {} congestion."),
)


@dataclass(frozen=True, slots=True)
class _Group:
    """A cgroup on the page: the root, a pod or a container."""

    labels: Mapping[str, str]
    usage: Usage
    started_at: float
    container: ContainerSample | None = None
    interfaces: tuple[Interface, ...] = ()
    memory_limit: int = 0


def cadvisor_page(sample: NodeSample, machine: Machine) -> bytes:
    """The whole page."""
    page = Page()
    _machine(page, machine, sample)
    for group in _groups(sample):
        _cpu(page, group)
        _memory(page, group)
        _spec(page, group)
        _pressure(page, group)
        _devices(page, group)
        for interface in group.interfaces:
            _network(page, group, interface)
        if group.container is not None:
            _container(page, group, group.container, sample.images)
    return page.render()


def _groups(sample: NodeSample) -> Iterator[_Group]:
    yield _Group(
        labels_of("/"),
        sample.usage,
        sample.started_at,
        interfaces=tuple(sample.interfaces),
        memory_limit=sample.memory_capacity,
    )
    for pod in sample.pods:
        namespace, name = namespace_of(pod.pod), name_of(pod.pod)
        if pod.usage is not None:
            labels = labels_of(f"/{pod.cgroup}", namespace=namespace, pod=name)
            yield _Group(
                labels,
                pod.usage,
                pod.started_at,
                interfaces=tuple(pod.interfaces),
                memory_limit=pod.usage.memory_limit,
            )
        for one in pod.containers:
            labels = labels_of(
                f"/{one.cgroup}",
                container=one.name,
                image=one.record.image,
                name=one.record.id,
                namespace=namespace,
                pod=name,
            )
            yield _Group(labels, one.usage, one.record.started_at, one, memory_limit=one.memory_limit)


def labels_of(id: str, **more: str) -> dict[str, str]:
    """All labels of a family, "" where one does not apply."""
    known = {"container": "", "id": id, "image": "", "name": "", "namespace": "", "pod": ""}
    return known | more


def _cpu(page: Page, group: _Group) -> None:
    usage, labels = group.usage, group.labels
    for name, help, value in _CPU:
        page.add(f"container_cpu_{name}", "counter", help, [(labels, value(usage), usage.time)])
    page.add(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        [({**labels, "cpu": "total"}, usage.cpu_nanoseconds / 1e9, usage.time)],
    )
    if usage.periods:
        for name, help, value in _QUOTA:
            page.add(f"container_cpu_cfs_{name}", "counter", help, [(labels, value(usage), usage.time)])


def _memory(page: Page, group: _Group) -> None:
    usage, labels = group.usage, group.labels
    for name, kind, help, value in _MEMORY:
        page.add(f"container_memory_{name}", kind, help, [(labels, value(usage), usage.time)])
    for failure, count in (("pgfault", usage.page_faults), ("pgmajfault", usage.major_page_faults)):
        for scope in ("container", "hierarchy"):
            page.add(
                "container_memory_failures_total",
                "counter",
                "Cumulative count of memory allocation failures.",
                [({**labels, "failure_type": failure, "scope": scope}, count, usage.time)],
            )
    help = "Count of out of memory events observed for the container"
    page.add("container_oom_events_total", "counter", help, [(labels, usage.oom_kills, usage.time)])
    page.add("container_last_seen", "gauge", "Last time a container was seen by the exporter", [(labels, usage.time)])


def _spec(page: Page, group: _Group) -> None:
    one, labels = group.container, group.labels
    help = "Start time of the container since unix epoch in seconds."
    page.add("container_start_time_seconds", "gauge", help, [(labels, group.started_at)])
    limits = (
        ("limit_bytes", "Memory limit for the container.", group.memory_limit),
        ("reservation_limit_bytes", "Memory reservation limit for the container.", 0),
        ("swap_limit_bytes", "Memory swap limit for the container.", group.memory_limit),
    )
    for name, help, value in limits:
        page.add(f"container_spec_memory_{name}", "gauge", help, [(labels, value)])
    if one is None:
        return
    page.add("container_spec_cpu_period", "gauge", "CPU period of the container.", [(labels, one.cpu_period)])
    page.add("container_spec_cpu_shares", "gauge", "CPU share of the container.", [(labels, one.cpu_shares)])
    if one.cpu_quota > 0:
        page.add("container_spec_cpu_quota", "gauge", "CPU quota of the container.", [(labels, one.cpu_quota)])


def _pressure(page: Page, group: _Group) -> None:
    for resource, pressure in group.usage.pressure.items():
        shown = {"cpu": "CPU", "io": "IO"}.get(resource, resource)
        for name, field, help in _STALLS:
            total = getattr(pressure, field).total / 1e6
            family = f"container_pressure_{resource}_{name}_seconds_total"
            page.add(family, "counter", help.format(shown), [(group.labels, total, group.usage.time)])


def _devices(page: Page, group: _Group) -> None:
    for one in group.usage.devices:
        labels = {**group.labels, "device": one.device}
        for name, help, value in _IO:
            page.add(f"container_fs_{name}", "counter", help, [(labels, value(one), group.usage.time)])
        numbers = {**labels, "major": str(one.major), "minor": str(one.minor)}
        page.add(
            "container_blkio_device_usage_total",
            "counter",
            "Blkio Device bytes usage",
            [
                ({**numbers, "operation": "Read"}, one.read_bytes, group.usage.time),
                ({**numbers, "operation": "Write"}, one.written_bytes, group.usage.time),
            ],
        )


def _network(page: Page, group: _Group, interface: Interface) -> None:
    labels = {**group.labels, "interface": interface.name}
    for name, help, value in _NETWORK:
        page.add(f"container_network_{name}_total", "counter", help, [(labels, value(interface), group.usage.time)])


def _container(page: Page, group: _Group, one: ContainerSample, room: FileSystem | None) -> None:
    labels, time = group.labels, one.usage.time
    if one.processes is not None:
        for name, help, value in _PROCESSES:
            page.add(f"container_{name}", "gauge", help, [(labels, value(one.processes), time)])
        page.add(
            "container_threads",
            "gauge",
            "Number of threads running inside the container",
            [(labels, one.usage.pids, time)],
        )
        page.add(
            "container_ulimits_soft",
            "gauge",
            "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
            [({**labels, "ulimit": "max_open_files"}, one.processes.open_files_limit, time)],
        )
    if one.rootfs is not None and one.logs is not None and room is not None:
        _disk(page, {**labels, "device": ""}, one.rootfs, one.logs, room, time)


def _disk(
    page: Page, labels: Mapping[str, str], rootfs: DiskUsage, logs: DiskUsage, room: FileSystem, time: float
) -> None:
    families = (
        ("inodes_free", "Number of available Inodes", room.inodes_free),
        ("inodes_total", "Number of Inodes", room.inodes),
        ("limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", room.capacity),
        (
            "usage_bytes",
            "Number of bytes that are consumed by the container on this filesystem.",
            rootfs.bytes + logs.bytes,
        ),
    )
    for name, help, value in families:
        page.add(f"container_fs_{name}", "gauge", help, [(labels, value, time)])


def _machine(page: Page, machine: Machine, sample: NodeSample) -> None:
    labels = {
        "boot_id": machine.boot_id,
        "machine_id": machine.machine_id,
        "system_uuid": machine.system_uuid,
    }
    families = (
        ("cpu_cores", "Number of logical CPU cores.", machine.cpus),
        ("cpu_physical_cores", "Number of physical CPU cores.", sample.cores),
        ("cpu_sockets", "Number of CPU sockets.", sample.sockets),
        ("memory_bytes", "Amount of memory installed on the machine.", machine.memory),
        ("swap_bytes", "Amount of swap memory available on the machine.", sample.swap_capacity),
    )
    for name, help, value in families:
        page.add(f"machine_{name}", "gauge", help, [(labels, value)])
    versions = {
        "cadvisorRevision": "",
        "cadvisorVersion": "",
        "dockerVersion": "",
        "kernelVersion": machine.kernel,
        "osVersion": machine.os_image,
    }
    help = "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version"
    page.add("cadvisor_version_info", "gauge", help, [(versions, 1)])
    page.add("container_scrape_error", "gauge", "1 if there was an error while getting container metrics", [({}, 0)])
