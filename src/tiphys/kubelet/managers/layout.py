"""Which CPUs and how much memory the machine has on which NUMA node, as /sys tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiphys.kubelet.cpusets import parse_cpus
from tiphys.kubelet.limits import HUGEPAGES

SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, slots=True)
class Cpu:
    """Where one hardware thread is. Cores are numbered throughout the machine."""

    id: int
    core: int
    socket: int
    node: int


@dataclass(frozen=True, slots=True)
class Layout:
    """`memory` is bytes by NUMA node and resource: memory, hugepages-2Mi ..."""

    cpus: tuple[Cpu, ...]
    memory: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    distances: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Numbers of the NUMA nodes."""
        return tuple(sorted({cpu.node for cpu in self.cpus} | set(self.memory)))

    @property
    def all_cpus(self) -> frozenset[int]:
        return frozenset(cpu.id for cpu in self.cpus)

    @property
    def threads_per_core(self) -> int:
        return max(1, len(self.cpus) // max(1, len({cpu.core for cpu in self.cpus})))

    def on(self, nodes: Iterable[int]) -> frozenset[int]:
        """The CPUs of these NUMA nodes."""
        wanted = set(nodes)
        return frozenset(cpu.id for cpu in self.cpus if cpu.node in wanted)

    def whole_cores(self, cpus: Iterable[int]) -> frozenset[int]:
        """All threads of the cores that these CPUs are of."""
        wanted = set(cpus)
        cores = {cpu.core for cpu in self.cpus if cpu.id in wanted}
        return frozenset(cpu.id for cpu in self.cpus if cpu.core in cores)


def read_layout(root: Path = SYSTEM) -> Layout:
    """Of this machine; one that has no NUMA nodes is one."""
    nodes = {int(path.name.removeprefix("node")): path for path in root.glob("node/node[0-9]*")}
    cpus_of = {node: parse_cpus(_text(path / "cpulist")) for node, path in nodes.items()}
    online = parse_cpus(_text(root / "cpu/online")) or frozenset().union(*cpus_of.values())
    found: list[Cpu] = []
    cores: dict[tuple[int, int], int] = {}
    for cpu in sorted(online):
        place = root / f"cpu/cpu{cpu}/topology"
        socket = _number(place / "physical_package_id")
        core = cores.setdefault((socket, _number(place / "core_id", cpu)), len(cores))
        found.append(Cpu(cpu, core, socket, next((node for node, own in cpus_of.items() if cpu in own), 0)))
    memory = {node: _memory(path) for node, path in nodes.items()} or {0: {}}
    distances = {node: tuple(map(int, _text(path / "distance").split())) for node, path in nodes.items()}
    return Layout(tuple(found), memory, distances)


def _memory(node: Path) -> dict[str, int]:
    from tiphys.kubelet.node_resources import bytes_of

    found: dict[str, int] = {}
    for line in _text(node / "meminfo").splitlines():
        words = line.split()
        if len(words) >= 4 and words[2] == "MemTotal:":
            found["memory"] = int(words[3]) * 1024
    for entry in node.glob("hugepages/hugepages-*kB"):
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        found[f"{HUGEPAGES}{bytes_of(size)}"] = size * _number(entry / "nr_hugepages")
        found["memory"] = found.get("memory", 0) - size * _number(entry / "nr_hugepages")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path, default: int = 0) -> int:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else default
