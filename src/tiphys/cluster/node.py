"""A node of a cluster in one process: a kubelet over the runtime, in a network namespace of its own.

The process itself stays in the host's namespaces, so that it reaches registries and the API server as the host
does; its pods live in the node's. It speaks to the API server over TLS with its own certificate, like any node.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from functools import partial
from pathlib import Path

from tiphys.api.wellknown import CLUSTER_DNS_LABEL
from tiphys.base import listening
from tiphys.base.clock import Clock, SystemClock
from tiphys.client.config import ClientConfig
from tiphys.client.https import HttpsClient
from tiphys.client.informer import Informer
from tiphys.client.resources import NODES
from tiphys.client.types import Client, Object
from tiphys.cluster import (
    images,
    kubelet_settings,
    network,
    node_network,
    node_policies,
    paths,
    pod_networks,
    processes,
    shares,
)
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.cluster.join import joining
from tiphys.kubelet.app import Kubelet
from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime import netns
from tiphys.runtime.dial import connect_from
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.node import NodeNetwork

log = logging.getLogger(__name__)

PODS = "pods"
NODE_API_PORT = 10250


async def run(config: ClusterConfig, node: NodeConfig) -> None:
    """Be the node until cancelled; containers go on."""
    clock = SystemClock()
    network.setup_host(config)
    namespace = network.of_node(config, node)
    for missing in namespace.setup():
        log.warning("%s", missing)
    runtime = open_runtime(config, node, namespace, clock)
    client = HttpsClient(client_config(config, node), clock=clock, agent="kubelet")
    account = client_config(config, node, "network")
    reader = HttpsClient(account, clock=clock, agent="kube-proxy")
    policies = node_policies.enforcer(namespace, reader, clock, config.dns_addresses)
    kubelet = Kubelet(
        kubelet_config(config, node, namespace),
        client,
        runtime,
        clock,
        listeners=listeners(namespace),
        guard=policies,
        dial=partial(connect_from, namespace.namespace),
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        stack.push_async_callback(reader.close)
        stack.push_async_callback(runtime.close)
        await processes.await_go()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        work = tasks.create_task(kubelet.run(), name="kubelet")
        tasks.create_task(policies.run(), name="network policies")
        tasks.create_task(node_network.run(node_network.place(config, node, namespace), account, clock), name="network")
        await until_ready(client, clock, node.name)
        tasks.create_task(joining.tell(config, node.name, client, clock), name="what other machines are told")
        gc.collect()
        gc.freeze()
        processes.announce_ready(config.paths.lock(node.name))
        await work


async def until_ready(client: Client, clock: Clock, name: str) -> None:
    """Return when the API says that the node is Ready."""
    ready = asyncio.Event()

    def changed(old: Object | None, new: Object | None) -> None:
        conditions = ((new or {}).get("status") or {}).get("conditions") or ()
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            ready.set()

    informer = Informer(client, NODES, clock, fields=f"metadata.name={name}")
    informer.subscribe(changed)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(informer.run(), name="own node, until it is Ready")
        await ready.wait()
        watching.cancel()


def open_runtime(config: ClusterConfig, node: NodeConfig, namespace: NodeNetwork, clock: Clock) -> LinuxRuntime:
    """The runtime of a node over the machine's images; its network must be set up."""
    directory = config.paths.node(node.name)
    pods = pod_networks.of_node(config, node, namespace)
    return LinuxRuntime(directory / "runtime", images.store(namespace.namespace), {PODS: pods}, clock)


def listeners(namespace: NodeNetwork) -> list[socket.socket]:
    """Where the node API listens: the kubelet's port of the node's addresses, in its own network namespace."""

    def opened() -> list[socket.socket]:
        return [each for address in namespace.addresses for each in listening.listeners(address, NODE_API_PORT)]

    return netns.inside(namespace.namespace, opened)


def client_config(config: ClusterConfig, node: NodeConfig, who: str = "client") -> ClientConfig:
    """How the node reaches the API server: as system:node:NAME, its network as system:kube-proxy."""
    pki = config.paths.pki
    return ClientConfig(
        server=config.server,
        ca=(pki / "ca.crt").read_bytes(),
        certificate=(pki / f"{node.name}-{who}.crt").read_bytes(),
        key=(pki / f"{node.name}-{who}.key").read_bytes(),
    )


def kubelet_config(config: ClusterConfig, node: NodeConfig, namespace: NodeNetwork) -> KubeletConfig:
    pki = config.paths.pki
    directory = config.paths.node(node.name)
    own = KubeletConfig(
        node_name=node.name,
        root_dir=directory / "kubelet",
        node_ips=namespace.addresses,
        address=namespace.address,
        tls_cert=pki / f"{node.name}-server.crt",
        tls_key=pki / f"{node.name}-server.key",
        client_ca=pki / "ca.crt",
        cgroup_root=cgroup_root(config, node),
        network=PODS,
        cluster_dns=config.dns_addresses,
        node_labels={CLUSTER_DNS_LABEL: "true"},
        kernel_log=Path("/dev/kmsg"),
        capacity=shares.LiveShare(config, shares.machine_of),
        image_dir=paths.images_dir(),
        container_dir=directory / "runtime",
        **kubelet_settings.EASY_ON_DISKS,
    )
    return kubelet_settings.applied(config, own)


def cgroup_root(config: ClusterConfig, node: NodeConfig) -> str:
    """The node's cgroup, relative to each controller's mount."""
    return f"tiphys/{paths.cgroup(config.name)}/{node.name}"
