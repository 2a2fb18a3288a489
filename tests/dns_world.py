"""For tests of the DNS: objects of a small cluster, questions, and answers read back."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from tiphys.dns.index import Index
from tiphys.dns.names import from_text, to_text
from tiphys.dns.wire import AAAA, CNAME, IN, NS, PTR, SOA, SRV, TXT, A, Message, Record

Object = dict[str, Any]
KINDS = {"A": A, "AAAA": AAAA, "SRV": SRV, "PTR": PTR, "CNAME": CNAME, "TXT": TXT, "NS": NS, "SOA": SOA}
NAMES = {number: name for name, number in KINDS.items()}
HTTP = ({"name": "http", "protocol": "TCP", "port": 80},)


def service(name: str, *addresses: str, namespace: str = "testns", ports: Sequence[Object] = HTTP) -> Object:
    """A Service; "None" as its address makes it headless."""
    spec = {"clusterIP": addresses[0], "clusterIPs": list(addresses), "ports": list(ports), "type": "ClusterIP"}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def external(name: str, target: str, namespace: str = "testns") -> Object:
    spec = {"type": "ExternalName", "externalName": target}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoint_slice(
    of: str, *endpoints: Object, name: str = "", namespace: str = "testns", ports: Sequence[Object] = HTTP
) -> Object:
    labels = {"kubernetes.io/service-name": of}
    metadata = {"name": name or f"{of}-1", "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": list(endpoints), "ports": list(ports)}


def endpoint(*addresses: str, hostname: str = "", ready: bool = True) -> Object:
    found: Object = {"addresses": list(addresses), "conditions": {"ready": ready}}
    return found | ({"hostname": hostname} if hostname else {})


def index_of(
    services: Sequence[Object] = (), slices: Sequence[Object] = (), namespaces: Sequence[str] | None = None
) -> Index:
    index = Index()
    for each in services:
        index.service_changed(None, each, 1e9)
    for each in slices:
        index.slice_changed(None, each, 1e9)
    for name in namespaces or ():
        index.namespace_changed(None, {"metadata": {"name": name}}, 1e9)
    return index


def query(
    name: str, kind: str | int = "A", *, id: int = 4711, flags: int = 0x0100, payload: int = 0, dnssec: bool = False
) -> bytes:
    """A question in the case in which it is written; `payload` adds an OPT record."""
    wire = b"".join(bytes((len(label),)) + label.encode() for label in name.rstrip(".").split(".") if label) + b"\0"
    number = KINDS[kind] if isinstance(kind, str) else kind
    opt = struct.pack("!BHHIH", 0, 41, payload, 0x8000 if dnssec else 0, 0) if payload else b""
    return struct.pack("!6H", id, flags, 1, 0, 0, bool(opt)) + wire + struct.pack("!HH", number, IN) + opt


def shown(record: Record) -> str:
    """As in zone files, with one space between fields."""
    return f"{to_text(record.name)} {record.ttl} {NAMES.get(record.type, record.type)} {_data(record)}"


def _data(record: Record) -> str:
    data = record.data
    if record.type in (A, AAAA):
        return str(ip_address(data))
    if record.type in (CNAME, PTR, NS):
        return to_text(data)
    if record.type == SRV:
        return " ".join(map(str, struct.unpack("!3H", data[:6]))) + " " + to_text(data[6:])
    if record.type == TXT:
        return data[1:].decode()
    return "..."


def records(message: Message) -> list[str]:
    """The answers, sorted: their order is not the same each time."""
    return sorted(map(shown, message.answers))


def message(
    name: str,
    kind: str,
    *answers: tuple[str, int, str],
    rcode: int = 0,
    soa: int | None = None,
    minimum: int = 60,
    flags: int = 0x8180,
) -> Message:
    """What another server might say; `answers` are (name, TTL, data), `soa` the TTL of an SOA record."""
    found = tuple(_record(owner, ttl, data) for owner, ttl, data in answers)
    authority: tuple[Record, ...] = ()
    if soa is not None:
        data = from_text("ns.test") + from_text("admin.test") + struct.pack("!5I", 1, 2, 3, 4, minimum)
        authority = (Record(from_text("test"), SOA, IN, soa, data),)
    return Message(1, flags, rcode, (from_text(name), KINDS[kind], IN), found, authority)


def _record(owner: str, ttl: int, data: str) -> Record:
    try:
        packed = ip_address(data).packed
    except ValueError:
        return Record(from_text(owner), CNAME, IN, ttl, from_text(data))
    return Record(from_text(owner), A if len(packed) == 4 else AAAA, IN, ttl, packed)


def counted(found: Sequence[str]) -> Mapping[str, int]:
    return {each: found.count(each) for each in found}
