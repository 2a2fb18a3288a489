"""The Services' proxy alone: kube-proxy's flags and configuration file, the network namespace that it is started in."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import socket
from functools import partial
from pathlib import Path

from tiphys.base.clock import Clock, SystemClock
from tiphys.base.conntrack import Conntrack
from tiphys.base.errors import Permanent
from tiphys.base.inotify import DirectoryWatch
from tiphys.base.metrics import Registry
from tiphys.base.nftables import Nftables
from tiphys.client.config import ClientConfig, load
from tiphys.client.events import NORMAL, EventRecorder
from tiphys.client.https import HttpsClient
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import NODES
from tiphys.client.types import Object
from tiphys.cluster.proxy_flags import given
from tiphys.proxy.configfile import document, settings
from tiphys.proxy.configfile.fields import Values, defaulted
from tiphys.proxy.conntrack import sysctls
from tiphys.proxy.health.answers import health_handler, metrics_handler
from tiphys.proxy.health.serving import listeners, serve_plainly
from tiphys.proxy.metrics import ProxyMetrics
from tiphys.proxy.observer import Node, ProxyObserver
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.proxy import ServiceProxy
from tiphys.runtime import processes

log = logging.getLogger(__name__)

NODE_PATIENCE = 30.0
"""Seconds to wait for the Node object; then the proxy begins without."""


async def run(options: argparse.Namespace) -> None:
    """Until cancelled. Raises Permanent, OSError."""
    if options.write_config_to:
        document.write(defaulted(given(options)), Path(options.write_config_to))
        return
    if options.cleanup:
        cleanup()
        return
    values = configuration(options)
    settings.require(values)
    if unserved := settings.without_effect(values):
        log.warning("these fields of the proxy's configuration have no effect: %s", ", ".join(unserved))
    sysctls.apply(sysctls.wanted(values, os.cpu_count() or 1))
    processes.set_oom_score("self", values["oomScoreAdj"])
    if options.init_only:
        return
    clock = SystemClock()
    client = HttpsClient(_access(values, options.master), clock=clock, agent="kube-proxy")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        informers = await stack.enter_async_context(InformerFactory(client, clock))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if options.config:
            tasks.create_task(_until_changed(Path(options.config)), name="configuration file")
        recorder = EventRecorder(client, clock, "kube-proxy", values["hostnameOverride"])
        await _Proxy(values, informers, recorder, clock).run()


def configuration(options: argparse.Namespace) -> Values:
    """Of the file, or of the flags; the node's name is settled. Raises Permanent, OSError."""
    values = document.read(Path(options.config)) if options.config else defaulted(given(options))
    name = options.hostname_override.strip() or values["hostnameOverride"] or socket.gethostname()
    if options.hostname_override and not options.hostname_override.strip():
        raise Permanent("empty hostname-override is invalid")
    return values | {"hostnameOverride": name.strip().lower()}


def cleanup() -> None:
    """Remove all rules of this proxy from the network namespace. Raises OSError."""
    table = ProxyConfig().table
    with Nftables() as nft:
        for family in ("ip", "ip6"):
            nft.run(f"add table {family} {table}; delete table {family} {table}")


def _access(values: Values, master: str) -> ClientConfig:
    from dataclasses import replace

    if master and not values["clientConnection.kubeconfig"]:
        return ClientConfig(server=master)
    config = load(values["clientConnection.kubeconfig"] or None)
    return replace(config, server=master) if master else config


async def _until_changed(file: Path) -> None:
    """Raises Permanent when the file's content is another: whoever started this is to start it again."""
    changed, before = asyncio.Event(), _content(file)
    with contextlib.closing(DirectoryWatch(file.parent.absolute(), changed.set)):
        while True:
            await changed.wait()
            changed.clear()
            if _content(file) not in (before, None):
                raise Permanent("content of the proxy server's configuration file was updated")


