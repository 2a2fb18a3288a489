"""Emptying a volume: a pod that mounts it removes everything, watched until it ends.

One try is a pod of the volume's name in the namespace `default`. What is told of the pod is told of the volume, too.
Source: "Persistent Volumes", Recycle, in the documentation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tiphys.base.errors import AlreadyExists, ApiError, NotFound
from tiphys.client.events import NORMAL
from tiphys.client.resources import EVENTS, PODS
from tiphys.client.streams import closing
from tiphys.client.types import Client, Object, WatchEvent
from tiphys.controllers.objects import name, namespace, status

log = logging.getLogger(__name__)

_OLD = "old recycler pod found, will retry later"


async def scrub(client: Client, pod: Object, forward: Callable[[str, str], None]) -> str:
    """Run the pod that empties a volume to its end; why that failed, or "".

    `forward` is given the type and the message of each event about the pod. A pod of that name that is there already is
    deleted: nobody knows whose it is."""
    try:
        await client.create(PODS, pod, namespace(pod))
    except AlreadyExists:
        problem = await _remove_pod(client, pod)
        where = f"{namespace(pod)}/{name(pod)}"
        return f"failed to delete old recycler pod {where}: {problem}" if problem else _OLD
    except ApiError as error:
        return f"unexpected error creating recycler pod:  {error}"
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(_listen(client, pod, forward), name=f"events of {name(pod)}")
        try:
            failure = await _finished(client, pod)
        except (ApiError, OSError):
            failure = "recycler pod watcher failed"
        finally:
            listening.cancel()
    problem = await _remove_pod(client, pod)
    if failure:
        return f"failed to recycle volume: {failure}"
    return f"failed to delete recycler pod: {problem}" if problem else ""


async def _finished(client: Client, pod: Object) -> str:
    """Why the pod failed, or "" when it has succeeded."""
    fields = f"metadata.name={name(pod)}"
    listing = await client.list(PODS, namespace(pod), fields=fields)
    for current in listing.items:
        ended = _outcome(WatchEvent("MODIFIED", current))
        if ended is not None:
            return ended
    if not listing.items:
        return "recycler pod was deleted"
    watch = client.watch(PODS, namespace(pod), fields=fields, resource_version=listing.resource_version)
    async with closing(watch) as events:
        async for event in events:
            ended = _outcome(event)
            if ended is not None:
                return ended
    return f'recycler pod "{name(pod)}" watch channel had been closed'


def _outcome(event: WatchEvent) -> str | None:
    if event.type == "DELETED":
        return "recycler pod was deleted"
    phase = status(event.object).get("phase") if event.type != "BOOKMARK" else None
    if phase == "Succeeded":
        return ""
    if phase == "Failed":
        return status(event.object).get("message") or "pod failed, pod.Status.Message unknown"
    return None


async def _listen(client: Client, pod: Object, forward: Callable[[str, str], None]) -> None:
    watch = client.watch(EVENTS, namespace(pod), fields=f"involvedObject.name={name(pod)}")
    try:
        async with closing(watch) as events:
            async for event in events:
                if event.type == "ADDED":
                    forward(event.object.get("type") or NORMAL, str(event.object.get("message") or ""))
    except (ApiError, OSError) as error:
        log.info("events of %s are not seen any more: %s", name(pod), error)


async def _remove_pod(client: Client, pod: Object) -> str:
    """What the deletion failed of, or ""."""
    try:
        await client.delete(PODS, name(pod), namespace(pod))
    except NotFound:
        return ""
    except ApiError as error:
        return str(error)
    return ""
