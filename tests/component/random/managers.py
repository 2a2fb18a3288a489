"""The controller managers of a world: each a process that may die, be cut off, or lose the lease, at any await."""

from __future__ import annotations

import asyncio

from component.random.weather import Process, StormyClient, Weather
from tiphys.base.identity import User
from tiphys.client.election import LeadershipLost
from tiphys.client.local import LocalClient
from tiphys.client.types import Client
from tiphys.controllers import manager
from tiphys.testing.cluster import MANAGER, Cluster

_PAUSE = 1.0
"""Seconds until a manager that gave up is started again."""


class Managers:
    """`number` of them; several choose their leader by a lease."""

    def __init__(self, cluster: Cluster, weather: Weather, tasks: asyncio.TaskGroup, number: int = 1) -> None:
        self._cluster, self._weather, self._tasks = cluster, weather, tasks
        self._elects = number > 1
        self._names = [f"manager-{each}" for each in range(number)]
        self._running: dict[str, tuple[Process, asyncio.Task[None]]] = {}
        self._runs = 0

    @property
    def names(self) -> list[str]:
        return self._names

    def start(self, name: str) -> None:
        """Start a manager as a new process."""
        self._runs += 1
        process = Process(f"{name}.{self._runs}", self._elects)
        task = self._tasks.create_task(self._run(process), name=process.name)
        self._running[name] = process, task

    def kill(self, name: str) -> None:
        """As kill -9: nothing that it has begun is finished, nothing is said to anybody."""
        process, task = self._running.pop(name)
        process.dead = True
        task.cancel()
        if process.cut_off and not self.any_cut_off:
            self._weather.blackout = self._cluster.clock.time()

    def cut_off(self, name: str, cut: bool = True) -> None:
        """Let nothing of its through, or again everything."""
        self._running[name][0].cut_off = cut
        self._weather.blackout = float("inf") if self.any_cut_off else self._cluster.clock.time()

    @property
    def any_cut_off(self) -> bool:
        return any(process.cut_off for process, _ in self._running.values())

    def start_all(self) -> None:
        for name in self._names:
            if name not in self._running:
                self.start(name)

    def calm(self) -> None:
        """All run and reach the API server."""
        self.start_all()
        for name in self._names if self.any_cut_off else ():
            self.cut_off(name, False)

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def _connect(self, process: Process, user: User) -> Client:
        inner = LocalClient(self._cluster.server.handler, user, agent=user.name.rpartition(":")[2])
        return StormyClient(inner, self._weather, process)

    async def _run(self, process: Process) -> None:
        """Run it, and run it again when it has lost the lease: then a process ends, and its keeper starts another."""
        config = manager.ManagerConfig(
            connect=lambda user: self._connect(process, user),
            leader_elect=process.elects,
            identity=process.name,
            settings={"root-ca": "test certificate"},
        )
        while True:
            try:
                await manager.run(self._connect(process, MANAGER), self._cluster.clock, manager.ALL, config)
            except* LeadershipLost:
                await self._cluster.clock.sleep(_PAUSE)