def _content(file: Path) -> bytes | None:
    """None while there is no such file: it is being replaced."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


class _Proxy:
    """One run of it, with a configuration that can be had."""

    def __init__(self, values: Values, informers: InformerFactory, recorder: EventRecorder, clock: Clock) -> None:
        self._values, self._informers, self._recorder, self._clock = values, informers, recorder, clock
        self._name = values["hostnameOverride"]

    async def run(self) -> None:
        """Until cancelled. Raises Permanent when the node's addresses change, as upstream."""
        ips = settings.node_ips(await self._node(), self._values["bindAddress"])
        primary = "IPv6" if ":" in ips[0] else "IPv4"
        families = [primary, *(one for one in ("IPv4", "IPv6") if one != primary and _has(one))]
        config = settings.proxy_config(self._values, self._name, ips, families)
        observer = self._observer(config)
        proxy = ServiceProxy(self._informers, self._clock, config, Nftables, [observer])
        reference = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": self._name}
        self._recorder.about(reference, NORMAL, "Starting", "", "StartKubeProxy")
        log.info("proxying for node %s at %s", self._name, ", ".join(ips))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run(), name="events")
            tasks.create_task(self._until_moved(ips), name="node")
            tasks.create_task(observer.run(), name="around services")
            self._serve(observer, tasks)
            await proxy.run()
            raise Permanent("Services do not work here: see the log")

    async def _node(self) -> Object | None:
        """The Node object, as soon as it is there; None if it does not come."""
        nodes, there = self._informers.get(NODES, fields=f"metadata.name={self._name}"), asyncio.Event()

        def changed(old: Object | None, new: Object | None) -> None:
            if new is not None and (new.get("status") or {}).get("addresses"):
                there.set()

        nodes.subscribe(changed)
        try:
            async with asyncio.timeout(NODE_PATIENCE):
                await there.wait()
        except TimeoutError:
            log.warning("the API server has no Node %s with addresses; see --hostname-override", self._name)
        finally:
            nodes.unsubscribe(changed)
        return nodes.get("", self._name)

    async def _until_moved(self, ips: list[str]) -> None:
        nodes, moved = self._informers.get(NODES, fields=f"metadata.name={self._name}"), asyncio.Event()

        def changed(old: Object | None, new: Object | None) -> None:
            if new is not None and settings.node_ips(new, self._values["bindAddress"]) != ips:
                moved.set()

        nodes.subscribe(changed)
        await moved.wait()
        raise Permanent(f"the addresses of node {self._name} have changed: start again")

    def _observer(self, config: ProxyConfig) -> ProxyObserver:
        checked = settings.health_check_addresses(config.node_port_addresses, config.node_ips)
        hosts = checked or (["::"] if _has("IPv6") else ["0.0.0.0"])  # noqa: S104 - node ports answer everywhere

        def listen(port: int) -> list[socket.socket]:
            return [listener for host in hosts for listener in listeners(host, port)]

        own = Node(self._name, config.families, timeout=2 * self._values["nftables.syncPeriod"])
        metrics = ProxyMetrics(Registry())
        return ProxyObserver(own, self._informers, self._clock, metrics, Conntrack, listen, self._recorder)

    def _serve(self, observer: ProxyObserver, tasks: asyncio.TaskGroup) -> None:
        metrics, must = observer.metrics, self._values["bindAddressHardFail"]
        health = health_handler(observer.health, self._clock, metrics.healthz, metrics.livez)
        told = metrics_handler(metrics.registry, lambda: document.nested(self._values))
        for name, handler in (("healthzBindAddress", health), ("metricsBindAddress", told)):
            host, _, port = self._values[name].rpartition(":")
            opened = partial(listeners, host.strip("[]"), int(port or 0))
            if host:
                tasks.create_task(serve_plainly(opened, handler, name, self._clock, must=must), name=name)


def _has(family: str) -> bool:
    """Whether this network namespace knows the family."""
    return family == "IPv4" or Path("/proc/net/if_inet6").exists()
