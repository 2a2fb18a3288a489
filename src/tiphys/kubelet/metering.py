"""Counts and times what the kubelet has its runtime do, as upstream counts calls of the CRI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from tiphys.base.clock import Clock
from tiphys.kubelet.metrics import KubeletMetrics, size_name
from tiphys.runtime.types import ContainerStatus, Image, ImageStore, Runtime, SandboxSpec, SandboxStatus

OPERATIONS = {
    "create_sandbox": "run_podsandbox",
    "sandboxes": "list_podsandbox",
    "remove_sandbox": "remove_podsandbox",
    "create_container": "create_container",
    "start_container": "start_container",
    "stop_container": "stop_container",
    "remove_container": "remove_container",
    "container": "container_status",
    "containers": "list_containers",
    "exec": "exec",
    "exec_sync": "exec_sync",
    "attach": "attach",
    "dial": "port_forward",
    "usage": "container_stats",
    "sandbox_usage": "podsandbox_stats",
    "update": "update_container",
    "reopen_log": "reopen_container_log",
}
IMAGE_OPERATIONS = {"pull": "pull_image", "list": "list_images", "get": "image_status", "remove": "remove_image"}


def metered(runtime: Runtime, metrics: KubeletMetrics, clock: Clock) -> Runtime:
    """The same runtime; its calls are counted."""
    return cast("Runtime", _Runtime(runtime, metrics, clock))


class _Metered:
    """Hands everything on; calls that have a name in `operations` are counted and timed."""

    def __init__(self, inner: object, operations: dict[str, str], metrics: KubeletMetrics, clock: Clock) -> None:
        self._inner, self._operations, self._metrics, self._clock = inner, operations, metrics, clock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        operation = self._operations.get(name)
        if operation is None:
            return found
        wrapped = self._counted(name, operation)
        self.__dict__[name] = wrapped
        return wrapped

    def _counted(self, name: str, operation: str) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any, **named: Any) -> Any:
            metrics, began = self._metrics, self._clock.monotonic()
            metrics.operations.inc(operation)
            try:
                return await getattr(self._inner, name)(*arguments, **named)
            except Exception:
                metrics.operations_errors.inc(operation)
                raise
            finally:
                metrics.operations_duration.observe(self._clock.monotonic() - began, operation)

        return counted


class _Runtime(_Metered):
    def __init__(self, inner: Runtime, metrics: KubeletMetrics, clock: Clock) -> None:
        super().__init__(inner, OPERATIONS, metrics, clock)
        self._inner_runtime = inner
        self.images = cast("ImageStore", _Images(inner.images, metrics, clock))
        self._remove = self._counted("remove_sandbox", "remove_podsandbox")
        self._create = self._counted("create_sandbox", "run_podsandbox")
        self._start = self._counted("start_container", "start_container")
        self._starting: set[str] = set()
        """Sandboxes with a user namespace that nothing has failed in so far."""

    async def create_sandbox(self, spec: SandboxSpec) -> SandboxStatus:
        """Counted as a pod's start, too."""
        metrics, began = self._metrics, self._clock.monotonic()
        handler = str(getattr(spec, "handler", ""))
        if spec.user_namespace is not None:
            metrics.started_mapped_pods.inc()
            self._starting.add(spec.id)
        try:
            made: SandboxStatus = await self._create(spec)
        except Exception as error:
            metrics.run_sandbox_errors.inc(handler)
            metrics.started_pods_errors.inc()
            self._mapped_failed(spec.id)
            metrics.started_containers_errors.inc("pod_sandbox", type(error).__name__)
            raise
        metrics.run_sandbox.observe(self._clock.monotonic() - began, handler)
        metrics.started_pods.inc()
        metrics.started_containers.inc("pod_sandbox")
        return made

    async def start_container(self, id: str) -> ContainerStatus:
        """The first that fails makes its pod one that failed to start, where that has a user namespace."""
        try:
            started: ContainerStatus = await self._start(id)
        except Exception:
            if self._starting:
                self._mapped_failed((await self._inner_runtime.container(id)).spec.sandbox)
            raise
        return started

    async def remove_sandbox(self, id: str) -> None:
        """Nothing in it can fail any more."""
        self._starting.discard(id)
        await self._remove(id)

    def _mapped_failed(self, sandbox: str) -> None:
        if sandbox in self._starting:
            self._starting.discard(sandbox)
            self._metrics.started_mapped_pods_errors.inc()


class _Images(_Metered):
    def __init__(self, inner: ImageStore, metrics: KubeletMetrics, clock: Clock) -> None:
        super().__init__(inner, IMAGE_OPERATIONS, metrics, clock)
        self._pull = self._counted("pull", "pull_image")

    async def pull(self, *arguments: Any, **named: Any) -> Image:
        """Timed by the image's size, too."""
        began = self._clock.monotonic()
        image: Image = await self._pull(*arguments, **named)
        self._metrics.image_pull.observe(self._clock.monotonic() - began, size_name(image.size))
        return image
