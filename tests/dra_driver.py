"""A driver of dynamic resources for tests: registers by a socket, prepares claims, tells health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tiphys.base.grpc.server import UnixServer
from tiphys.base.grpc.types import Content
from tiphys.kubelet.dra import protocol
from tiphys.kubelet.plugins import watcher


class FakeDriver:
    """`answers` are devices by claim name; `refuse` is the error for every claim."""

    def __init__(self, root: Path, name: str = "gpu.example.com", kind: str = "DRAPlugin") -> None:
        self.name = name
        self.kind = kind
        self.registration = root / "plugins_registry" / f"{name}-reg.sock"
        self.endpoint = root / "plugins" / name / "dra.sock"
        self.versions = ["v1.DRAPlugin", "v1alpha1.DRAResourceHealth"]
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.refuse = ""
        self.calls: list[tuple[str, list[str]]] = []
        self.statuses: list[Any] = []
        self.health: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        service = next((one for one in self.versions if one in protocol.SERVICES), protocol.SERVICES[0])
        driver = UnixServer(
            self.endpoint,
            {
                protocol.prepare(service): self._prepare,
                protocol.unprepare(service): self._unprepare,
                protocol.WATCH_HEALTH: self._watch,
            },
        )
        registrar = UnixServer(self.registration, {watcher.GET_INFO: self._info, watcher.NOTIFY: self._notify})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(driver.run())]
            while not self.endpoint.exists():
                await asyncio.wait(tasks, timeout=0.002)
            tasks.append(group.create_task(registrar.run()))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _info(self, request: dict[str, Any]) -> Content:
        return {
            "type": self.kind,
            "name": self.name,
            "endpoint": str(self.endpoint),
            "supported_versions": self.versions,
        }

    async def _notify(self, request: dict[str, Any]) -> Content:
        self.statuses.append((request["plugin_registered"], request["error"]))
        return {}

    async def _prepare(self, request: dict[str, Any]) -> Content:
        claims = request["claims"]
        self.calls.append(("prepare", [claim["name"] for claim in claims]))
        if self.refuse:
            return {"claims": {claim["uid"]: {"error": self.refuse} for claim in claims}}
        return {"claims": {claim["uid"]: {"devices": self.answers.get(claim["name"], [])} for claim in claims}}

    async def _unprepare(self, request: dict[str, Any]) -> Content:
        claims = request["claims"]
        self.calls.append(("unprepare", [claim["name"] for claim in claims]))
        return {"claims": {claim["uid"]: {"error": self.refuse} for claim in claims}}

    async def _watch(self, request: dict[str, Any]) -> AsyncIterator[Content]:
        while True:
            yield {"devices": await self.health.get()}
