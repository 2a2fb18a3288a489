"""A whole control plane in one process on virtual time, for tests of controllers and of operators.

    def test_a_deployment_comes_up() -> None:
        clock = VirtualClock()

        async def scenario() -> None:
            async with Cluster(clock, nodes=2) as cluster:
                await cluster.client.create(DEPLOYMENTS, deployment)
                await cluster.wait(DEPLOYMENTS, "default", "web", lambda web: ready(web) == 3)

        clock.run(scenario())

The API server, its store and the controllers are the real ones; nodes are `FakeNodes`, which start no containers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Literal, Self

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.clock import Clock
from tiphys.base.errors import NotFound
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.client.streams import closing
from tiphys.client.types import Client, Object, Resource
from tiphys.controllers import manager
from tiphys.scheduler.app import Scheduler
from tiphys.store.memory import MemoryStore
from tiphys.testing.nodes import FakeNodes

ADMIN = User("kubernetes-admin", groups=("system:masters", "system:authenticated"))
SCHEDULER = User("system:kube-scheduler", groups=("system:authenticated",))
MANAGER = User("system:kube-controller-manager", groups=("system:authenticated",))


class Cluster:
    """See the module's docstring. `controllers` are names as for --controllers, "" for none.

    `binder` says who gives nodes to pods: the fake nodes, a real scheduler, or "" for nobody (see `scheduler`)."""

    def __init__(
        self,
        clock: Clock,
        *,
        nodes: int = 1,
        controllers: Sequence[str] | str = manager.ALL,
        binder: Literal["nodes", "scheduler", ""] = "nodes",
        settings: dict[str, object] | None = None,
        config: ApiServerConfig | None = None,
    ) -> None:
        self.clock = clock
        self._nodes = nodes
        self._controllers = controllers
        self._binder = binder
        self._settings = settings or {"root-ca": "test certificate"}
        self._config = config or ApiServerConfig()
        self._stack = AsyncExitStack()
        self.server: ApiServer
        self.client: Client
        self.nodes: FakeNodes

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException as error:
            await self._stack.__aexit__(type(error), error, error.__traceback__)  # what failed is in the background
            raise
        return self

    async def _start(self) -> None:
        self.store = MemoryStore()
        self._stack.push_async_callback(self.store.close)
        self.server = await self._stack.enter_async_context(ApiServer(self._config, self.store, self.clock))
        self.client = self.connect(ADMIN)
        self.nodes = FakeNodes(self.client, self.clock, bind=self._binder == "nodes")
        await self._stack.enter_async_context(background(self.nodes.run))
        if self._controllers:
            await self._stack.enter_async_context(self.managing(self._controllers))
        if self._binder == "scheduler":
            await self._stack.enter_async_context(self.scheduler())
        for number in range(1, self._nodes + 1):
            await self.nodes.add(f"node-{number}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def connect(self, user: User) -> Client:
        """A client that speaks as `user`."""
        return LocalClient(self.server.handler, user, agent=user.name.rpartition(":")[2])

    def scheduler(self) -> AbstractAsyncContextManager[None]:
        """Run a scheduler until the block is left."""
        return background(Scheduler(self.connect(SCHEDULER), self.clock).run)

    def managing(self, controllers: Sequence[str] | str) -> AbstractAsyncContextManager[None]:
        """Run (further) controllers until the block is left: a manager that starts, and one that dies."""
        return background(lambda: self._manage(controllers))

    async def wait(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        condition: Callable[[Object], bool] = lambda obj: True,
        timeout: float = 600.0,
    ) -> Object:
        """Wait until the object exists and meets `condition`; returns it. Raises TimeoutError with what it was."""
        last: Object | None = None
        try:
            async with asyncio.timeout(timeout):
                async for last in self._versions(resource, namespace, name):
                    if last is not None and condition(last):
                        return last
        except TimeoutError as error:
            raise TimeoutError(f"{resource.plural} {namespace}/{name} is still {last}") from error
        raise AssertionError("the server ended the watch")

    async def wait_gone(self, resource: Resource, namespace: str, name: str, timeout: float = 600.0) -> None:
        """Wait until the object does not exist. Raises TimeoutError with what it was."""
        last: Object | None = None
        try:
            async with asyncio.timeout(timeout):
                async for last in self._versions(resource, namespace, name):
                    if last is None:
                        return
        except TimeoutError as error:
            raise TimeoutError(f"{resource.plural} {namespace}/{name} is still {last}") from error

    async def _versions(self, resource: Resource, namespace: str, name: str) -> AsyncIterator[Object | None]:
        """The object as it is now and after each change; None while it does not exist."""
        fields = f"metadata.name={name}"
        listing = await self.client.list(resource, namespace, fields=fields)
        yield listing.items[0] if listing.items else None
        watch = self.client.watch(resource, namespace, fields=fields, resource_version=listing.resource_version)
        async with closing(watch) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    yield None if event.type == "DELETED" else event.object

    async def exists(self, resource: Resource, namespace: str, name: str) -> bool:
        try:
            await self.client.get(resource, name, namespace)
        except NotFound:
            return False
        return True

    async def _manage(self, controllers: Sequence[str] | str) -> None:
        config = manager.ManagerConfig(connect=self.connect, settings=self._settings)
        await manager.run(self.connect(MANAGER), self.clock, controllers, config)


@asynccontextmanager
async def background(work: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run `work` until the block is left; if it fails, so does the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work())
        yield
        task.cancel()
