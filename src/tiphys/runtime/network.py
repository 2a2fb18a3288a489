"""PodNetwork: each pod at the end of a cable of its own, with addresses from the node's pod CIDRs.

    node   podXXXX, a route to each of the pod's addresses (/32, /128)
      | veth
    pod    eth0 with these addresses, default route by the pod CIDR's first address, which is the node's

No two pods share a link: all that they send passes the node's IP layer, firewall included, and none can speak for
another. Neighbours are written down on both sides: nobody asks who has an address, so nobody can answer wrongly.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from pathlib import Path

from tiphys.base.netlink import Netlink
from tiphys.runtime import netns, shaping
from tiphys.runtime.connectivity import NO_LIMITS
from tiphys.runtime.hostports import HostPorts
from tiphys.runtime.ipam import pools
from tiphys.runtime.types import RuntimeFailure, SandboxSpec, SandboxStatus, State

log = logging.getLogger(__name__)

DEVICES, SHAPERS = "pod", "shp"
"""What the names of the node's ends of links begin with, and of the devices that shape what comes from there."""


class PodNetwork:
    """The Network (runtime.types) of one node.

    `namespace` is the path of the node's network namespace, which must have the first address of each of the `subnets`
    (see node.NodeNetwork); a pod gets an address of each, in this order. `state_dir` keeps who has which. `mtu` in
    bytes; 0 leaves the default. `sources` are the addresses that the node itself speaks to its pods from, if not those
    first ones.
    """

    def __init__(
        self, namespace: str, subnets: Sequence[str], state_dir: Path, mtu: int = 0, sources: Sequence[str] = ()
    ) -> None:
        self._namespace = namespace
        self._pools = pools(subnets, state_dir)
        self._mtu = mtu
        self._ports = HostPorts(namespace, DEVICES)
        self._shaped: set[str] = set()
        """IDs of sandboxes with a shaper."""
        self._sources = {ip_address(each).version: each for each in sources}

    @property
    def namespace(self) -> str:
        """The node's own network namespace."""
        return self._namespace

    async def problems(self) -> tuple[str, ...]:
        """None: all it needs is the kernel."""
        return ()

    async def attach(self, sandbox: SandboxSpec, namespace: str) -> tuple[str, ...]:
        """Set up lo and eth0 in `namespace` and return the addresses. Harmless if done already."""
        return await asyncio.to_thread(self._attach, sandbox, namespace)

    async def detach(self, sandbox: str) -> None:
        """Release addresses, ports and shaping; the link goes with the namespace. Harmless if done already."""
        await asyncio.to_thread(self._release, sandbox)

    async def keep(self, sandboxes: Sequence[SandboxStatus]) -> None:
        """Release what others than these have left."""
        await asyncio.to_thread(self._keep, sandboxes)

    def _attach(self, sandbox: SandboxSpec, namespace: str) -> tuple[str, ...]:
        addresses = tuple(pool.allocate(sandbox.id) for pool in self._pools)
        name = device_name(sandbox.id)
        try:
            with netns.inside(namespace, _enter) as there, netns.netlink_in(self._namespace) as here:
                self._connect(here, there, name, hardware_address(addresses[0]), namespace)
                self._configure(there, addresses)
                if sandbox.bandwidth != NO_LIMITS:
                    self._shaped.add(sandbox.id)
                    shaping.limit(here, name, device_name(sandbox.id, SHAPERS), sandbox.bandwidth)
                self._lead(here, name, addresses, loopback=bool(sandbox.ports))
        except OSError as error:
            where = f"{sandbox.id} ({', '.join(addresses)})"
            raise RuntimeFailure(f"network of sandbox {where}: {error.strerror}") from error
        self._ports.open(sandbox.id, sandbox.ports, addresses)
        return addresses

    def _release(self, sandbox: str) -> None:
        self._ports.close(sandbox)
        if sandbox in self._shaped:
            with netns.netlink_in(self._namespace) as here, contextlib.suppress(OSError):
                here.delete_link(device_name(sandbox, SHAPERS))
            self._shaped.discard(sandbox)
        for pool in self._pools:
            pool.release(sandbox)

    def _keep(self, sandboxes: Sequence[SandboxStatus]) -> None:
        ids = {each.spec.id for each in sandboxes}
        self._shaped = {each.spec.id for each in sandboxes if each.spec.bandwidth.egress}
        kept = {device_name(id, SHAPERS) for id in self._shaped}
        living = [each for each in sandboxes if each.state is State.RUNNING]
        try:
            with netns.netlink_in(self._namespace) as here:
                delete_shapers(here, kept)
                for each in living:
                    self._mend(here, each)
            self._ports.restore({each.spec.id: (each.spec.ports, each.ips) for each in living})
        except (OSError, RuntimeFailure) as error:
            log.warning("what is left of other sandboxes cannot be removed: %s", error)
        for pool in self._pools:
            pool.keep(ids)

    def _mend(self, here: Netlink, sandbox: SandboxStatus) -> None:
        """Lead to a living sandbox again, should somebody have removed the way."""
        name = device_name(sandbox.spec.id)
        if here.index(name) and len(sandbox.ips) == len(self._pools):
            self._lead(here, name, sandbox.ips, loopback=bool(sandbox.spec.ports))

    @property
    def _router(self) -> bytes:
        """The hardware address of all of the node's ends: no two of them are ever on one link."""
        return hardware_address(self._pools[0].gateway)

    def _connect(self, here: Netlink, there: Netlink, name: str, hardware: bytes, namespace: str) -> None:
        """A veth pair, unless it is there: `name` in the node, eth0 in the sandbox."""
        handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            here.add_veth(name, "eth0", handle, hardware, self._mtu, self._router)
        except FileExistsError:
            if there.index("eth0"):
                return
            with contextlib.suppress(OSError):
                here.delete_link(name)  # left by a sandbox of the same name that is still going away
            here.add_veth(name, "eth0", handle, hardware, self._mtu, self._router)
        finally:
            os.close(handle)

    def _configure(self, there: Netlink, addresses: Sequence[str]) -> None:
        """The pod's side."""
        there.set_up(1)
        device = there.index("eth0")
        for address in addresses:
            there.add_address(device, address)
        there.set_up(device)
        for pool in self._pools:
            there.add_neighbour(device, pool.gateway, self._router)
            there.add_route("default", pool.gateway, device)

    def _lead(self, here: Netlink, name: str, addresses: Sequence[str], *, loopback: bool) -> None:
        """The node's side: the way to the pod, last, so that what the pod sends is dropped until all is there."""
        device = here.index(name)
        here.check_sources(device, loopback=loopback)
        for pool, address in zip(self._pools, addresses, strict=True):
            here.add_neighbour(device, address, hardware_address(addresses[0]))
            here.add_route(address, "", device, self._sources.get(pool.subnet.version, pool.gateway))


def _enter() -> Netlink:
    netns.trust_neighbours("default")
    return Netlink()


def delete_shapers(link: Netlink, kept: Collection[str] = ()) -> None:
    """Remove the devices that shape what sandboxes send, but for those that are `kept`. Raises OSError."""
    for name in link.links():
        if name.startswith(SHAPERS) and name not in kept:
            link.delete_link(name)


def hardware_address(address: str) -> bytes:
    """A fixed one from an IP address."""
    return b"\x0a\x58" + ip_address(address).packed[-4:]


def device_name(sandbox: str, kind: str = DEVICES) -> str:
    """The node's end of a sandbox's veth pair: at most 15 characters, the same for the same sandbox."""
    return f"{kind}{hashlib.sha256(sandbox.encode()).hexdigest()[:12]}"
