"""A cluster that nodes of other machines can join (`tiphys up --listen ADDRESS`): where, and this machine's part in the
way to the pods of the others."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from tiphys.base import outside
from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Permanent
from tiphys.client.resources import NODES
from tiphys.client.types import Client
from tiphys.cluster.config import ClusterConfig
from tiphys.overlay.plan import inner_mtu
from tiphys.overlay.types import ADDRESS, HOST_ROUTES, SUBNETS, VXLAN, Settings

log = logging.getLogger(__name__)

RETRY = 5.0


def check(address: str, port: int) -> str:
    """The address as it is to be kept. Raises Permanent if the API server cannot be reached there from elsewhere."""
    if outside.agent():
        raise Permanent("--listen: nodes of other machines cannot join a cluster without root (docs/rootless.md)")
    try:
        found = ip_address(address)
    except ValueError:
        raise Permanent(f"--listen {address}: not an IP address") from None
    if found.is_unspecified or found.is_loopback or found.is_multicast:
        raise Permanent(f"--listen {address}: must be the address by which other machines reach this one")
    try:
        outside.bound(str(found), port).close()
    except OSError as error:
        why = "no address of this machine" if error.errno == errno.EADDRNOTAVAIL else str(error.strerror)
        raise Permanent(f"--listen {address}: {why}") from error
    return str(found)


def changed(config: ClusterConfig, listen: str, overlay: str, *, running: bool) -> ClusterConfig:
    """As `tiphys up --listen --network` ask for it; "" leaves what there is, "none" ends that nodes can join.

    Raises Permanent for what cannot be had, or not while the control plane runs."""
    address = config.listen if not listen else "" if listen == "none" else listen
    wanted = replace(config, listen=address, overlay=overlay or config.overlay)
    if wanted == config:
        return config
    if running:
        raise Permanent(
            f"--listen, --network: cluster {config.name} runs with {config.listen or 'none'}, {config.overlay}; "
            f"`tiphys down {config.name}` first"
        )
    if not address:
        return wanted
    wanted = replace(wanted, listen=check(address, config.port))
    version = ip_address(wanted.listen).version
    if wanted.overlay == HOST_ROUTES and any(each.version != version for each in config.pod_networks):
        raise Permanent(
            f"--network {HOST_ROUTES}: leads to IPv{version} only, as --listen {address} does; take {VXLAN}"
        )
    return wanted


def server(config: ClusterConfig) -> str:
    """The API server's URL for other machines."""
    host = f"[{config.listen}]" if ":" in config.listen else config.listen
    return f"https://{host}:{config.port}"


def vni(config: ClusterConfig) -> int:
    """The cluster's number in VXLAN packets: no two clusters of one machine have the same."""
    return config.index + 1


def settings(config: ClusterConfig) -> Settings:
    """How this machine's nodes reach those of others. Their own addresses are routed back to the bridge."""
    plain = Settings(
        config.overlay,
        config.listen,
        f"{config.bridge}-vxlan",
        vni(config),
        sources=tuple(map(str, config.gateways)),
    )
    return replace(plain, mtu=mtu(config, plain))


def mtu(config: ClusterConfig, plain: Settings) -> int:
    """Bytes of a pod's packet to another machine; 0 if that is unknown."""
    from tiphys.overlay.links import OverlayLink

    try:
        with OverlayLink() as link:
            return inner_mtu(plain, link.mtu_of(config.listen))
    except OSError:
        return 0


async def tell(config: ClusterConfig, node: str, client: Client, clock: Clock) -> None:
    """Write the notes to the node's object; tried again until it is done."""
    while True:
        try:
            await client.patch(NODES, node, {"metadata": {"annotations": notes(config)}})
        except (ApiError, OSError) as error:
            log.warning("other machines are not told yet how to reach node %s: %s", node, error)
            await clock.sleep(RETRY)
        else:
            return


def notes(config: ClusterConfig) -> dict[str, Any]:
    """What the Node objects of this machine tell the others; None takes away what they told before."""
    if not config.listen:
        return {ADDRESS: None, SUBNETS: None}
    return {ADDRESS: config.listen, SUBNETS: ",".join(map(str, config.node_networks))}
