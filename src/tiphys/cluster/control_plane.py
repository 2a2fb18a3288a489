"""The control plane of a cluster in one process: API server over the store, controllers and scheduler beside it.

The controllers and the scheduler are clients like anybody else, each with its own identity, but over the local
transport: no sockets and no encoding.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.authn import Certificates
from tiphys.apiserver.authn.certificate import VerifiedPeers
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base import outside
from tiphys.base.certificates import ClientVerifier
from tiphys.base.clock import Clock, SystemClock
from tiphys.base.http.server import BACKLOG, serve, serve_on
from tiphys.base.identity import User
from tiphys.base.tls import KeyPair, client_context, server_context
from tiphys.client.local import LocalClient
from tiphys.cluster import config as configs
from tiphys.cluster import edge, gateway, gateway_objects, network, network_role, processes, stores
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.metrics import Metrics
from tiphys.cluster.pki import FRONT_PROXY, FRONT_PROXY_CA
from tiphys.controllers import manager
from tiphys.controllers.csr_rules import SIGNERS
from tiphys.scheduler.app import Scheduler

log = logging.getLogger(__name__)

MANAGER = User("system:kube-controller-manager", groups=("system:authenticated",))
SCHEDULER = User("system:kube-scheduler", groups=("system:authenticated",))


async def run(config: ClusterConfig) -> None:
    """Serve until cancelled."""
    clock = SystemClock()
    network.setup_host(config)
    settings = api_config(config)
    metrics = Metrics(settings.kubelet_tls, clock)
    asked = edge.opened(config)
    async with (
        stores.opened(config.store, config.paths.store) as store,
        ApiServer(replace(settings, extensions=(metrics.extension,)), store, clock) as server,
        serving(config, server, clock),
        asyncio.TaskGroup() as tasks,
    ):
        metrics.connect(server.handler)
        work = [
            tasks.create_task(run_controllers(config, server, clock), name="controllers"),
            tasks.create_task(run_scheduler(server, clock), name="scheduler"),
            tasks.create_task(gateway.supervise(config, gateway.connect(server.handler), clock), name="gateway"),
            tasks.create_task(edge.run(config, server, asked, clock), name="edge"),
        ]
        gc.collect()
        gc.freeze()
        processes.announce_ready(config.paths.lock(processes.CONTROL_PLANE))
        await asyncio.gather(*work)


@contextlib.asynccontextmanager
async def serving(config: ClusterConfig, server: ApiServer, clock: Clock) -> AsyncIterator[None]:
    """HTTPS for the user of this machine, and for the pods at the nodes' gateway."""
    await network_role.ensure(server.handler)
    pki = config.paths.pki
    tls = server_context(key_pair(pki, "apiserver"), (pki / "ca.crt").read_bytes(), verify_later=True)
    async with contextlib.AsyncExitStack() as stack:
        for address in filter(None, ("127.0.0.1", *map(str, config.gateways), config.listen)):
            await stack.enter_async_context(serve(server.handler, address, config.port, tls=tls, clock=clock))
            log.info("serving on https://%s:%d", f"[{address}]" if ":" in address else address, config.port)
        if outside.agent():
            listener = outside.listener("127.0.0.1", config.port)
            listener.listen(BACKLOG)
            await stack.enter_async_context(serve_on(server.handler, listener, tls=tls, clock=clock))
        yield


async def run_controllers(config: ClusterConfig, server: ApiServer, clock: Clock) -> None:
    settings = {
        "cluster-cidr": ",".join(map(str, config.pod_networks)),
        "node-ranges": lambda name: _pod_ranges(config.name, name),
        "reserved-cidrs": config.pods_here,
        "load-balancer-addresses": config.load_balancers,
        "cluster-dns": ",".join(config.dns_addresses),
        "root-ca": (config.paths.pki / "ca.crt").read_text(),
        "service-account-token": server.issuer.issue_legacy,
        "cluster-signing": dict.fromkeys(SIGNERS, signing_pair(config)),
    }

    def connect(user: User) -> LocalClient:
        return LocalClient(server.handler, user, agent=user.name.rpartition(":")[2])

    await manager.run(
        LocalClient(server.handler, MANAGER, agent="kube-controller-manager"),
        clock,
        config=manager.ManagerConfig(connect=connect, settings=settings),
    )


def _pod_ranges(cluster: str, name: str) -> tuple[str, ...]:
    """The ranges that a node of this machine has in any case; none for nodes that joined from elsewhere."""
    config = configs.existing(cluster)
    return tuple(str(each) for node in config.nodes if node.name == name for each in config.pod_cidrs(node))


def signing_pair(config: ClusterConfig) -> tuple[bytes, bytes]:
    """The cluster's own authority: it signs approved certificate requests."""
    pki = config.paths.pki
    return (pki / "ca.crt").read_bytes(), (pki / "ca.key").read_bytes()


async def run_scheduler(server: ApiServer, clock: Clock) -> None:
    await Scheduler(LocalClient(server.handler, SCHEDULER, agent="kube-scheduler"), clock).run()


def api_config(config: ClusterConfig) -> ApiServerConfig:
    pki = config.paths.pki
    ca = (pki / "ca.crt").read_bytes()
    return ApiServerConfig(
        authenticators=(Certificates(VerifiedPeers(ClientVerifier(ca))),),
        service_account_key=(pki / "sa.key").read_bytes(),
        client_ca=ca,
        cluster_ca=ca,
        front_proxy=key_pair(pki, FRONT_PROXY),
        front_proxy_ca=(pki / f"{FRONT_PROXY_CA}.crt").read_bytes(),
        kubelet_tls=client_context(ca, key_pair(pki, "apiserver-kubelet-client")),
        service_cidr=",".join(map(str, config.service_networks)),
        objects=gateway_objects.desired(),
        advertise_address=config.listen or str(config.gateway),
        secure_port=config.port,
    )


def key_pair(pki: Path, name: str) -> KeyPair:
    return KeyPair.load(pki / f"{name}.crt", pki / f"{name}.key")
