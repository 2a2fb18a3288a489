"""/metrics/resource: CPU, memory and swap of the node, its pods and containers. Pure. Read by metrics servers."""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.kubelet.podspec import name_of, namespace_of
from tiphys.kubelet.server.families import Page, Sample
from tiphys.kubelet.server.sample import NodeSample
from tiphys.runtime.measures import Usage

_BYTES, _CORES = "in bytes", "in core-seconds"
_SWAP = "Reported only on non-windows systems"


def resource_page(sample: NodeSample) -> bytes:
    """The whole page; each sample has the moment at which the kernel was asked."""
    page = Page()
    _node(page, sample)
    pods = list(_pods(sample))
    _compute(page, "pod", [(labels, usage, 0) for labels, usage in pods])
    containers = list(_containers(sample))
    _compute(page, "container", [(labels, usage, limit) for labels, usage, limit, _ in containers])
    page.add(
        "container_swap_limit_bytes",
        "gauge",
        f"Current amount of the container swap limit {_BYTES}. {_SWAP}",
        [(labels, 0, usage.time) for labels, usage, _, _ in containers],
    )
    page.add(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        [(labels, started) for labels, _, _, started in containers],
    )
    for name in ("scrape_error", "resource_scrape_error"):
        page.add(name, "gauge", "1 if there was an error while getting container metrics, 0 otherwise", [({}, 0)])
    return page.render()


def _node(page: Page, sample: NodeSample) -> None:
    usage = sample.usage
    page.add(
        "node_cpu_usage_seconds_total",
        "counter",
        f"Cumulative cpu time consumed by the node {_CORES}",
        [({}, usage.cpu_nanoseconds / 1e9, usage.time)],
    )
    page.add(
        "node_memory_working_set_bytes",
        "gauge",
        f"Current working set of the node {_BYTES}",
        [({}, usage.memory_working_set, usage.time)],
    )
    page.add(
        "node_swap_usage_bytes",
        "gauge",
        f"Current swap usage of the node {_BYTES}. {_SWAP}",
        [({}, usage.swap, usage.time)],
    )


def _compute(page: Page, what: str, found: list[tuple[dict[str, str], Usage, int]]) -> None:
    cpu: list[Sample] = [(labels, usage.cpu_nanoseconds / 1e9, usage.time) for labels, usage, _ in found]
    memory: list[Sample] = [(labels, usage.memory_working_set, usage.time) for labels, usage, _ in found]
    swap: list[Sample] = [(labels, usage.swap, usage.time) for labels, usage, _ in found]
    help = f"Cumulative cpu time consumed by the {what} {_CORES}"
    page.add(f"{what}_cpu_usage_seconds_total", "counter", help, cpu)
    page.add(f"{what}_memory_working_set_bytes", "gauge", f"Current working set of the {what} {_BYTES}", memory)
    page.add(f"{what}_swap_usage_bytes", "gauge", f"Current amount of the {what} swap usage {_BYTES}. {_SWAP}", swap)


def _pods(sample: NodeSample) -> Iterator[tuple[dict[str, str], Usage]]:
    for pod in sample.pods:
        if pod.usage is not None:
            yield {"namespace": namespace_of(pod.pod), "pod": name_of(pod.pod)}, pod.usage


def _containers(sample: NodeSample) -> Iterator[tuple[dict[str, str], Usage, int, float]]:
    for pod in sample.pods:
        for one in pod.containers:
            labels = {"container": one.name, "namespace": namespace_of(pod.pod), "pod": name_of(pod.pod)}
            yield labels, one.usage, one.memory_limit, one.record.started_at
