"""Real packets between pods of two nodes whose rules are in the kernel: upstream's nine pods and what gets through."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import netpol_world as world
from netpol_world import Packet
from tiphys.base.nftables import Nftables
from tiphys.proxy.policies.compiler import Compiler
from tiphys.proxy.policies.facts import pod_of
from tiphys.proxy.policies.kernel import Kernel
from tiphys.proxy.policies.names import NameServer
from tiphys.proxy.policies.policy import policy_of
from tiphys.runtime import netns
from tiphys.runtime.node import NodeNetwork

Object = dict[str, Any]
Probe = tuple[str, str, str, int]
"""Source and target pods, protocol and port."""
SPACES, NAMES = "xyz", "abc"
PORTS = (("TCP", 80), ("TCP", 81), ("UDP", 80))
SERVICES = """
add table ip svc
add chain ip svc pre { type nat hook prerouting priority -100; }
add rule ip svc pre ip daddr 203.0.113.1 dnat to 203.0.113.2
"""
"""Where there are Services there is connection tracking, also before the first policy."""
QUIET = 0.25
"""Seconds without news after which nothing more is expected."""


class Matrix:
    """Pods x/a to z/c, every other one on the second node, with servers on TCP 80 and 81 and UDP 80."""

    def __init__(self, nodes: list[NodeNetwork], pod: Callable[..., tuple[str, tuple[str, ...]]]) -> None:
        self.spaces = {name: world.namespace(name, {"ns": name}) for name in SPACES}
        self.namespaces: dict[str, str] = {}
        self.pods: dict[str, Object] = {}
        self.kernels = [Kernel(opener(node.namespace)) for node in nodes]
        self.compilers = [Compiler(NameServer(node.addresses)) for node in nodes]
        for node in nodes:
            with opener(node.namespace)() as nft:
                nft.run(SERVICES)
        for number, key in enumerate(f"{space}-{name}" for space in SPACES for name in NAMES):
            self.namespaces[key], addresses = pod(key, number % 2)
            self.pods[key] = world.pod(key[0], key[2], addresses)
            self._introduce(key, number % 2)
        self.policies: dict[str, Object] = {}
        self.revision = 1
        self.servers = {key: self._serve(key) for key in self.pods}
        for family in (4, 6):  # new links may take a moment to be switched on
            for pair in (("x-a", "x-b"), ("x-b", "x-a")):
                assert connects(self.namespaces[pair[0]], self.address(pair[1], family), 81)

    def _introduce(self, key: str, node: int) -> None:
        facts = pod_of(self.pods[key])
        for number, compiler in enumerate(self.compilers):
            compiler.set_namespace(facts.namespace, self.spaces[facts.namespace]["metadata"]["labels"])
            compiler.set_pod(facts.uid, facts)
            if number == node:
                compiler.attach(facts, facts.addresses)

    def address(self, key: str, family: int) -> str:
        listed = (str(one["ip"]) for one in self.pods[key]["status"]["podIPs"])
        return next(one for one in listed if (":" in one) == (family == 6))

    def _serve(self, key: str) -> list[socket.socket]:
        def opened() -> list[socket.socket]:
            return [self._server(protocol, port) for protocol, port in PORTS]

        return netns.inside(self.namespaces[key], opened)

    @staticmethod
    def _server(protocol: str, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", port))
        made.setblocking(False)
        if protocol == "TCP":
            made.listen(64)
        return made

    def close(self) -> None:
        for listed in self.servers.values():
            for server in listed:
                server.close()
        for kernel in self.kernels:
            kernel.close()

    # --- what is in force

    def apply(self, *policies: Object) -> None:
        """Have these and no others."""
        wanted = {policy_of(one).key: one for one in policies}
        for key in self.policies.keys() - wanted.keys():
            self._set(key, None)
        for key, one in wanted.items():
            self._set(key, one)
        self.policies = wanted
        self.enforce()

    def _set(self, key: str, policy: Object | None) -> None:
        for compiler in self.compilers:
            compiler.set_policy(key, policy_of(policy) if policy else None)

    def relabel(self, key: str, labels: Mapping[str, str]) -> None:
        self.revision += 1
        self.pods[key]["metadata"] |= {"labels": dict(labels), "resourceVersion": str(self.revision)}
        for compiler in self.compilers:
            compiler.set_pod(key, pod_of(self.pods[key]))
        self.enforce()

    def enforce(self) -> None:
        for compiler, kernel in zip(self.compilers, self.kernels, strict=True):
            if not kernel.known:
                kernel.read()
                compiler.touched |= kernel.everything(compiler.ruleset)
            compiler.settle()
            kernel.carry_out(kernel.plan(compiler.ruleset, compiler.touched))
            compiler.touched.clear()

    # --- what gets through

    def expected(self, family: int) -> set[Probe]:
        """What the API promises."""
        everything = (self.policies.values(), self.pods.values(), self.spaces.values())
        return {
            probe
            for probe in self.probes()
            if world.promised(
                Packet(self.address(probe[0], family), self.address(probe[1], family), *probe[2:]), *everything
            )
        }

    def probes(self) -> Iterable[Probe]:
        for source in self.pods:
            for target in self.pods:
                for protocol, port in PORTS:
                    yield source, target, protocol, port

    def reached(self, family: int) -> set[Probe]:
        """Tries all of them at once."""
        with selectors.DefaultSelector() as selector:
            for listed in self.servers.values():
                for server in listed:
                    selector.register(server, selectors.EVENT_READ, None)
            clients = [client for key in self.pods for client in self._clients(key, family)]
            for client, probe in clients:
                waits = selectors.EVENT_WRITE if probe[2] == "TCP" else selectors.EVENT_READ
                selector.register(client, waits, probe)
            found = set(self._watch(selector))
            for client, _ in clients:
                client.close()
        return found

    def _clients(self, key: str, family: int) -> list[tuple[socket.socket, Probe]]:
        probes = [probe for probe in self.probes() if probe[0] == key]

        def opened() -> list[tuple[socket.socket, Probe]]:
            return [(self._client(probe, family), probe) for probe in probes]

        return netns.inside(self.namespaces[key], opened)

    def _client(self, probe: Probe, family: int) -> socket.socket:
        kind = socket.SOCK_STREAM if probe[2] == "TCP" else socket.SOCK_DGRAM
        client = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, kind)
        client.setblocking(False)
        client.connect_ex((self.address(probe[1], family), probe[3]))
        if probe[2] == "UDP":
            client.send(b"hello")
        return client

    @staticmethod
    def _watch(selector: selectors.BaseSelector) -> Iterable[Probe]:
        while events := selector.select(QUIET):
            for key, _ in events:
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if key.data is not None:
                    selector.unregister(one)
                    if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        yield key.data
                elif one.type == socket.SOCK_STREAM:
                    one.accept()[0].close()
                else:
                    data, sender = one.recvfrom(64)
                    one.sendto(data, sender)


def opener(namespace: str) -> Callable[[], Nftables]:
    return lambda: Nftables(lambda work: netns.inside(namespace, work))


def connects(namespace: str, address: str, port: int = 80) -> bool:
    """Whether a TCP connection comes about."""
    with netns.socket_in(namespace, socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(5)
        try:
            client.connect((address, port))
        except OSError:
            return False
        return True


def is_kept_out(namespace: str, address: str, port: int = 80) -> bool:
    """Whether a TCP connection does not come about."""
    with netns.socket_in(namespace, socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(QUIET)
        try:
            client.connect((address, port))
        except TimeoutError:
            return True
        return False
