"""A device plugin for tests: serves the plugin's side of v1beta1 on a socket, and registers with a kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.server import UnixServer
from tiphys.base.grpc.types import Code, Content, RpcError
from tiphys.kubelet.devices import protocol


class ManualClock:
    """A clock that stands until it is moved; whoever sleeps meanwhile uses real sockets."""

    def __init__(self) -> None:
        self._now = 1_000_000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        self._sleepers.append((self._now + seconds, awake))
        await awake.wait()

    async def advance(self, seconds: float) -> None:
        """Wake who has slept long enough, and let him act."""
        self._now += seconds
        for at, awake in self._sleepers:
            if at <= self._now:
                awake.set()
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.01)


class FakePlugin:
    """`devices` are (ID, healthy, NUMA nodes); `push` tells the kubelet of changes."""

    def __init__(self, directory: Path, resource: str, ids: Mapping[str, tuple[int, ...]]) -> None:
        self.directory = directory
        self.resource = resource
        self.endpoint = resource.replace("/", "_") + ".sock"
        self.devices = {id: (True, nodes) for id, nodes in ids.items()}
        self.options = {"pre_start_required": False, "get_preferred_allocation_available": False}
        self.preferred: list[str] = []
        self.calls: list[tuple[str, Any]] = []
        self.refuse = ""
        self._changed = asyncio.Event()

    def set_health(self, id: str, healthy: bool) -> None:
        self.devices[id] = (healthy, self.devices[id][1])
        self.push()

    def push(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def register(self, **other: str) -> None:
        """With the kubelet whose socket is in `directory`. Raises RpcError."""
        channel = Channel(str(self.directory / "kubelet.sock"))
        request = {"version": "v1beta1", "endpoint": self.endpoint, "resource_name": self.resource} | other
        try:
            await channel.call(protocol.REGISTRATION, request)
        finally:
            channel.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        path = self.directory / self.endpoint
        async with asyncio.TaskGroup() as group:
            server = group.create_task(UnixServer(path, self._handlers()).run())
            while not path.exists():
                await asyncio.wait([server], timeout=0.002)
            try:
                yield
            finally:
                server.cancel()

    def _handlers(self) -> dict[Any, Any]:
        return {
            protocol.GET_OPTIONS: self._options,
            protocol.LIST_AND_WATCH: self._watch,
            protocol.ALLOCATE: self._allocate,
            protocol.PREFER: self._prefer,
            protocol.PRE_START: self._pre_start,
        }

    async def _options(self, request: dict[str, Any]) -> Content:
        return self.options

    async def _watch(self, request: dict[str, Any]) -> AsyncIterator[Content]:
        while True:
            changed = self._changed
            yield {"devices": [self._device(id, *known) for id, known in self.devices.items()]}
            await changed.wait()

    @staticmethod
    def _device(id: str, healthy: bool, nodes: tuple[int, ...]) -> dict[str, Any]:
        entry: dict[str, Any] = {"ID": id, "health": "Healthy" if healthy else "Unhealthy"}
        return entry | ({"topology": {"nodes": [{"ID": node} for node in nodes]}} if nodes else {})

    async def _allocate(self, request: dict[str, Any]) -> Content:
        ids = request["container_requests"][0]["devices_ids"]
        self.calls.append(("Allocate", ids))
        if self.refuse:
            raise RpcError(Code.UNKNOWN, self.refuse)
        answer = {
            "envs": {"DEVICES": ",".join(ids), "MODE": "plugin"},
            "mounts": [{"container_path": "/opt/lib", "host_path": "/usr/lib", "read_only": True}],
            "devices": [{"container_path": "/dev/fake0", "host_path": "/dev/null", "permissions": "rw"}],
            "annotations": {"vendor.example/ids": ",".join(ids)},
        }
        return {"container_responses": [answer]}

    async def _prefer(self, request: dict[str, Any]) -> Content:
        self.calls.append(("GetPreferredAllocation", request["container_requests"][0]))
        return {"container_responses": [{"deviceIDs": self.preferred}]}

    async def _pre_start(self, request: dict[str, Any]) -> Content:
        self.calls.append(("PreStartContainer", request["devices_ids"]))
        return {}
