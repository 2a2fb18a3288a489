"""BridgeNetwork: pods on a bridge inside the node's network namespace, with addresses from the node's pod CIDR."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
from ipaddress import IPv4Network
from pathlib import Path

from tiphys.base.netlink import Netlink
from tiphys.runtime.ipam import AddressPool
from tiphys.runtime.netns import netlink_in
from tiphys.runtime.types import RuntimeFailure


class BridgeNetwork:
    """The Network (runtime.types) of one node.

    `namespace` is the path of the node's network namespace, `bridge` a device in it that has the subnet's first
    address (see node.NodeNetwork), `state_dir` keeps who has which address. `mtu` in bytes; 0 leaves the default.
    """

    def __init__(self, namespace: str, bridge: str, subnet: str, state_dir: Path, mtu: int = 0) -> None:
        self._namespace = namespace
        self._bridge = bridge
        self._pool = AddressPool(IPv4Network(subnet), state_dir)
        self._mtu = mtu

    @property
    def namespace(self) -> str:
        """The node's own network namespace."""
        return self._namespace

    async def attach(self, sandbox: str, namespace: str) -> tuple[str, ...]:
        """Set up lo and eth0 in `namespace` and return the address. Harmless if done already."""
        return await asyncio.to_thread(self._attach, sandbox, namespace)

    async def detach(self, sandbox: str) -> None:
        """Release the address; the devices go with the namespace. Harmless if done already."""
        await asyncio.to_thread(self._pool.release, sandbox)

    def _attach(self, sandbox: str, namespace: str) -> tuple[str, ...]:
        address = self._pool.allocate(sandbox)
        try:
            with netlink_in(namespace) as there:
                with netlink_in(self._namespace) as here:
                    self._connect(here, there, device_name(sandbox), address, namespace)
                self._configure(there, address)
        except OSError as error:
            raise RuntimeFailure(f"network of sandbox {sandbox} ({address}): {error.strerror}") from error
        return (address,)

    def _connect(self, here: Netlink, there: Netlink, name: str, address: str, namespace: str) -> None:
        """A veth pair, unless it is there: `name` on the bridge, eth0 in the sandbox."""
        bridge = here.index(self._bridge)
        if not bridge:
            raise OSError(errno.ENODEV, f"no bridge {self._bridge} in {self._namespace}")
        handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        # A fixed hardware address from the IP address: neighbours' caches stay right when the address moves.
        hardware = b"\x0a\x58" + socket.inet_aton(address)
        try:
            here.add_veth(name, "eth0", handle, hardware, self._mtu, bridge)
        except FileExistsError:
            if there.index("eth0"):
                return
            with contextlib.suppress(OSError):
                here.delete_link(name)  # left by a sandbox of the same name that is still going away
            here.add_veth(name, "eth0", handle, hardware, self._mtu, bridge)
        finally:
            os.close(handle)

    def _configure(self, there: Netlink, address: str) -> None:
        there.set_up(1)
        device = there.index("eth0")
        there.add_address(device, f"{address}/{self._pool.subnet.prefixlen}")
        there.set_up(device)
        there.add_route("default", self._pool.gateway)


def device_name(sandbox: str) -> str:
    """The node's end of a sandbox's veth pair: at most 15 characters, the same for the same sandbox."""
    return f"veth{hashlib.sha256(sandbox.encode()).hexdigest()[:11]}"
