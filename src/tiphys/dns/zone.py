"""The records of Kubernetes' DNS-Based Service Discovery 1.1.0: a question and the index give an answer. Pure.

Where the specification leaves room it is as CoreDNS does in its `kubernetes` plugin with `pods insecure` and `ttl 30`,
as kubeadm configures it; but names of which only longer ones have records exist (RFC 8020), and an alias that leads
nowhere says so (RFC 6604).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tiphys.dns.encode import Sections
from tiphys.dns.index import Endpoint, Index, Key, Port, Service
from tiphys.dns.names import MAX_NAME, from_text, reverse_of, split, undashed
from tiphys.dns.wire import (
    AA,
    AAAA,
    ANY,
    CNAME,
    IN,
    NOERROR,
    NS,
    NXDOMAIN,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    Record,
)

SCHEMA = b"1.1.0"
SCHEMA_TTL = 28800
TTL = 30
REFRESH, RETRY, EXPIRE = 7200, 1800, 86400
MAX_ALIASES = 8
DNS_SERVICE: Key = (b"kube-system", b"kube-dns")
SVC = b"svc"


class Answer(NamedTuple):
    """What is known here."""

    sections: Sections
    chase: bytes = b""
    """A name outside: its records of the asked type belong behind these answers."""


class _Target(NamedTuple):
    """An address with the name and the port under which a service is offered there."""

    name: bytes
    address: bytes
    port: int = -1


class _Found(NamedTuple):
    """What there is at a name; nothing of all that: only longer names have records."""

    targets: tuple[_Target, ...] = ()
    alias: bytes = b""
    text: bytes = b""
    servers: bytes = b""


_EMPTY = _Found()


class Zone:
    """Answers for the cluster's domain. `own` are the addresses at which this server is, packed: what it tells of
    itself while there is no Service for it."""

    def __init__(self, domain: str, index: Index, own: Sequence[bytes] = ()) -> None:
        self.domain = from_text(domain)
        self._index = index
        self._own = tuple(own)
        self._labels = split(self.domain)
        self._nameserver = b"\2ns\3dns" + self.domain

    def answer(self, name: bytes, kind: int) -> Answer | None:
        """The answer to a question (`name` in lower case), None for names that are looked for elsewhere."""
        labels = split(name)
        inside = self._inside(labels)
        if inside is None:
            return self._reverse(name, labels, kind)
        found = self._find(inside)
        if found is not None and found.alias and kind != CNAME:
            return self._follow(name, found, kind)
        return self._said(found, name, kind)

    def _inside(self, labels: list[bytes]) -> list[bytes] | None:
        """What is before the domain; None for names outside."""
        size = len(self._labels)
        return labels[: len(labels) - size] if labels[-size:] == self._labels else None

    def _said(self, found: _Found | None, name: bytes, kind: int, before: tuple[Record, ...] = ()) -> Answer:
        """The records of that kind behind those of `before`, or why there are none."""
        records = () if found is None else self._records(found, name, kind)
        if not records:
            rcode = NXDOMAIN if found is None else NOERROR
            return Answer(Sections(rcode, before, (self._soa(),), flags=AA))
        extra = self._extra(found, kind) if found is not None else ()
        spin = 0 if extra or records[0].type not in (A, AAAA) or kind == ANY else len(records)
        return Answer(Sections(NOERROR, (*before, *records), additional=extra, flags=AA, spin=spin))

    def _records(self, found: _Found, name: bytes, kind: int) -> tuple[Record, ...]:
        make = _RECORDS.get(kind)
        if make is not None:
            return make(self, found, name)
        if kind == SOA and name == self.domain:
            return (self._soa(),)
        if kind == ANY:
            return tuple(record for each in _RECORDS for record in _RECORDS[each](self, found, name))
        return ()

    def _follow(self, name: bytes, found: _Found, kind: int) -> Answer:
        """Aliases as far as they lead inside the zone."""
        chain: list[Record] = []
        seen = {name}
        current: _Found | None = found
        while current is not None and current.alias and len(chain) < MAX_ALIASES:
            chain.append(Record(name, CNAME, IN, TTL, current.alias))
            name = current.alias
            inside = self._inside(split(name))
            if inside is None:
                return Answer(Sections(NOERROR, tuple(chain), flags=AA), chase=name)
            if name in seen:
                current = _EMPTY
                break
            seen.add(name)
            current = self._find(inside)
        return self._said(current, name, kind, tuple(chain))

    def _find(self, labels: list[bytes]) -> _Found | None:
        """What is at the name made of these labels and the domain; None: it does not exist."""
        match labels:
            case []:
                return _Found(servers=self._server_name())
            case [b"dns-version"]:
                return _Found(text=SCHEMA)
            case [b"ns", b"dns"]:
                return _Found(tuple(_Target(self._nameserver, each) for each in self._server_addresses()))
            case [b"dns"] | [b"svc"] | [b"pod"]:
                return _EMPTY
            case [namespace, b"svc" | b"pod"]:
                return _EMPTY if self._index.has_namespace(namespace) else None
            case [pod, namespace, b"pod"]:
                return self._pod(pod, namespace)
            case [*before, name, namespace, b"svc"]:
                return self._service(before, (namespace, name))
        return None

    def _pod(self, label: bytes, namespace: bytes) -> _Found | None:
        """Any address, whoever has it: `pods insecure`."""
        address = undashed(label)
        if not address or not self._index.has_namespace(namespace):
            return None
        return _Found((_Target(b"", address),))

    def _service(self, before: list[bytes], key: Key) -> _Found | None:
        service = self._index.service(key)
        if service is None:
            return None
        match before:
            case []:
                return self._whole(key, service, _any_port)
            case [protocol] if protocol[:1] == b"_" and _has_protocol(service, protocol[1:]):
                return _EMPTY
            case [label] if not service.alias:
                return self._targets(key, self._index.endpoints(key).by_label.get(label, ()), _any_port)
            case [port, protocol] if port[:1] == b"_" and protocol[:1] == b"_" and not service.alias:
                return self._whole(key, service, _chooser(port[1:], protocol[1:]))
        return None

    def _whole(self, key: Key, service: Service, wanted: Callable[[Port], bool]) -> _Found | None:
        if service.alias:
            return _Found(alias=service.alias)
        if service.headless:
            return self._targets(key, self._index.endpoints(key).endpoints, wanted)
        name = self._name_of(key)
        chosen = [port for port in service.ports if wanted(port)]
        targets = tuple(_Target(name, address, port.number) for port in chosen for address in service.addresses)
        return _Found(targets) if targets else None

    def _targets(self, key: Key, endpoints: Sequence[Endpoint], wanted: Callable[[Port], bool]) -> _Found | None:
        targets = tuple(
            _Target(self._name_of(key, each.label), each.address, port.number)
            for each in endpoints
            for port in each.ports
            if wanted(port)
        )
        return _Found(targets) if targets else None

    def _name_of(self, key: Key, label: bytes = b"") -> bytes:
        """Of a Service, or of one of its endpoints; b"" if that is too long for a name."""
        namespace, name = key
        labels = (label, name, namespace, SVC) if label else (name, namespace, SVC)
        whole = b"".join(bytes((len(each),)) + each for each in labels) + self.domain
        return whole if len(whole) <= MAX_NAME else b""

    def _reverse(self, name: bytes, labels: list[bytes], kind: int) -> Answer | None:
        """Names of a cluster IP or of endpoints; what nobody here has is looked for elsewhere."""
        if kind not in (PTR, ANY) or not (address := reverse_of(labels)):
            return None
        key = self._index.service_at(address)
        if key is not None:
            owners = [self._name_of(key)]
        else:
            at = self._index.endpoints_at(address)
            owners = [self._name_of(key, label) for key, label in at]
        records = tuple(Record(name, PTR, IN, TTL, each) for each in owners if each)
        return Answer(Sections(NOERROR, records, flags=AA)) if records else None

    def _server_name(self) -> bytes:
        return self._nameserver if self._index.service(DNS_SERVICE) is None else self._name_of(DNS_SERVICE)

    def _server_addresses(self) -> tuple[bytes, ...]:
        service = self._index.service(DNS_SERVICE)
        return self._own if service is None else service.addresses

    def _soa(self) -> Record:
        numbers = struct.pack("!5I", self._index.serial, REFRESH, RETRY, EXPIRE, TTL)
        return Record(self.domain, SOA, IN, TTL, self._nameserver + b"\x0ahostmaster" + self.domain + numbers)

    def _addresses(self, found: _Found, name: bytes, kind: int) -> tuple[Record, ...]:
        size = 4 if kind == A else 16
        distinct = dict.fromkeys(each.address for each in found.targets if len(each.address) == size)
        return tuple(Record(name, kind, IN, TTL, each) for each in distinct)

    def _services(self, found: _Found, name: bytes) -> tuple[Record, ...]:
        offered = [each for each in found.targets if each.name]
        weight = max(1, 100 // len(offered)) if offered else 1
        distinct = dict.fromkeys((each.name, each.port) for each in offered if each.port >= 0)
        head = struct.pack("!HH", 0, weight)
        return tuple(Record(name, SRV, IN, TTL, head + struct.pack("!H", port) + at) for at, port in distinct)

    def _texts(self, found: _Found, name: bytes) -> tuple[Record, ...]:
        text = found.text
        return (Record(name, TXT, IN, SCHEMA_TTL, bytes((len(text),)) + text),) if text else ()

    def _extra(self, found: _Found, kind: int) -> tuple[Record, ...]:
        """The addresses of the names that the answer speaks of."""
        if kind == SRV:
            pairs = dict.fromkeys((each.name, each.address) for each in found.targets if each.name and each.port >= 0)
        elif kind == NS:
            pairs = dict.fromkeys((found.servers, each) for each in self._server_addresses())
        else:
            return ()
        return tuple(Record(name, A if len(each) == 4 else AAAA, IN, TTL, each) for name, each in pairs)


_RECORDS: dict[int, Callable[[Zone, _Found, bytes], tuple[Record, ...]]] = {
    A: lambda zone, found, name: zone._addresses(found, name, A),
    AAAA: lambda zone, found, name: zone._addresses(found, name, AAAA),
    SRV: lambda zone, found, name: zone._services(found, name),
    TXT: lambda zone, found, name: zone._texts(found, name),
    CNAME: lambda zone, found, name: (Record(name, CNAME, IN, TTL, found.alias),) if found.alias else (),
    NS: lambda zone, found, name: (Record(name, NS, IN, TTL, found.servers),) if found.servers else (),
}


def _any_port(port: Port) -> bool:
    return True


def _chooser(name: bytes, protocol: bytes) -> Callable[[Port], bool]:
    return lambda port: bool(name) and port.name == name and port.protocol == protocol


def _has_protocol(service: Service, protocol: bytes) -> bool:
    return any(port.protocol == protocol and port.name for port in service.ports)
