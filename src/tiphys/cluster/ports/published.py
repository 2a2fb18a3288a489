"""Published ports: what of the host leads where in the cluster, as people write it. Pure.

    [ADDRESS:]HOSTPORT:TARGET[/PROTO]       8080:80   0.0.0.0:443:443   [::1]:5300:kube-system/kube-dns:53/udp

TARGET is [NAMESPACE/]SERVICE:PORT (a port's name or number), or a number: 80 and 443 are the ingress, another one is
that port of the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from tiphys.base.errors import Permanent

SYNTAX = "[ADDRESS:]HOSTPORT:TARGET[/PROTO]"
DEFAULT_ADDRESS = "127.0.0.1"
"""Whoever wants other machines to reach a port says so (0.0.0.0)."""
PROTOCOLS = ("tcp", "udp")
INGRESS_PORTS = (80, 443)
INGRESS = ("kube-system", "ingress")
"""The Service whose ports 80 and 443 are the way in by Ingress and Gateway objects."""
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class Target:
    """A port (name or number) of a Service; without a Service that port of the nodes."""

    namespace: str
    service: str
    port: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}:{self.port}" if self.service else self.port


@dataclass(frozen=True, slots=True)
class PublishedPort:
    address: str
    port: int
    target: Target
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.place}:{self.target}/{self.protocol}"

    @property
    def place(self) -> str:
        """ADDRESS:PORT of the host."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def everywhere(self) -> bool:
        """Whether it is at each address of the host."""
        return self.address == _ANY[self.version]

    @property
    def loopback(self) -> bool:
        return ip_address(self.address).is_loopback

    @property
    def needs_localnet(self) -> bool:
        """Whether connections come from IPv4's loopback, which stay there unless the kernel is told otherwise."""
        return self.version == 4 and (self.loopback or self.everywhere)

    @property
    def service(self) -> tuple[str, str]:
        """(namespace, name) of the Service that it leads to; ("", "") for a port of the nodes."""
        if not self.target.service and self.target.port in map(str, INGRESS_PORTS):
            return INGRESS
        return self.target.namespace, self.target.service

    def overlaps(self, other: PublishedPort) -> bool:
        """Whether both want the same port of one address."""
        same = (self.port, self.protocol, self.version) == (other.port, other.protocol, other.version)
        return same and (self.address == other.address or self.everywhere or other.everywhere)


def parse(text: str) -> PublishedPort:
    """Raises Permanent that names the part which is wrong."""
    rest, protocol = _protocol(text)
    address, rest = _address(text, rest)
    host, colon, target = rest.partition(":")
    if not colon or not target:
        raise Permanent(f"published port {text!r}: not of the form {SYNTAX}")
    return PublishedPort(address, _number(text, host), _target(text, target), protocol)


def parse_place(text: str) -> tuple[str, int, str]:
    """(address or "", port, protocol or "") of [ADDRESS:]HOSTPORT[/PROTO], for `ports remove`. Raises Permanent."""
    place, _, protocol = text.partition("/")
    if protocol and protocol not in PROTOCOLS:
        raise Permanent(f"published port {text!r}: the protocol is one of {', '.join(PROTOCOLS)}")
    address, colon, number = place.rpartition(":")
    return (_ip(text, address.strip("[]")) if colon else ""), _number(text, number), protocol


def found(ports: Iterable[PublishedPort], text: str) -> list[PublishedPort]:
    """Those that `text` names, by all of it or by its place. Raises Permanent for none, or if it is not clear which."""
    ports = list(ports)
    exact = [port for port in ports if text in (str(port), str(port).rpartition("/")[0])]
    if exact:
        return exact
    try:
        wanted = parse(text)
        matching = [port for port in ports if port == wanted]
    except Permanent:
        address, number, protocol = parse_place(text)
        matching = [
            port
            for port in ports
            if port.port == number and address in ("", port.address) and protocol in ("", port.protocol)
        ]
    if len(matching) > 1:
        raise Permanent(f"{text!r} could be {' or '.join(map(str, matching))}")
    if not matching:
        raise Permanent(f"{text!r} is not published; published ports: {', '.join(map(str, ports)) or 'none'}")
    return matching


def added(ports: Iterable[PublishedPort], new: Iterable[PublishedPort]) -> tuple[PublishedPort, ...]:
    """`ports` and `new`, each once. Raises Permanent for two that want the same port of the host."""
    result = list(ports)
    for one in new:
        clash = next((other for other in result if one.overlaps(other) and one != other), None)
        if clash:
            raise Permanent(f"published port {one}: {clash} is published already; remove that first")
        if one not in result:
            result.append(one)
    return tuple(result)


def _protocol(text: str) -> tuple[str, str]:
    rest, slash, last = text.rpartition("/")
    if not slash or ":" in last:  # NAMESPACE/SERVICE:PORT
        return text, "tcp"
    if last.lower() not in PROTOCOLS:
        raise Permanent(f"published port {text!r}: protocol {last!r} is none of {', '.join(PROTOCOLS)}")
    return rest, last.lower()


def _address(text: str, rest: str) -> tuple[str, str]:
    if rest.startswith("["):
        address, bracket, after = rest[1:].partition("]:")
        if not bracket:
            raise Permanent(f"published port {text!r}: not of the form {SYNTAX}")
        return _ip(text, address), after
    first, _, after = rest.partition(":")
    if "." in first or first == "localhost":
        return _ip(text, "127.0.0.1" if first == "localhost" else first), after
    return DEFAULT_ADDRESS, rest


def _ip(text: str, address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        raise Permanent(f"published port {text!r}: {address!r} is not an IP address") from None
    if found.is_multicast or (isinstance(found, IPv6Address) and (found.scope_id or found.ipv4_mapped)):
        raise Permanent(f"published port {text!r}: nothing can be published at {address}")
    return str(found)


def _number(text: str, port: str) -> int:
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0
    if not 1 <= number <= 65535:
        raise Permanent(f"published port {text!r}: {port!r} is not a port (1 to 65535)")
    return number


def _target(text: str, target: str) -> Target:
    service, colon, port = target.rpartition(":")
    if not colon:
        return Target("", "", str(_number(text, target)))
    namespace, slash, name = service.rpartition("/")
    if not name or not port or (slash and not namespace) or set(service + port) & set(" \t,:[]"):
        raise Permanent(f"published port {text!r}: target {target!r} is neither PORT nor [NAMESPACE/]SERVICE:PORT")
    if port.isdecimal():
        port = str(_number(text, port))
    return Target(namespace or "default", name, port)
