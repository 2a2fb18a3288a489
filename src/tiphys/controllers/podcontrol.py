"""Creating and deleting pods for an owner: in growing batches, with the events that users look for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.events import NORMAL, WARNING, EventRecorder
from tiphys.client.resources import PODS
from tiphys.client.types import Client, Object
from tiphys.controllers.expectations import Expectations
from tiphys.controllers.objects import name, namespace, namespace_terminating

Failure = ApiError | OSError
"""An answer of the server, or none: the connection broke, and nobody knows what became of the call."""

BURST = 500
"""As many pods are created or deleted in one go at most."""


class PodControl:
    """Creates and deletes pods on behalf of their controllers."""

    def __init__(self, client: Client, recorder: EventRecorder, expectations: Expectations) -> None:
        self._client = client
        self._recorder = recorder
        self._expectations = expectations

    async def create(self, key: str, owner: Object, pods: Sequence[Mapping[str, Any]]) -> Failure | None:
        """Create `pods` in batches of 1, 2, 4 ...: if they cannot be created, few attempts show it.

        Returns the first failure; those after the failed batch were not tried."""
        return await in_growing_batches([partial(self.create_one, key, owner, pod) for pod in pods[:BURST]])

    async def delete(self, key: str, owner: Object, pods: Iterable[Object]) -> Failure | None:
        """Delete all of `pods` at once; returns the first failure."""
        async with asyncio.TaskGroup() as tasks:
            deletions = [tasks.create_task(self.delete_one(key, owner, pod)) for pod in list(pods)[:BURST]]
        return next((error for task in deletions if (error := task.result()) is not None), None)

    async def create_one(self, key: str, owner: Object, pod: Mapping[str, Any]) -> Failure | None:
        """Create a pod, or return why that failed; that its namespace is going away is no failure."""
        try:
            made = await self._client.create(PODS, pod, namespace(owner))
        except (ApiError, OSError) as error:
            if namespace_terminating(error):
                return None
            self._recorder.event(owner, WARNING, "FailedCreate", f"Error creating: {error}")
            return error
        self._expectations.creation(key, made)
        self._recorder.event(owner, NORMAL, "SuccessfulCreate", f"Created pod: {name(made)}")
        return None

    async def delete_one(self, key: str, owner: Object, pod: Object) -> Failure | None:
        """Delete a pod, or return why that failed; that it has gone already is no failure."""
        self._expectations.deletion(key, pod)
        try:
            await self._client.delete(PODS, name(pod), namespace(pod))
        except NotFound:
            self._expectations.withdraw(key, pod)
            return None
        except (ApiError, OSError) as error:
            self._expectations.withdraw(key, pod)
            self._recorder.event(owner, WARNING, "FailedDelete", f"Error deleting: {error}")
            return error
        self._recorder.event(owner, NORMAL, "SuccessfulDelete", f"Deleted pod: {name(pod)}")
        return None


async def in_growing_batches(calls: Sequence[Callable[[], Awaitable[Failure | None]]]) -> Failure | None:
    """Make `calls` in batches of 1, 2, 4 ... side by side; stop after the first batch with a failure."""
    done, size = 0, 1
    while done < len(calls):
        batch = calls[done : done + size]
        results = await asyncio.gather(*(call() for call in batch))
        failure = next((error for error in results if error is not None), None)
        if failure is not None:
            return failure
        done, size = done + len(batch), size * 2
    return None
