"""A node in network namespaces, without a cluster: pods point-to-point, another node's pod, a client outside.

    client 192.0.2.9 ── 192.0.2.1 node 198.51.100.1 ── 198.51.100.2 remote (the pods of another node: 10.1.2.0/24)
                                   │ a veth a pod
                        pods 10.1.1.2, 10.1.1.3 ...

Answers come from threads that listen inside the namespaces, and say who asked.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tiphys.base.netlink import Netlink
from tiphys.base.nftables import Nftables
from tiphys.base.nftwatch import TableWatch
from tiphys.proxy.services.compiler import Compiler, surroundings
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.table import Touched
from tiphys.proxy.services.writer import Writer
from tiphys.runtime import netns

T = TypeVar("T")

CLIENT, NODE, NODE_INSIDE, REMOTE = "192.0.2.9", "192.0.2.1", "198.51.100.1", "198.51.100.2"
GATEWAY = "10.1.1.1"
CLIENT_SIX, NODE_SIX, GATEWAY_SIX = "fd00::9", "fd00::1", "fd01::1"
PATIENCE, SHORT = 5.0, 0.5
"""Seconds for an answer, and where none is expected. The first packets on a new link may be lost."""

REFUSED, DROPPED = "refused", "dropped"


class Machine:
    """Namespaces below `directory`; gone with `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._pods = 1
        self.servers = Servers()
        self._stack.callback(self.servers.close)
        self.node = self._namespace("node")
        netns.write_sysctl(self.node, "net.ipv4.ip_forward", "1")
        netns.write_sysctl(self.node, "net.ipv6.conf.all.forwarding", "1")
        self.client = self._neighbour("client", NODE, CLIENT)
        self._six_of_client()
        self.remote = self._neighbour("remote", NODE_INSIDE, REMOTE)
        with netns.netlink_in(self.node) as link:
            link.add_route("10.1.2.0/24", REMOTE)
            link.add_route("default", CLIENT)
            link.add_route("default", CLIENT_SIX)

    def close(self) -> None:
        self._stack.close()

    def _namespace(self, name: str) -> str:
        path = self._directory / name
        netns.persist(path)
        self._stack.callback(netns.drop, path)
        netns.loopback_up(str(path))
        # Link-local addresses would be unusable for a second, and neighbours could not be asked for.
        netns.write_sysctl(str(path), "net.ipv6.conf.default.accept_dad", "0")
        return str(path)

    def _neighbour(self, name: str, here: str, there: str) -> str:
        """A namespace beside the node, whose default route is the node."""
        path = self._namespace(name)
        with netns.netlink_in(self.node) as node, netns.netlink_in(path) as other:
            _veth(node, name, path)
            node.add_address(node.index(name), f"{here}/24")
            _up(other, f"{there}/24")
            other.add_route("default", here)
        return path

    def _six_of_client(self) -> None:
        with netns.netlink_in(self.node) as node, netns.netlink_in(self.client) as client:
            node.add_address(node.index("client"), f"{NODE_SIX}/64")
            client.add_address(client.index("eth0"), f"{CLIENT_SIX}/64")
            client.add_route("default", NODE_SIX)

    def pod(self, remote: bool = False) -> tuple[str, str]:
        """Another pod: its namespace and address."""
        self._pods += 1
        if remote:
            address = f"10.1.2.{self._pods}"
            with netns.netlink_in(self.remote) as link:
                link.add_address(1, f"{address}/32")
            return self.remote, address
        path, address = self._namespace(f"pod{self._pods}"), f"10.1.1.{self._pods}"
        with netns.netlink_in(self.node) as node, netns.netlink_in(path) as pod:
            device = f"pod{self._pods}"
            _veth(node, device, path)
            node.add_address(node.index(device), f"{GATEWAY}/32")
            node.add_route(f"{address}/32", index=node.index(device))
            _up(pod, f"{address}/32")
            pod.add_route(f"{GATEWAY}/32", index=pod.index("eth0"))
            pod.add_route("default", GATEWAY)
            self._six_of_pod(node, pod, device)
        return path, address

    def _six_of_pod(self, node: Netlink, pod: Netlink, device: str) -> None:
        address, eth0 = six(f"10.1.1.{self._pods}"), pod.index("eth0")
        node.add_address(node.index(device), f"{GATEWAY_SIX}/128")
        node.add_route(f"{address}/128", index=node.index(device))
        pod.add_address(eth0, f"{address}/128")
        pod.add_route(f"{GATEWAY_SIX}/128", index=eth0)
        pod.add_route("default", GATEWAY_SIX)

    def server(self, port: int = 80, remote: bool = False, kind: int = socket.SOCK_STREAM) -> str:
        """The address of a new pod that answers on the port."""
        path, address = self.pod(remote)
        self.servers.listen(path, address, port, kind)
        return address

    def nftables(self) -> Nftables:
        return Nftables(lambda work: netns.inside(self.node, work))

    def watch(self) -> TableWatch:
        return TableWatch(lambda work: netns.inside(self.node, work))


def six(address: str) -> str:
    """The IPv6 address of the node's pod that has this IPv4 one."""
    return f"fd01::{address.rpartition('.')[2]}"


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _veth(link: Netlink, name: str, namespace: str) -> None:
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        link.add_veth(name, "eth0", handle)
    finally:
        os.close(handle)


def _up(link: Netlink, prefix: str) -> None:
    device = link.index("eth0")
    link.add_address(device, prefix)
    link.set_up(device)


class Servers:
    """One thread that answers on all its sockets with the server's address and that of who asked."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._end = socket.socketpair()
        self._selector.register(self._end, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def listen(self, namespace: str, address: str, port: int, kind: int) -> None:
        opened = netns.socket_in(namespace, _family(address), kind)
        opened.bind((address, port))
        if kind == socket.SOCK_STREAM:
            opened.listen(64)
        self._selector.register(opened, selectors.EVENT_READ)
        self._wake.send(b"n")

    def close(self) -> None:
        self._wake.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                found = key.fileobj
                assert isinstance(found, socket.socket)
                if found is self._end:
                    if not found.recv(64):
                        return self._close_all()
                elif found.type == socket.SOCK_STREAM:
                    connection, (who, *_) = found.accept()
                    with connection:
                        connection.sendall(f"{found.getsockname()[0]} {who}".encode())
                else:
                    _, peer = found.recvfrom(2048)
                    found.sendto(f"{found.getsockname()[0]} {peer[0]}".encode(), peer)

    def _close_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            found = key.fileobj
            assert isinstance(found, socket.socket)
            found.close()


def ask(
    namespace: str, address: str, port: int, kind: int = socket.SOCK_STREAM, patience: float = PATIENCE
) -> tuple[str, str]:
    """(who answered, whom it saw), or (REFUSED, "") or (DROPPED, "")."""
    with netns.socket_in(namespace, _family(address), kind) as asking:
        asking.settimeout(patience)
        try:
            asking.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                asking.send(b"?")
            server, client = asking.recv(100).decode().split()
        except ConnectionRefusedError:
            return REFUSED, ""
        except TimeoutError:
            return DROPPED, ""
    return server, client


def service(name: str = "web", ports: Any = 80, **spec: Any) -> dict[str, Any]:
    """A Service as the API gives it; `ports` may be one number."""
    listed = [{"port": ports, "protocol": "TCP"}] if isinstance(ports, int) else ports
    status = {"loadBalancer": {"ingress": spec.pop("ingress", [])}}
    meta = {"namespace": "default", "name": name, **spec.pop("metadata", {})}
    return {
        "metadata": meta,
        "spec": {"clusterIP": "10.96.0.10", "type": "ClusterIP", "ports": listed, **spec},
        "status": status,
    }


def endpoints(
    *addresses: str, name: str = "web", port: int = 80, port_name: str = "", protocol: str = "TCP", **more: Any
) -> dict[str, Any]:
    """A slice with these addresses; those in 10.1.1.0/24 are the node's own."""
    return {
        "metadata": {"namespace": "default", "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": protocol}],
        "endpoints": [endpoint(address, **more) for address in addresses],
    }


def endpoint(address: str, **more: Any) -> dict[str, Any]:
    return {
        "addresses": [address],
        "nodeName": "node-1" if address.startswith(("10.1.1.", "fd01::")) else "node-2",
        **more,
    }


CONFIG = ProxyConfig(node="node-1", local_pods=("10.1.1.0/24",), node_ips=(NODE, NODE_INSIDE))
RANGES = [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd96::/112"]}}]


class Rules:
    """What a proxy does with Services and slices, without watching an API server."""

    def __init__(self, open_nftables: Callable[[], Nftables], config: ProxyConfig = CONFIG) -> None:
        self.writer = Writer(config, open_nftables)
        self.compiler = Compiler(config)
        self._around = surroundings(config, None, RANGES)
        self.compiler.put_surroundings(self._around)

    def put(self, service: dict[str, Any] | None, *slices: dict[str, Any], name: str = "web") -> None:
        touched = self.compiler.put(f"default/{name}", service, slices, self._around.place)
        self.writer.write(self.compiler.desired, touched)

    def compare(self) -> int:
        """As a new process would; how many commands it took."""
        none: dict[Any, Touched] = {}
        self.writer.forget()
        return self.writer.write(self.compiler.desired, none)

    def sweep(self) -> None:
        self.writer.sweep(self.compiler.desired)


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    made = Machine(directory)
    try:
        yield made
    finally:
        made.close()
