"""What each node of a cluster offers of this machine, so that together they promise no more than there is.

Without a word each has an equal share of CPUs, memory, disk and huge pages. `tiphys up --node-size cpu=2,memory=4Gi`
says it for every node instead; sizes that the machine does not have need --overcommit: to simulate a larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tiphys.api.quantity import Quantity, parse
from tiphys.base.errors import Permanent
from tiphys.cluster import config as configs
from tiphys.cluster.config import ClusterConfig
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine, read_machine
from tiphys.kubelet.node_resources import capacity

HUGEPAGES = "hugepages-"
_MIB = 1 << 20


def parse_size(text: str) -> dict[str, str]:
    """Of --node-size: cpu=2,memory=4Gi. Raises Permanent."""
    size: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, amount = (piece.strip() for piece in part.partition("="))
        if name not in ("cpu", "memory", "ephemeral-storage", "pods") and not name.startswith(HUGEPAGES):
            raise Permanent(f"--node-size: {name!r} is none of cpu, memory, ephemeral-storage, hugepages-SIZE, pods")
        try:
            positive = bool(equals) and parse(amount) > parse("0")
        except ValueError:
            positive = False
        if not positive:
            raise Permanent(f"--node-size: {part!r} is not NAME=AMOUNT with an amount above 0")
        size[name] = amount
    return size


def machine_of(config: ClusterConfig) -> dict[str, Quantity]:
    """What there is to share."""
    return shared(read_machine(config.paths.data))


def shared(machine: Machine) -> dict[str, Quantity]:
    """Likewise, of this machine; how many pods a node takes is no part of it."""
    found = capacity(KubeletConfig("", Path("/")), machine)
    return {name: amount for name, amount in found.items() if name != "pods"}


def share(nodes: int, size: Mapping[str, str], machine: Mapping[str, Quantity]) -> dict[str, str]:
    """Of one of `nodes` nodes: what `size` says, and an equal part of everything else."""
    if nodes < 2:
        return dict(size)
    return {name: str(_part(name, amount, nodes)) for name, amount in machine.items()} | dict(size)


def _part(name: str, amount: Quantity, nodes: int) -> Quantity:
    if name == "cpu":
        return Quantity(amount.milli // nodes * 10**6, "decimal")
    unit = parse(name.removeprefix(HUGEPAGES)).value if name.startswith(HUGEPAGES) else _MIB
    return Quantity(amount.value // nodes // unit * unit * 10**9, "binary")


def check(config: ClusterConfig, machine: Mapping[str, Quantity]) -> None:
    """Raises Permanent when the nodes would offer more than there is, and nobody asked for that."""
    if config.overcommit:
        return
    for name, text in config.node_size.items():
        if name not in machine:
            continue
        wanted = Quantity(parse(text).nanos * len(config.nodes), machine[name].format)
        if wanted > machine[name]:
            many = f"{len(config.nodes)} nodes with {name} {text} need {wanted}, this machine has {machine[name]}"
            raise Permanent(f"--node-size: {many}; --overcommit simulates what is not there")


class LiveShare(Mapping[str, str]):
    """What a node offers now: less when another one joins. Read anew when the cluster's configuration has changed."""

    def __init__(self, config: ClusterConfig, machine: Callable[[ClusterConfig], Mapping[str, Quantity]]) -> None:
        self._name, self._file = config.name, config.paths.config
        self._machine = machine(config)
        self._stamp = self._changed()
        self._found = share(len(config.nodes), config.node_size, self._machine)

    def _changed(self) -> int:
        try:
            return self._file.stat().st_mtime_ns
        except OSError:
            return 0

    def _now(self) -> dict[str, str]:
        stamp = self._changed()
        if stamp != self._stamp:
            self._stamp = stamp
            config = configs.last_known(self._name)
            if config is not None and config.nodes:
                self._found = share(len(config.nodes), config.node_size, self._machine)
        return self._found

    def __getitem__(self, name: str) -> str:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())
