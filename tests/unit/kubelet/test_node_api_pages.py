"""What the pages of the node API say of a sample."""

from __future__ import annotations

import re
from typing import Any

from tiphys.kubelet.labels import Record
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.server.cadvisor import cadvisor_page
from tiphys.kubelet.server.families import Page, escaped, number
from tiphys.kubelet.server.resource_page import resource_page
from tiphys.kubelet.server.sample import (
    ContainerSample,
    FileSystem,
    NodeSample,
    PodSample,
    Rates,
    VolumeSample,
    totals,
)
from tiphys.kubelet.server.summary import summary
from tiphys.runtime.measures import DiskUsage, Interface, Pressure, Processes, Stall, Usage
from tiphys.runtime.types import State

POD = {"metadata": {"name": "web", "namespace": "default", "uid": "u1"}, "spec": {"containers": [{"name": "c"}]}}
ROOM = FileSystem(capacity=1000, available=600, used=300, inodes=50, inodes_free=40)


def usage(cpu: int = 2_000_000_000, **more: Any) -> Usage:
    return Usage(cpu, 900, 700, 3, time=100.5, rss=500, page_faults=9, major_page_faults=1, swap=4, **more)


def node(cpu: int = 2_000_000_000, time: float = 100.5) -> NodeSample:
    record = Record("id1", "c", 0, State.RUNNING, "box", image="busybox", started_at=50.0)
    psi = {"cpu": Pressure(Stall(7, 1.5, 0.5, 0.1), Stall())}
    used = usage(cpu, pressure=psi, periods=4, throttled_periods=2, throttled_nanoseconds=1_500_000_000)
    container = ContainerSample(
        record,
        used,
        "kubepods/podu1/id1",
        DiskUsage(4096, 2),
        DiskUsage(512, 1),
        Processes(2, 5, 1, 1024),
        cpu_shares=102,
        cpu_quota=20000,
        cpu_period=100000,
        memory_limit=1000,
    )
    volumes = [
        VolumeSample("scratch", ROOM, DiskUsage(100, 3), counts=True),
        VolumeSample("data", ROOM, DiskUsage(200, 4), claim="claim"),
    ]
    interfaces = (Interface("eth0", 10, 1, 0, 0, 20, 2),)
    pod = PodSample(POD, 49.0, "kubepods/podu1", used, interfaces, [container], volumes)
    return NodeSample(
        time, "node-1", 10.0, usage(), 5000, 64, [pod], {"pods": usage()}, filesystem=ROOM, images=ROOM, images_used=77
    )


def test_the_summary_has_all_of_a_pod() -> None:
    rates = Rates()
    rates.update({"id1": (90.0, 1_000_000_000)})
    rates.update(totals(node()))
    shown = summary(node(), rates)["pods"][0]
    assert shown["podRef"] == {"name": "web", "namespace": "default", "uid": "u1"}
    container = shown["containers"][0]
    assert container["cpu"]["usageNanoCores"] == 95238095
    assert container["cpu"]["psi"]["some"] == {"total": 7000, "avg10": 1.5, "avg60": 0.5, "avg300": 0.1}
    memory = {"availableBytes": 300, "usageBytes": 900, "workingSetBytes": 700, "rssBytes": 500}
    assert memory.items() <= container["memory"].items()
    assert container["rootfs"]["usedBytes"] == 4096
    assert container["logs"]["inodesUsed"] == 1
    assert shown["ephemeral-storage"]["usedBytes"] == 4096 + 512 + 100
    assert shown["network"]["rxBytes"] == 10
    assert [(one["name"], one.get("pvcRef")) for one in shown["volume"]] == [
        ("scratch", None),
        ("data", {"name": "claim", "namespace": "default"}),
    ]
    assert shown["process_stats"] == {"process_count": 3}


def test_the_summary_can_leave_out_all_but_cpu_and_memory() -> None:
    found = summary(node(), Rates(), only_cpu_and_memory=True)
    assert set(found["node"]) == {"nodeName", "systemContainers", "startTime", "cpu", "memory"}
    assert set(found["pods"][0]) == {"podRef", "startTime", "containers", "cpu", "memory"}
    assert set(found["pods"][0]["containers"][0]) == {"name", "startTime", "cpu", "memory"}
    assert "usageNanoCores" not in found["node"]["cpu"]  # nothing to compare with


def test_rates_need_two_looks_and_forget_what_is_gone() -> None:
    rates = Rates()
    assert not rates.update({"a": (0.0, 0)})
    assert rates.update({"a": (2.0, 3_000_000_000)})
    assert rates.of("a") == 1_500_000_000
    assert rates.update({"a": (2.01, 9_000_000_000)})  # too soon: the rate stays
    assert rates.of("a") == 1_500_000_000
    assert not rates.update({"a": (3.0, 5)})  # it was started again
    assert rates.of("a") is None
    assert rates.update({"a": (4.0, 1_000_000_005)})
    assert rates.of("a") == 1_000_000_000
    assert not rates.update({"b": (5.0, 1)})
    assert rates.of("a") is None


def test_resource_metrics_have_the_moment_of_measuring() -> None:
    page = resource_page(node()).decode()
    where = 'container="c",namespace="default",pod="web"'
    assert f"container_cpu_usage_seconds_total{{{where}}} 2 100500\n" in page
    assert 'pod_memory_working_set_bytes{namespace="default",pod="web"} 700 100500\n' in page
    assert f"container_start_time_seconds{{{where}}} 50\n" in page
    assert "node_cpu_usage_seconds_total 2 100500\n" in page
    assert "resource_scrape_error 0\n" in page
    _check(page)


def test_cadvisor_metrics_are_of_containers_pods_and_the_root() -> None:
    page = cadvisor_page(node(), Machine(cpus=2, memory=5000, disk=1, machine_id="m")).decode()
    ids = {"/", "/kubepods/podu1", "/kubepods/podu1/id1"}
    assert set(re.findall(r'container_memory_rss\{.*id="([^"]+)"', page)) == ids
    assert 'container_cpu_cfs_throttled_seconds_total{container="c",id="/kubepods/podu1/id1",image="busybox"' in page
    assert 'name="id1",namespace="default",pod="web",interface="eth0"' not in page  # the network is the pod's
    assert 'container_network_receive_bytes_total{container="",id="/kubepods/podu1"' in page
    assert 'container_ulimits_soft{container="c"' in page
    assert 'machine_cpu_cores{boot_id="",machine_id="m",system_uuid=""} 2' in page
    assert "container_pressure_cpu_waiting_seconds_total" in page
    _check(page)


def test_values_of_labels_are_escaped_and_numbers_short() -> None:
    assert escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'
    assert (number(3.0), number(0.5)) == ("3", "0.5")
    page = Page()
    page.add("empty", "gauge", "Nothing.", [])
    assert page.render() == b""


def _check(page: str) -> None:
    """Each family once, each sample under its family, no sample twice."""
    families: list[str] = []
    seen: set[str] = set()
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        elif not line.startswith("#"):
            series = line.rpartition("}")[0] or line.split()[0]
            assert re.split(r"[{ ]", line)[0] == families[-1]
            assert series not in seen, line
            seen.add(series)
    assert len(families) == len(set(families))
