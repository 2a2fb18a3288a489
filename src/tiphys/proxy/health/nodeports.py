"""The health check node ports: a small HTTP server for each Service whose external traffic is local.

A load balancer asks each node at that port whether the Service has endpoints there (KEP-1669). Sockets come from
outside, since they belong to the node's network namespace. A Service whose port cannot be had gets an event and is
tried again at the next change. While no Service needs it, there is nothing but an empty dict.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tiphys.base.clock import Clock
from tiphys.base.http.server import serve_on
from tiphys.base.http.types import Request, Response
from tiphys.client.events import WARNING, EventRecorder
from tiphys.proxy.health import answers
from tiphys.proxy.health.state import ProxyHealth

log = logging.getLogger(__name__)

Name = tuple[str, str]
"""(namespace, name) of a Service."""
Listen = Callable[[int], list[socket.socket]]
"""Listening sockets of a TCP port, one for each address on which it is to answer. Raises OSError."""


@dataclass(slots=True)
class _Open:
    """A Service's port that is served."""

    port: int
    listeners: list[socket.socket]
    task: asyncio.Task[None]
    endpoints: int = 0


class HealthCheckPorts:
    """Those of one node. `tasks` is where servers run."""

    def __init__(
        self,
        node: str,
        listen: Listen,
        health: ProxyHealth,
        tasks: asyncio.TaskGroup,
        clock: Clock,
        recorder: EventRecorder | None = None,
    ) -> None:
        self._node, self._listen, self._health = node, listen, health
        self._tasks, self._clock, self._recorder = tasks, clock, recorder
        self._wanted: Mapping[Name, int] = {}
        self._open: dict[Name, _Open] = {}
        self._closing = 0

    def sync(self, ports: Mapping[Name, int], endpoints: Mapping[Name, int]) -> None:
        """Serve these Services' ports and no others. `endpoints`: how many ready ones each Service has on this node."""
        self._wanted = dict(ports)
        for name in [name for name, one in self._open.items() if ports.get(name) != one.port]:
            self._close(name)
        self._start_missing()
        for name, one in self._open.items():
            one.endpoints = endpoints.get(name, 0)

    def _close(self, name: Name) -> None:
        one = self._open.pop(name)
        log.debug("the health check port %d of %s/%s is closed", one.port, *name)
        self._closing += 1
        one.task.add_done_callback(lambda _: self._closed(one))
        one.task.cancel()

    def _closed(self, one: _Open) -> None:
        self._closing -= 1
        for listener in one.listeners:  # a task that was cancelled before it ran has closed nothing
            listener.close()
        self._start_missing()  # one may want the port that was just let go

    def _start_missing(self) -> None:
        for name, port in self._wanted.items():
            if name not in self._open:
                self._start(name, port)

    def _start(self, name: Name, port: int) -> None:
        try:
            listeners = self._listen(port)
        except OSError as error:
            if not self._closing:
                self._failed(name, port, error)
            return
        task = self._tasks.create_task(self._serve(name, listeners), name=f"health checks at {port}")
        self._open[name] = _Open(port, listeners, task)

    async def _serve(self, name: Name, listeners: Iterable[socket.socket]) -> None:
        async def answer(_: Request) -> Response:
            return self.answer(name)

        async with contextlib.AsyncExitStack() as stack:
            for listener in listeners:
                await stack.enter_async_context(serve_on(answer, listener, clock=self._clock, grace=1.0))
            await asyncio.get_running_loop().create_future()

    def answer(self, name: Name) -> Response:
        """What is told of a Service."""
        one = self._open.get(name)
        healthy = self._health.healthy(self._clock.time())
        return answers.of_service(*name, one.endpoints if one is not None else 0, healthy=healthy)

    def _failed(self, name: Name, port: int, error: OSError) -> None:
        namespace, service = name
        message = f'node {self._node} failed to start healthcheck "{namespace}/{service}" on port {port}: {error}'
        log.warning("%s", message)
        if self._recorder is not None:
            about = {"apiVersion": "v1", "kind": "Service", "namespace": namespace, "name": service}
            self._recorder.about(about, WARNING, "FailedToStartServiceHealthcheck", message, "Listen")
