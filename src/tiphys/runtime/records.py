"""What LinuxRuntime remembers of each sandbox and container; everything else is on disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.runtime.channel import Channel
from tiphys.runtime.types import ContainerSpec, ContainerStatus, SandboxSpec, SandboxStatus, State


@dataclass(slots=True)
class SandboxRecord:
    """One sandbox. `state` is its state.json: pid, start_time, boot, ips, created_at."""

    spec: SandboxSpec
    directory: Path
    state: dict[str, Any]
    alive: bool = False
    pidfd: int = -1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def status(self) -> SandboxStatus:
        """As the seam tells it."""
        pid = int(self.state.get("pid", 0)) if self.alive else 0
        return SandboxStatus(
            spec=self.spec,
            state=State.RUNNING if self.alive else State.EXITED,
            ips=tuple(self.state.get("ips", ())),
            created_at=self.state.get("created_at", 0),
            pid=pid,
            network_namespace=f"/proc/{pid}/ns/net" if pid else "",
        )


@dataclass(slots=True)
class ContainerRecord:
    """One container. `state` is what its shim last told or wrote; `prepared` was resolved from its image."""

    spec: ContainerSpec
    directory: Path
    prepared: dict[str, Any]
    state: dict[str, Any] = field(default_factory=lambda: {"state": "created"})
    channel: Channel | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def running(self) -> bool:
        """Whether its first process runs, as far as is known."""
        return bool(self.state["state"] == "running")

    def status(self) -> ContainerStatus:
        """As the seam tells it."""
        state = self.state
        return ContainerStatus(
            spec=self.spec,
            state=State(state["state"]),
            created_at=self.prepared["created_at"],
            started_at=state.get("started_at", 0),
            finished_at=state.get("finished_at", 0),
            exit_code=state.get("exit_code", 0),
            signal=state.get("signal", 0),
            oom_killed=state.get("oom_killed", False),
            error=state.get("error", ""),
            pid=state.get("pid", 0) if self.running else 0,
            identity=(who[0], who[1], tuple(who[2])) if (who := state.get("identity")) else None,
        )
