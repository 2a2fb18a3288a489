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
import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from tiphys.base.netlink import Netlink
from tiphys.runtime import netns
from tiphys.runtime.ipam import pools
from tiphys.runtime.types import RuntimeFailure

DEVICES = "pod"
"""What the names of the node's ends begin with."""


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
        self._sources = {ip_address(each).version: each for each in sources}

    @property
    def namespace(self) -> str:
        """The node's own network namespace."""
        return self._namespace

    async def attach(self, sandbox: str, namespace: str) -> tuple[str, ...]:
        """Set up lo and eth0 in `namespace` and return the addresses. Harmless if done already."""
        return await asyncio.to_thread(self._attach, sandbox, namespace)

    async def detach(self, sandbox: str) -> None:
        """Release the addresses; the devices go with the namespace. Harmless if done already."""
        await asyncio.to_thread(self._release, sandbox)

    def _release(self, sandbox: str) -> None:
        for pool in self._pools:
            pool.release(sandbox)

    def _attach(self, sandbox: str, namespace: str) -> tuple[str, ...]:
        addresses = tuple(pool.allocate(sandbox) for pool in self._pools)
        try:
            with netns.inside(namespace, _enter) as there, netns.netlink_in(self._namespace) as here:
                name = device_name(sandbox)
                self._connect(here, there, name, hardware_address(addresses[0]), namespace)
                self._configure(there, addresses)
                self._lead(here, name, addresses)
        except OSError as error:
            raise RuntimeFailure(f"network of sandbox {sandbox} ({', '.join(addresses)}): {error.strerror}") from error
        return addresses

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

    def _lead(self, here: Netlink, name: str, addresses: Sequence[str]) -> None:
        """The node's side: the way to the pod, last, so that what the pod sends is dropped until all is there."""
        device = here.index(name)
        here.check_sources(device)
        for pool, address in zip(self._pools, addresses, strict=True):
            here.add_neighbour(device, address, hardware_address(addresses[0]))
            here.add_route(address, "", device, self._sources.get(pool.subnet.version, pool.gateway))


def _enter() -> Netlink:
    netns.trust_neighbours("default")
    return Netlink()


def hardware_address(address: str) -> bytes:
    """A fixed one from an IP address."""
    return b"\x0a\x58" + ip_address(address).packed[-4:]


def device_name(sandbox: str) -> str:
    """The node's end of a sandbox's veth pair: at most 15 characters, the same for the same sandbox."""
    return f"{DEVICES}{hashlib.sha256(sandbox.encode()).hexdigest()[:12]}"
