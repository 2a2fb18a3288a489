"""Sandboxes: a pause process, namespaces, the network, a cgroup and the shared /dev/shm, made and removed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock
from tiphys.runtime import cgroups, handlers, processes, protocol, recovery, resources, spec, syscalls, userns
from tiphys.runtime.channel import Channel
from tiphys.runtime.launcher import Launcher
from tiphys.runtime.netns import loopback_up
from tiphys.runtime.records import SandboxRecord
from tiphys.runtime.types import InvalidSpec, Network, RuntimeFailure, SandboxSpec

ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
"""Those of an IPC namespace (ipc_namespaces(7)); all below net and fs.mqueue belong to namespaces, too."""


class Sandboxes:
    """The sandboxes of one runtime directory. `on_end` is told when a pause process ends by itself."""

    def __init__(
        self,
        directory: Path,
        launcher: Launcher,
        networks: Mapping[str, Network],
        layout: cgroups.Layout,
        clock: Clock,
        on_end: Callable[[SandboxRecord], None],
    ) -> None:
        self._directory, self._launcher, self._networks = directory, launcher, networks
        self._layout, self._clock, self._on_end = layout, clock, on_end
        self.records: dict[str, SandboxRecord] = {}
        self._settling: asyncio.Lock = asyncio.Lock()
        self._settled = False

    def recover(self) -> None:
        """Read all that is on disk, and watch the pause processes that still live."""
        self._directory.mkdir(parents=True, exist_ok=True)
        boot = processes.boot_id()
        for directory in sorted(self._directory.iterdir()):
            record = recovery.sandbox(directory)
            if record is None:
                recovery.discard(directory)
                continue
            self.records[record.spec.id] = record
            same = record.state.get("boot") == boot
            if same and processes.start_time(record.state["pid"]) == record.state["start_time"]:
                self._watch(record)

    async def settle(self) -> None:
        """Once after the start: networks let go of what they gave to sandboxes that are not there any more."""
        async with self._settling:
            if self._settled:
                return
            for network in self._networks.values():
                await network.keep([record.status() for record in self.records.values()])
            self._settled = True

    async def network_problems(self) -> tuple[str, ...]:
        """Why no sandbox can be attached to a network now."""
        return tuple([problem for network in self._networks.values() for problem in await network.problems()])

    async def create(self, wanted: SandboxSpec) -> SandboxRecord:
        """Make it, or return the one that exists as asked. Raises InvalidSpec, RuntimeFailure."""
        _check(wanted, self._networks)
        await self.settle()
        record = self.records.setdefault(wanted.id, SandboxRecord(wanted, self._directory / wanted.id, {}))
        async with record.lock:
            if record.alive:
                if not _alike(record.spec, wanted):
                    raise InvalidSpec(f"sandbox {wanted.id} exists with another spec")
                return record
            record.spec = wanted
            try:
                await self._make(record)
            except BaseException:
                await asyncio.shield(self._discard(record))
                raise
            return record

    async def _make(self, record: SandboxRecord) -> None:
        wanted, directory = record.spec, record.directory
        (directory / "shm").mkdir(parents=True, exist_ok=True)
        spec.save(directory / "spec.json", spec.plain(wanted))
        answer = await self._start_pause(record)
        record.state = {**answer, "boot": processes.boot_id(), "created_at": self._clock.time(), "ips": []}
        self._watch(record)
        namespace = f"/proc/{answer['pid']}/ns/net"
        if wanted.network == "none":
            await asyncio.to_thread(loopback_up, namespace)
        elif wanted.network != "host":
            record.state["ips"] = list(await self._networks[wanted.network].attach(wanted, namespace))
        spec.save(directory / "state.json", record.state)

    async def _start_pause(self, record: SandboxRecord) -> dict[str, Any]:
        channel = Channel(await self._launcher.connect())
        try:
            answer = await channel.ask(self._request(record), protocol.SANDBOX)
        finally:
            channel.close()
        if "error" in answer:
            raise RuntimeFailure(f"failed to create sandbox {record.spec.id}: {answer['error']}")
        return answer

    def _request(self, record: SandboxRecord) -> dict[str, Any]:
        wanted = record.spec
        host = wanted.network == "host"
        return {
            "network": self._host_namespace() if host else "",
            "host_ipc": wanted.host_ipc,
            "share_pid": wanted.share_pid and not wanted.host_pid,
            "hostname": wanted.hostname,
            "sysctls": dict(wanted.sysctls) if host else {**_unprivileged(wanted), **wanted.sysctls},
            "cgroup": self._cgroup_plan(wanted),
            "shm": "" if wanted.host_ipc else str(record.directory / "shm"),
            "user_namespace": wanted.user_namespace,
        }

    def _cgroup_plan(self, wanted: SandboxSpec) -> dict[str, Any]:
        limits, parent = wanted.cgroup_resources, self.cgroup_parent(wanted)
        return resources.plan(self._layout, self.pause_cgroup(wanted), limits, limited=parent)

    def _host_namespace(self) -> str:
        for network in self._networks.values():
            return network.namespace
        return "/proc/self/ns/net"

    def cgroup_parent(self, wanted: SandboxSpec) -> str:
        """The cgroup that its containers' cgroups are in."""
        return wanted.cgroup_parent.strip("/") or f"{own_cgroup(self._directory.parent)}/{wanted.id}"

    def pause_cgroup(self, wanted: SandboxSpec) -> str:
        """Where the pause process is: on v2 only leaves may hold processes."""
        parent = self.cgroup_parent(wanted)
        return f"{parent}/pause" if self._layout.v2 else parent

    def namespaces(self, record: SandboxRecord) -> dict[str, Any]:
        """What a container's bundle needs of its sandbox. Raises RuntimeFailure when it is not running."""
        if not record.alive:
            raise RuntimeFailure(f"sandbox {record.spec.id} is not running")
        base = f"/proc/{record.state['pid']}/ns"
        pid = "host" if record.spec.host_pid else f"{base}/pid" if record.spec.share_pid else "new"
        spaces = {"net": f"{base}/net", "ipc": f"{base}/ipc", "uts": f"{base}/uts", "pid": pid}
        shm = "/dev/shm" if record.spec.host_ipc else str(record.directory / "shm")  # noqa: S108 - the host's own
        parent, users = self.cgroup_parent(record.spec), record.spec.user_namespace
        handler = record.spec.handler
        return {
            "namespaces": spaces,
            "shm": shm,
            "cgroup_parent": parent,
            "user_namespace": users,
            "handler": handler,
        }

    def _watch(self, record: SandboxRecord) -> None:
        try:
            record.pidfd = os.pidfd_open(record.state["pid"])
        except ProcessLookupError:
            return
        record.alive = True
        asyncio.get_running_loop().add_reader(record.pidfd, self._ended, record)

    def _ended(self, record: SandboxRecord) -> None:
        self._unwatch(record)
        record.alive = False
        self._on_end(record)

    def _unwatch(self, record: SandboxRecord) -> None:
        if record.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(record.pidfd)
            os.close(record.pidfd)
            record.pidfd = -1

    async def remove(self, record: SandboxRecord) -> None:
        """Kill the pause process and release everything; its containers must be gone."""
        async with record.lock:
            await self._discard(record)

    async def _discard(self, record: SandboxRecord) -> None:
        was_alive = record.alive
        network = self._networks.get(record.spec.network)
        if network is not None:  # while its namespace is there: plugins look into it
            await network.detach(record.spec.id)
        if record.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(record.pidfd, signal.SIGKILL)
        self._unwatch(record)
        record.alive = False
        await asyncio.to_thread(self._clean, record)
        if self.records.get(record.spec.id) is record:
            del self.records[record.spec.id]
        if was_alive:
            self._on_end(record)

    def _clean(self, record: SandboxRecord) -> None:
        with contextlib.suppress(OSError):
            while True:  # one that was made again after a crash may have it twice
                syscalls.umount(str(record.directory / "shm"))
        left: list[str] = []
        if not self._shares_cgroup(record):
            left = cgroups.remove(self._layout.directories(self.cgroup_parent(record.spec), ["cpuset", "hugetlb"]))
            if record.spec.handler:
                handlers.drop_cgroups(self.cgroup_parent(record.spec))
        shutil.rmtree(record.directory, ignore_errors=True)
        if left:
            raise RuntimeFailure(f"sandbox {record.spec.id}: could not remove {', '.join(left)}")

    def _shares_cgroup(self, record: SandboxRecord) -> bool:
        """Whether another sandbox has the same cgroup: a pod's new one, which must live on. The last one removes it."""
        parent = self.cgroup_parent(record.spec)
        others = (other for other in self.records.values() if other is not record)
        return any(self.cgroup_parent(other.spec) == parent for other in others)

    def close(self) -> None:
        """Stop watching; they go on."""
        for record in self.records.values():
            self._unwatch(record)


