"""What runs of a cluster, as far as this machine can tell without asking the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.cluster import config as configs
from tiphys.cluster import processes
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.processes import CONTROL_PLANE, GATEWAY


@dataclass(frozen=True, slots=True)
class Component:
    name: str
    pid: int
    """0 when it does not run."""
    memory: int
    """Resident bytes not shared with other processes, helpers and shims not counted."""


@dataclass(frozen=True, slots=True)
class Status:
    config: ClusterConfig
    components: tuple[Component, ...]

    @property
    def state(self) -> str:
        """Running, Stopped, or Degraded when only a part runs."""
        running = [component for component in self.components if component.pid]
        if len(running) == len(self.components):
            return "Running"
        return "Degraded" if running else "Stopped"


def of(config: ClusterConfig) -> Status:
    gateway = (GATEWAY,) if config.paths.lock(GATEWAY).exists() else ()
    names = (CONTROL_PLANE, *(node.name for node in config.nodes), *gateway)
    return Status(config, tuple(_component(config, name) for name in names))


def every() -> list[Status]:
    """All clusters of this machine."""
    return [of(config) for config in map(configs.last_known, configs.names()) if config is not None]


def _component(config: ClusterConfig, name: str) -> Component:
    pid = processes.pid_of(config.paths.lock(name))
    return Component(name, pid, _memory(pid))


def _memory(pid: int) -> int:
    """Private resident memory in bytes (proc_pid_smaps_rollup(5)); 0 when the process is gone."""
    if not pid:
        return 0
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line and line.startswith("Private"))
    except OSError:
        return 0
    return sum(int(value.split()[0]) for value in fields.values()) * 1024
