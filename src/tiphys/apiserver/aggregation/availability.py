"""Asks the servers behind APIServices whether they are well, and writes down what they serve.

A check follows each change of an APIService, a Service or an EndpointSlice, and comes every half minute while there are
such APIServices; without them nothing happens. Reasons and messages of the condition are upstream's.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from tiphys.apiserver.aggregation.discovery import Described, Unreadable, of_group, of_resources, paths
from tiphys.apiserver.aggregation.link import identity
from tiphys.apiserver.aggregation.remotes import CHECKER, GROUP, PLURAL, Remote, Remotes
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.timers import Timers
from tiphys.apiserver.types import Object
from tiphys.apiserver.watcher import Watcher
from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import ApiError, TiphysError
from tiphys.base.http.client import ClientResponse

log = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between checks when nothing changes."""
PATIENCE = 5.0
"""Seconds that an answer may take."""
MAX_DOCUMENT = 8 << 20
"""Bytes that it may have."""
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
FOLLOWED = ((GROUP, PLURAL), ("", "services"), ("discovery.k8s.io", "endpointslices"))
Write = Callable[[str, str, dict[str, Any]], Awaitable[None]]


class Unwell(Exception):
    """Why a server cannot be used: a condition's reason and message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Availability:
    """See the module's docstring. `update` stores an object over the one whose resourceVersion it has."""

    def __init__(
        self, remotes: Remotes, described: Described, caches: Caches, timers: Timers, update: Write, clock: Clock
    ) -> None:
        self._remotes, self._described, self._caches = remotes, described, caches
        self._timers, self._update, self._clock = timers, update, clock
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource in FOLLOWED:
                group.create_task(self._follow(self._caches.of(*resource)))
            while True:
                found = list(self._remotes.current().values())
                self._described.keep({(remote.group, remote.version) for remote in found})
                await asyncio.gather(*(self._check(remote) for remote in found))
                timer = self._timers.after(INTERVAL, self._wake.set) if found else None
                await self._wake.wait()
                self._wake.clear()
                if timer is not None:
                    timer.cancel()

    async def _follow(self, cache: ResourceCache) -> None:
        while True:
            watcher = Watcher(cache.last_revision)
            cache.subscribe(watcher)
            try:
                while await watcher.next():
                    if self._remotes.current() or self._described.anything:
                        self._wake.set()
            finally:
                cache.unsubscribe(watcher)

    async def _check(self, remote: Remote) -> None:
        try:
            try:
                self._look(remote)
                await self._ask(remote)
                status, reason, message = "True", "Passed", "all checks passed"
            except Unwell as error:
                self._described.lose(remote)
                status, reason, message = "False", error.reason, str(error)
            await self._write(remote, status, reason, message)
        except TiphysError as error:
            log.warning("the condition of APIService %s could not be written: %s", remote.name, error)
        except Exception:  # what one server answers must not end the checks of all others
            log.exception("APIService %s could not be checked", remote.name)

    def _look(self, remote: Remote) -> None:
        """What the caches say. Raises Unwell."""
        what = f'service/{remote.service} in "{remote.namespace}"'
        service = self._caches.get("", "services", remote.namespace, remote.service)
        if service is None:
            raise Unwell("ServiceNotFound", f"{what} is not present")
        spec = service.get("spec") or {}
        if spec.get("type", "ClusterIP") != "ClusterIP":
            return
        port = next((port for port in spec.get("ports") or () if port.get("port") == remote.port), None)
        if port is None:
            raise Unwell("ServicePortError", f"{what} is not listening on port {remote.port}")
        slices = [
            one
            for one in self._caches.list("discovery.k8s.io", "endpointslices", remote.namespace)
            if (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == remote.service
        ]
        if not slices:
            raise Unwell("EndpointsNotFound", f"cannot find endpointslices for {what}")
        name = port.get("name") or ""
        if not any(_ready(one, name) for one in slices):
            raise Unwell("MissingEndpoints", f'endpointslices for {what} have no addresses with port name "{name}"')

    async def _ask(self, remote: Remote) -> None:
        """Whether its discovery answers, and what it says. Raises Unwell."""
        url = f"https://{remote.server_name}:{remote.port}{remote.path}"
        try:
            answer = await self._get(remote, remote.path, "application/json")
            if not 200 <= answer.status < 300:
                raise Unwell(
                    "FailedDiscoveryCheck",
                    f"failing or missing response from {url}: bad status from {url}: {answer.status}",
                )
            await self._describe(remote, answer)
        except (OSError, ssl.SSLError, ApiError, ValueError, Unreadable) as error:
            text = str(error) or type(error).__name__
            raise Unwell(
                "FailedDiscoveryCheck",
                f"failing or missing response from {url}: Get {orjson.dumps(url).decode()}: {text}",
            ) from error

    async def _describe(self, remote: Remote, resources: ClientResponse) -> None:
        groups = await self._get(remote, "/apis", AGGREGATED)
        found = of_group(groups, remote.group, remote.version) or of_resources(resources.body, remote.version)
        index = await self._get(remote, "/openapi/v3", "application/json")
        self._described.note(remote, found, paths(index.body) if index.status == 200 else {})

    async def _get(self, remote: Remote, path: str, accept: str) -> ClientResponse:
        client = await self._remotes.client(remote)
        headers = {**identity(CHECKER), "Accept": accept}
        async with asyncio.timeout(PATIENCE), client.stream("GET", path, headers=headers) as streamed:
            pieces, size = [], 0
            async for piece in streamed.chunks:
                size += len(piece)
                if size > MAX_DOCUMENT:
                    raise OSError(f"http: response body too large: more than {MAX_DOCUMENT} bytes")
                pieces.append(piece)
        return ClientResponse(streamed.status, streamed.headers, b"".join(pieces))

    async def _write(self, remote: Remote, status: str, reason: str, message: str) -> None:
        obj = self._caches.get(GROUP, PLURAL, "", remote.name)
        if obj is None or not (obj.get("spec") or {}).get("service"):
            return
        conditions = (obj.get("status") or {}).get("conditions") or ()
        old: Object = next((one for one in conditions if one.get("type") == "Available"), {})
        if (old.get("status"), old.get("reason"), old.get("message")) == (status, reason, message):
            return
        since = old["lastTransitionTime"] if old.get("status") == status else rfc3339(self._clock.time())
        new = {"type": "Available", "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
        others = [one for one in conditions if one.get("type") != "Available"]
        await self._update(GROUP, PLURAL, {**obj, "status": {"conditions": [*others, new]}})


def _ready(piece: Object, port: str) -> bool:
    ready = any((one.get("conditions") or {}).get("ready") is not False for one in piece.get("endpoints") or ())
    return ready and any((one.get("name") or "") == port and one.get("port") for one in piece.get("ports") or ())
