"""A CRI runtime for tests: sandboxes, containers and images in memory, on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tiphys.base.grpc.server import UnixServer
from tiphys.base.grpc.types import Code, Content, Method, RpcError
from tiphys.runtime.cri import protocol

CONFIG = '{"imageSpec": {"config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "User": "7", "Entrypoint": null}}}'


class FakeCri:
    """`tells`: whether it has GetContainerEvents. Programs: sleep runs on, `exit N` ends, `fail` cannot be started."""

    def __init__(self, path: Path, *, tells: bool = True) -> None:
        self.path = path
        self.tells = tells
        self.boxes: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.images = {"busybox:latest": "sha256:1"}
        self.auths: list[Mapping[str, Any] | None] = []
        self.updates: list[Mapping[str, Any]] = []
        self.network_ready = True
        self.reopened: list[str] = []
        self._listeners: set[asyncio.Queue[Content]] = set()
        self._next = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(UnixServer(self.path, self._handlers()).run())
            while not self.path.exists():
                await asyncio.wait([task], timeout=0.002)
            try:
                yield
            finally:
                task.cancel()

    def _handlers(self) -> dict[Method, Any]:
        found: dict[Method, Any] = {}
        for table in (protocol.RUNTIME, protocol.IMAGES):
            for name, method in table.items():
                if (handler := getattr(self, f"_{name.lower()}", None)) is not None:
                    found[method] = handler
        if self.tells:
            found[protocol.EVENTS] = self._events
        return found

    def _id(self, kind: str) -> str:
        self._next += 1
        return f"{kind}-{self._next}"

    def changed(self, id: str) -> None:
        for queue in self._listeners:
            queue.put_nowait({"container_id": id})

    async def _events(self, request: dict[str, Any]) -> AsyncIterator[Content]:
        queue: asyncio.Queue[Content] = asyncio.Queue()
        self._listeners.add(queue)
        while True:
            yield await queue.get()

    async def _version(self, request: dict[str, Any]) -> Content:
        return {"version": "0.1.0", "runtime_name": "fake", "runtime_version": "9"}

    async def _status(self, request: dict[str, Any]) -> Content:
        network = {"type": "NetworkReady", "status": self.network_ready, "reason": "NoPlugin", "message": "none"}
        handler = {"name": "kata", "features": {"recursive_read_only_mounts": True}}
        conditions = [{"type": "RuntimeReady", "status": True}, network]
        return {"status": {"conditions": conditions}, "runtime_handlers": [handler]}

    # sandboxes

    async def _runpodsandbox(self, request: dict[str, Any]) -> Content:
        id = self._id("box")
        self.boxes[id] = {"config": request["config"], "state": 0, "handler": request["runtime_handler"]}
        self.changed(id)
        return {"pod_sandbox_id": id}

    def _box(self, id: str) -> dict[str, Any]:
        try:
            return self.boxes[id]
        except KeyError:
            raise RpcError(Code.NOT_FOUND, f"sandbox {id}: not found") from None

    async def _stoppodsandbox(self, request: dict[str, Any]) -> Content:
        self._box(request["pod_sandbox_id"])["state"] = 1
        return {}

    async def _removepodsandbox(self, request: dict[str, Any]) -> Content:
        del self.boxes[request["pod_sandbox_id"]]
        return {}

    async def _podsandboxstatus(self, request: dict[str, Any]) -> Content:
        id, box = request["pod_sandbox_id"], self._box(request["pod_sandbox_id"])
        network = {"ip": "10.0.0.1", "additional_ips": [{"ip": "fd00::1"}]}
        return {"status": {**self._shown(id, box), "network": network}, "info": {"info": '{"pid": 1}'}}

    def _shown(self, id: str, box: Mapping[str, Any]) -> dict[str, Any]:
        config = box["config"]
        kept = {name: config[name] for name in ("metadata", "labels", "annotations")}
        return {**kept, "id": id, "state": box["state"], "created_at": 10**9}

    async def _listpodsandbox(self, request: dict[str, Any]) -> Content:
        wanted = (request["filter"] or {"label_selector": {}})["label_selector"]
        shown = [self._shown(id, box) for id, box in self.boxes.items()]
        return {"items": [one for one in shown if wanted.items() <= one["labels"].items()]}

    # containers

    async def _createcontainer(self, request: dict[str, Any]) -> Content:
        self._box(request["pod_sandbox_id"])
        id = self._id("run")
        config = request["config"]
        self.runs[id] = {"box": request["pod_sandbox_id"], "config": config, "state": 0, "code": 0, "reason": ""}
        self.changed(id)
        return {"container_id": id}

    def _run(self, id: str) -> dict[str, Any]:
        try:
            return self.runs[id]
        except KeyError:
            raise RpcError(Code.NOT_FOUND, f"container {id}: not found") from None

    async def _startcontainer(self, request: dict[str, Any]) -> Content:
        run = self._run(request["container_id"])
        program, *rest = run["config"]["command"]
        if program == "fail":
            run |= {"state": 2, "code": 128, "reason": "StartError", "message": "no such program"}
            raise RpcError(Code.UNKNOWN, "no such program")
        run["state"] = 1
        if program == "exit":
            run |= {"state": 2, "code": int(rest[0]), "reason": "Error"}
        self.changed(request["container_id"])
        return {}

    async def _stopcontainer(self, request: dict[str, Any]) -> Content:
        run = self._run(request["container_id"])
        if run["state"] == 1:
            run |= {"state": 2, "code": 137, "reason": "Error"}
            self.changed(request["container_id"])
        return {}

    async def _removecontainer(self, request: dict[str, Any]) -> Content:
        self._run(request["container_id"])
        del self.runs[request["container_id"]]
        return {}

    async def _listcontainers(self, request: dict[str, Any]) -> Content:
        wanted = (request["filter"] or {"label_selector": {}})["label_selector"]
        shown = [
            {"id": id, "pod_sandbox_id": run["box"], "state": run["state"], "labels": run["config"]["labels"]}
            for id, run in self.runs.items()
        ]
        return {"containers": [one for one in shown if wanted.items() <= one["labels"].items()]}

    async def _containerstatus(self, request: dict[str, Any]) -> Content:
        id, run = request["container_id"], self._run(request["container_id"])
        config = run["config"]
        status = {
            "id": id,
            "state": run["state"],
            "created_at": 10**9,
            "started_at": 2 * 10**9 if run["state"] else 0,
            "finished_at": 3 * 10**9 if run["state"] == 2 else 0,
            "exit_code": run["code"],
            "reason": run["reason"],
            "message": run.get("message", ""),
            "labels": config["labels"],
            "annotations": config["annotations"],
            "user": {"linux": {"uid": 7, "gid": 8, "supplemental_groups": [8]}},
        }
        return {"status": status, "info": {"info": '{"pid": 1}'}}

    async def _execsync(self, request: dict[str, Any]) -> Content:
        self._run(request["container_id"])
        if request["cmd"] == ["slow"]:
            raise RpcError(Code.DEADLINE_EXCEEDED, "timeout exceeded")
        return {"stdout": " ".join(request["cmd"]).encode(), "stderr": b"e", "exit_code": 3}

    async def _reopencontainerlog(self, request: dict[str, Any]) -> Content:
        if self._run(request["container_id"]).get("deaf"):
            raise RpcError(Code.UNKNOWN, "cannot open")
        self.reopened.append(request["container_id"])
        return {}

    async def _updatecontainerresources(self, request: dict[str, Any]) -> Content:
        self.updates.append(request["linux"])
        return {}

    # images

    async def _listimages(self, request: dict[str, Any]) -> Content:
        return {"images": [{"id": id, "repo_tags": [tag], "size": 5} for tag, id in self.images.items()]}

    async def _imagestatus(self, request: dict[str, Any]) -> Content:
        name = request["image"]["image"]
        for tag, id in self.images.items():
            if name in (tag, id):
                return {"image": {"id": id, "repo_tags": [tag], "size": 5}, "info": {"info": CONFIG}}
        return {}

    async def _pullimage(self, request: dict[str, Any]) -> Content:
        name, auth = request["image"]["image"], request["auth"]
        self.auths.append(auth)
        if name.startswith("private/") and (auth is None or auth["password"] != "right"):
            raise RpcError(Code.UNKNOWN, f"failed to authorize {name}")
        self.images[name] = f"sha256:{name}"
        return {"image_ref": self.images[name]}

    async def _removeimage(self, request: dict[str, Any]) -> Content:
        self.images.pop(request["image"]["image"], None)
        return {}
