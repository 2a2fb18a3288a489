"""What every controller is: informers that feed a queue, workers that reconcile its keys, a recorder for events.

A controller's module has pure decision functions and one subclass of `Controller`, the shell that carries them
out. It speaks to the API as its own service account, so that RBAC and the audit log tell controllers apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tiphys.base.clock import Clock
from tiphys.base.identity import User
from tiphys.client.events import EventRecorder
from tiphys.client.informer import Informer, InformerFactory, key_of
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.types import Client, Object, Resource
from tiphys.client.workqueue import WorkQueue

_FEW = 20
_EACH = 0.0005
_LONGEST = 0.5

Connect = Callable[[User], Client]


@dataclass(frozen=True, slots=True)
class ControllerContext:
    """What the manager gives to each controller."""

    informers: InformerFactory
    connect: Connect
    clock: Clock
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings by the name of upstream's flag, e.g. "cluster-cidr"; absent ones have the controller's default."""


def service_account(name: str, namespace: str = "kube-system") -> User:
    """The user that a service account is to authorization."""
    return User(
        f"system:serviceaccount:{namespace}:{name}",
        groups=("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
    )


class Controller:
    """Reconciles keys; subclasses watch resources in `__init__` and override `reconcile`."""

    name: ClassVar[str]
    """Upstream's name, for --controllers and as the source of events."""
    account: ClassVar[str]
    """Upstream's service account in kube-system; bootstrap roles are bound to it."""
    component: ClassVar[str] = ""
    """Source of events, where it is not the name."""
    workers: int = 5
    """How many keys are worked on at a time, unless the setting "workers" says otherwise by the controller's name."""

    def __init__(self, context: ControllerContext) -> None:
        self.context = context
        self.clock = context.clock
        self.client = context.connect(self.identity())
        self.recorder = EventRecorder(self.client, self.clock, self.component or self.name)
        self.queue: WorkQueue[str] = WorkQueue()
        self.workers = context.settings.get("workers", {}).get(self.name, self.workers)
        self._watched: list[Informer] = []
        self._written: dict[str, int] = {}

    def identity(self) -> User:
        """Whom the API server takes it for."""
        return service_account(self.account)

    def watch(self, resource: Resource, **scope: str) -> Informer:
        """The shared informer of `resource`; workers start when it has synced."""
        informer = self.context.informers.get(resource, **scope)
        if informer not in self._watched:
            self._watched.append(informer)
        return informer

    def enqueue(self, old: Object | None, new: Object | None) -> None:
        """A subscriber for informers of what is reconciled itself."""
        obj = new or old
        if obj is not None:
            self.queue.add(key_of(obj))

    def enqueue_owner(self, key: str, size: int) -> None:
        """Reconcile `key` because one of its `size` dependents changed.

        Looking at all of them for each one's change is quadratic: the more there are, the more changes are
        gathered before the next look, up to half a second's. The few of a small owner are never kept waiting."""
        self.queue.add_after(key, 0.0 if size < _FEW else min(_LONGEST, size * _EACH))

    async def reconcile(self, key: str) -> Result | None:
        """Compare desired with actual for one key; see `client.reconcile`."""
        raise NotImplementedError

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.recorder.run(), name=f"{self.name} events")
            for informer in self._watched:
                await informer.wait_synced()
            tasks.create_task(self.background(), name=f"{self.name} background")
            await run_workers(self.name, self.queue, self.reconcile, self.workers)

    async def background(self) -> None:
        """Work besides the queue, for controllers that have some."""
        return None

    async def update_status(self, resource: Resource, obj: Object, status: Mapping[str, Any]) -> Object:
        """PUT the status of `obj`, if it still is at the revision that was decided on (else Conflict)."""
        updated = await self.client.update(resource, {**obj, "status": status}, subresource="status")
        self._written[key_of(obj)] = _revision(updated)
        return updated

    def behind(self, key: str, obj: Object) -> bool:
        """Whether the cache's `obj` is older than our last write of its status.

        Deciding on it would count things twice; its newer version is on the way and adds the key again."""
        written = self._written.get(key)
        if written is None:
            return False
        if _revision(obj) < written:
            return True
        del self._written[key]
        return False


def _revision(obj: Object) -> int:
    """Its resourceVersion; versions of one resource grow, and may be compared (KEP-5504)."""
    return int(obj["metadata"].get("resourceVersion") or 0)