def _unprivileged(wanted: SandboxSpec) -> dict[str, str]:
    """In a network of its own any user may use low ports and ping, as with containerd and Docker."""
    last = wanted.user_namespace[1] - 1 if wanted.user_namespace else userns.last_group()
    return {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"0 {last}"}


def _alike(one: SandboxSpec, other: SandboxSpec) -> bool:
    """The same but for limits and labels, which may have changed since it was made."""
    return replace(one, cgroup_resources=other.cgroup_resources, labels=other.labels) == other


def own_cgroup(root: Path) -> str:
    """Where sandboxes go that name no cgroup: one path for each runtime directory of the machine."""
    return f"tiphys/runtime-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"


def _check(wanted: SandboxSpec, networks: Mapping[str, Network]) -> None:
    if not ID.fullmatch(wanted.id):
        raise InvalidSpec(f"sandbox id {wanted.id!r} must match {ID.pattern}")
    if wanted.network not in ("host", "none") and wanted.network not in networks:
        raise InvalidSpec(f"sandbox {wanted.id}: network {wanted.network!r} is not known")
    for name in wanted.sysctls:
        _check_sysctl(wanted, name)
    if ".." in wanted.cgroup_parent.split("/"):
        raise InvalidSpec(f"sandbox {wanted.id}: cgroup parent {wanted.cgroup_parent!r} must not go up")


def _check_sysctl(wanted: SandboxSpec, name: str) -> None:
    """Raises InvalidSpec for one that is not the sandbox's own: setting it would change the host's."""
    parts = name.split("/" if "/" in name else ".")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidSpec(f"sandbox {wanted.id}: sysctl {name!r} is not a name")
    dotted = ".".join(parts)
    if dotted.startswith("net."):
        if wanted.network == "host":
            raise InvalidSpec(f"sandbox {wanted.id}: sysctl {name!r} is not allowed in the host's network")
    elif dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        if wanted.host_ipc:
            raise InvalidSpec(f"sandbox {wanted.id}: sysctl {name!r} is not allowed with the host's IPC")
    elif dotted != "kernel.domainname":
        raise InvalidSpec(f"sandbox {wanted.id}: sysctl {name!r} is not in a separate kernel namespace")
