"""The gateway's process: what runs in it, and how the control plane starts it when the first Ingress or Gateway comes.

It is not a child that ends with its parent: a control plane that starts again finds it by its lock and goes on
watching it. When it dies it is started anew at once, and more slowly when it dies again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
from collections.abc import AsyncIterator

from tiphys.api.meta import is_true
from tiphys.base.clock import Clock, SystemClock, rfc3339
from tiphys.base.errors import ApiError, Permanent
from tiphys.base.http.types import Handler
from tiphys.base.identity import User
from tiphys.client.backoff import Backoff
from tiphys.client.config import ClientConfig
from tiphys.client.https import HttpsClient
from tiphys.client.informer import Informer
from tiphys.client.local import LocalClient
from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS, NODES
from tiphys.client.types import Client, Object
from tiphys.cluster import gateway_objects, processes
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.processes import CONTROL_PLANE, GATEWAY
from tiphys.gateway.ingress.classes import class_of, our_classes
from tiphys.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES, INGRESS_CLASSES, INGRESSES

log = logging.getLogger(__name__)

LONG = 10.0
"""Seconds after which a process counts as having lived well."""
_FIRST = 5.0
"""Seconds that a node is waited for."""
_RETRY = Backoff(base=0.5, limit=30.0)


async def run(config: ClusterConfig) -> None:
    """Be the gateway until cancelled."""
    from tiphys.gateway import app

    if not processes.pid_of(config.paths.lock(CONTROL_PLANE)):
        raise Permanent("the control plane does not run; it starts the gateway")
    _raise_limit()
    clock = SystemClock()
    client = HttpsClient(_account(config), clock=clock, agent="tiphys-gateway")

    def ready() -> None:
        gc.collect()
        gc.freeze()
        processes.announce_ready(config.paths.lock(GATEWAY))

    try:
        await app.run(client, clock, [str(address) for address in config.gateways], ready)
    finally:
        await client.close()


def _account(config: ClusterConfig) -> ClientConfig:
    pki = config.paths.pki
    return ClientConfig(
        server=config.server,
        ca=(pki / "ca.crt").read_bytes(),
        certificate=(pki / "gateway.crt").read_bytes(),
        key=(pki / "gateway.key").read_bytes(),
    )


def _raise_limit() -> None:
    """Two descriptors a request that is on its way: as many as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(handler: Handler) -> LocalClient:
    """As whom the control plane sees to the gateway: not what the gateway itself may do."""
    return LocalClient(handler, User(gateway_objects.USER, groups=("system:masters",)), agent="tiphys-gateway")


async def supervise(config: ClusterConfig, client: Client, clock: Clock) -> None:
    """In the control plane: see to the objects, wait until the gateway is needed, keep it alive. Until cancelled."""
    failures = 0
    while True:
        try:
            await prepare(client, clock)
            if not processes.pid_of(config.paths.lock(GATEWAY)):
                await _wait_needed(client, clock)
            break
        except* (ApiError, OSError, TimeoutError) as group:
            log.warning("the gateway's objects: %s; next try soon", group.exceptions[0])
        await clock.sleep(_RETRY.delay(failures))
        failures += 1
    failures = 0
    while True:
        started = clock.monotonic()
        try:
            await _alive(config)
        except OSError as error:  # the control plane goes on without it
            log.warning("the gateway cannot be started: %s", error)
        failures = 0 if clock.monotonic() - started > LONG else failures + 1
        log.warning("the gateway has ended; it is started again")
        if failures > 1:
            await clock.sleep(_RETRY.delay(failures - 2))


async def prepare(client: Client, clock: Clock, nodes: float = _FIRST) -> None:
    """The GatewayClass, when its definition is served. Not before there is a node, which is waited for that many
    seconds: the first moments are for what a cluster cannot be without."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(nodes):
            await _wait_node(client, clock)
    async with asyncio.timeout(30):
        await _wait_served(client, clock)
    await gateway_objects.ensure_gateway_class(client, rfc3339(clock.time()))


async def _wait_node(client: Client, clock: Clock) -> None:
    ready = asyncio.Event()

    def changed(old: Object | None, new: Object | None) -> None:
        if new is not None and is_true(new, "Ready"):
            ready.set()

    informer = Informer(client, NODES, clock, transform=_conditions_only)
    informer.subscribe(changed)
    async with _running(informer):
        await ready.wait()


async def _wait_served(client: Client, clock: Clock) -> None:
    """Until the definitions that are watched are established."""
    wanted = {f"{each.plural}.{each.group}" for each in (GATEWAYS, GATEWAY_CLASSES, HTTP_ROUTES)}
    done = asyncio.Event()

    def changed(old: Object | None, new: Object | None) -> None:
        if new is not None and is_true(new, "Established"):
            wanted.discard(new["metadata"]["name"])
        if not wanted:
            done.set()

    informer = Informer(client, CUSTOM_RESOURCE_DEFINITIONS, clock, transform=_conditions_only)
    informer.subscribe(changed)
    async with _running(informer):
        await done.wait()


async def _wait_needed(client: Client, clock: Clock) -> None:
    """Until there is an Ingress of ours or a Gateway of anybody."""
    needed = asyncio.Event()
    ingresses = Informer(client, INGRESSES, clock, transform=_class_only)
    classes = Informer(client, INGRESS_CLASSES, clock)
    gateways = Informer(client, GATEWAYS, clock, transform=_class_only)

    def changed(old: Object | None, new: Object | None) -> None:
        ours = our_classes(classes.list())
        if len(gateways) or any(class_of(ingress) in ours for ingress in ingresses.list()):
            needed.set()

    for informer in (ingresses, classes, gateways):
        informer.subscribe(changed)
    async with _running(ingresses, classes, gateways):
        await needed.wait()


@contextlib.asynccontextmanager
async def _running(*informers: Informer) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(each.run(), name=f"gateway: {each.resource.plural}") for each in informers]
        try:
            yield
        finally:
            for task in work:
                task.cancel()


def _class_only(obj: Object) -> Object:
    metadata = {name: obj["metadata"].get(name) for name in ("name", "namespace", "uid", "resourceVersion")}
    metadata["annotations"] = obj["metadata"].get("annotations")
    return {"metadata": metadata, "spec": {"ingressClassName": (obj.get("spec") or {}).get("ingressClassName")}}


def _conditions_only(obj: Object) -> Object:
    return {"metadata": obj["metadata"], "status": {"conditions": (obj.get("status") or {}).get("conditions")}}


async def _alive(config: ClusterConfig) -> None:
    """Start the gateway unless it runs; returns when it has ended. Ends a process that is still starting when
    cancelled: nobody could find it."""
    lock = config.paths.lock(GATEWAY)
    pid = processes.pid_of(lock)
    if pid:
        await _ended(pid)
        return
    loop = asyncio.get_running_loop()
    arguments = ["run", "gateway", "--name", config.name]
    child = await loop.run_in_executor(None, processes.start, GATEWAY, arguments, lock, config.paths.log(GATEWAY))
    os.close(child.ready)
    os.close(child.go)
    try:
        await _ended(child.process.pid)
        child.process.wait()
    finally:
        if child.process.poll() is None and processes.pid_of(lock) != child.process.pid:
            child.process.kill()
            child.process.wait()


async def _ended(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
