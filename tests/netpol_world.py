"""A small cluster for tests of NetworkPolicies: objects, what the API promises about them, and what rules let pass.

`promised` is written from the API reference alone and looks at objects; `passes` walks the chains of a ruleset as the
kernel does. Neither knows of the other.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from tiphys.base.nftables import NftablesError
from tiphys.proxy.policies import render
from tiphys.proxy.policies.policy import INGRESS, Direction
from tiphys.proxy.policies.ruleset import FIXED_SETS, MAPS, OWN, GroupChain, PolicyChain, Rule, Ruleset, map_name

Object = dict[str, Any]
PORTS = [
    {"name": "serve-80-tcp", "containerPort": 80, "protocol": "TCP"},
    {"name": "serve-81-tcp", "containerPort": 81, "protocol": "TCP"},
    {"name": "serve-80-udp", "containerPort": 80, "protocol": "UDP"},
]


@dataclass(frozen=True)
class Packet:
    """The first of a connection, after the translation of Services."""

    source: str
    target: str
    protocol: str = "TCP"
    port: int = 80


def namespace(name: str, labels: Mapping[str, str] | None = None, revision: int = 1) -> Object:
    marks = {"kubernetes.io/metadata.name": name, **(labels or {})}
    meta = {"name": name, "uid": f"ns-{name}", "labels": marks, "resourceVersion": str(revision)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def pod(
    namespace: str,
    name: str,
    addresses: Sequence[str],
    labels: Mapping[str, str] | None = None,
    *,
    ports: Iterable[Object] = PORTS,
    phase: str = "Running",
    revision: int = 1,
    host_network: bool = False,
    node: str = "n1",
) -> Object:
    meta = {
        "namespace": namespace,
        "name": name,
        "uid": f"{namespace}-{name}",
        "labels": dict({"pod": name} if labels is None else labels),
        "resourceVersion": str(revision),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    spec: Object = {"nodeName": node, "containers": [{"name": "c", "image": "i", "ports": list(ports)}]}
    if host_network:
        spec["hostNetwork"] = True
    status: Object = {"phase": phase, "podIPs": [{"ip": one} for one in addresses]}
    if addresses:
        status["podIP"] = addresses[0]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def policy(namespace: str, name: str, revision: int = 1, **spec: Any) -> Object:
    meta = {"namespace": namespace, "name": name, "uid": f"np-{name}", "resourceVersion": str(revision)}
    spec.setdefault("podSelector", {})
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def peers_from(*peers: Object, ports: list[Object] | None = None) -> Object:
    return _rule("from", peers, ports)


def peers_to(*peers: Object, ports: list[Object] | None = None) -> Object:
    return _rule("to", peers, ports)


def _rule(field: str, peers: Sequence[Object], ports: list[Object] | None) -> Object:
    rule: Object = {field: list(peers)} if peers else {}
    if ports is not None:
        rule["ports"] = ports
    return rule


# --- what the API promises


def promised(packet: Packet, policies: Iterable[Object], pods: Iterable[Object], spaces: Iterable[Object]) -> bool:
    """Whether the connection may be made, when client and server are both looked after."""
    everybody = [one for one in pods if one["status"]["phase"] not in ("Succeeded", "Failed")]
    labels = {one["metadata"]["name"]: one["metadata"]["labels"] for one in spaces}
    client, server = _at(packet.source, everybody), _at(packet.target, everybody)
    if packet.source == packet.target:
        return True
    listed = list(policies)
    out = client is None or _side(packet, client, listed, labels, "Egress", (packet.target, server), server)
    return out and (server is None or _side(packet, server, listed, labels, "Ingress", (packet.source, client), server))


def _at(address: str, pods: Iterable[Object]) -> Object | None:
    for one in pods:
        if not one["spec"].get("hostNetwork") and any(ip["ip"] == address for ip in one["status"]["podIPs"]):
            return one
    return None


def _side(
    packet: Packet,
    subject: Object,
    policies: Iterable[Object],
    spaces: Mapping[str, Mapping[str, str]],
    kind: str,
    peer: tuple[str, Object | None],
    server: Object | None,
) -> bool:
    isolated = False
    for one in policies:
        spec = one["spec"]
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        same = one["metadata"]["namespace"] == subject["metadata"]["namespace"]
        if kind not in types or not same or not _selects(spec["podSelector"], subject["metadata"]["labels"]):
            continue
        isolated = True
        for rule in spec.get(kind.lower()) or []:
            listed = rule.get("from" if kind == "Ingress" else "to")
            who = not listed or any(_is_peer(two, peer, one["metadata"]["namespace"], spaces) for two in listed)
            if who and (not rule.get("ports") or any(_is_port(two, packet, server) for two in rule["ports"])):
                return True
    return not isolated


def _is_peer(peer: Object, who: tuple[str, Object | None], own: str, spaces: Mapping[str, Mapping[str, str]]) -> bool:
    address, subject = who
    if block := peer.get("ipBlock"):
        inside = ip_address(address) in ip_network(block["cidr"])
        return inside and not any(ip_address(address) in ip_network(one) for one in block.get("except") or [])
    if subject is None:
        return False
    where = subject["metadata"]["namespace"]
    if "namespaceSelector" in peer:
        if where not in spaces or not _selects(peer["namespaceSelector"], spaces[where]):
            return False
    elif where != own:
        return False
    return _selects(peer.get("podSelector", {}), subject["metadata"]["labels"])


def _is_port(port: Object, packet: Packet, server: Object | None) -> bool:
    if port.get("protocol", "TCP") != packet.protocol:
        return False
    value = port.get("port")
    if value is None:
        return True
    if isinstance(value, int):
        return value <= packet.port <= int(port.get("endPort") or value)
    own = server["spec"]["containers"][0]["ports"] if server else []
    return any(
        (one["name"], one["protocol"], one["containerPort"]) == (value, packet.protocol, packet.port) for one in own
    )


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for one in selector.get("matchExpressions") or []:
        key, operator, values = one["key"], one["operator"], one.get("values") or []
        have = labels.get(key)
        if operator == "In" and have not in values:
            return False
        if operator == "NotIn" and have in values:
            return False
        if operator == "Exists" and have is None:
            return False
        if operator == "DoesNotExist" and have is not None:
            return False
    return True


# --- what rules let pass


def passes(packet: Packet, rules: Ruleset) -> bool:
    """What the chains make of the packet on its way through the node."""
    family = 6 if ":" in packet.source else 4
    if f"{packet.source} . {packet.target}" in rules.sets[OWN[family]]:
        return True
    sides: tuple[tuple[Direction, str, str], ...] = (
        ("egress", packet.source, packet.target),
        ("ingress", packet.target, packet.source),
    )
    for direction, own, peer in sides:
        group = rules.maps[map_name(direction, family)].get(own)
        if group is None:
            continue
        chain = rules.chains[group]
        assert isinstance(chain, GroupChain)
        if not any(_chain_passes(packet, rules, name, direction, peer, family) for name in chain.policies):
            return False
    return True


def _chain_passes(packet: Packet, rules: Ruleset, name: str, direction: Direction, peer: str, family: int) -> bool:
    chain = rules.chains[name]
    assert isinstance(chain, PolicyChain)
    assert (chain.direction == INGRESS) == (direction == INGRESS)
    return any(_rule_passes(packet, rules, one, peer, family) for one in chain.rules)


def _rule_passes(packet: Packet, rules: Ruleset, rule: Rule, peer: str, family: int) -> bool:
    number = int(ip_address(peer))
    tests = (
        not rule.family or rule.family == family,
        not rule.peers or peer in rules.sets[rule.peers],
        not rule.blocks or any(first <= number <= last for first, last in rule.blocks),
        not rule.protocol or rule.protocol == packet.protocol.lower(),
        not rule.ports or any(first <= packet.port <= last for first, last in rule.ports),
        not rule.named or f"{packet.target} . {packet.port}" in rules.sets[rule.named],
    )
    return all(tests)


# --- a kernel


class KernelTable:
    """A table as the kernel keeps it: carries out lines, all or nothing is not needed, but as strictly: nothing is made
    twice, nothing removed that is not there or that is in use."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}
        self.sets: dict[str, set[str]] = {name: set() for name in FIXED_SETS}
        self.maps: dict[str, dict[str, str]] = {name: {} for name in MAPS}

    def is_like(self, rules: Ruleset) -> bool:
        """Whether what is here is what is wanted."""
        wanted = {
            name: [line.split(maxsplit=5)[5] for line in render.contents("t", name, chain)]
            for name, chain in rules.chains.items()
        }
        own = {name: lines for name, lines in self.chains.items() if name not in render.BASE_CHAINS}
        return (own, self.sets, self.maps) == (wanted, rules.sets, rules.maps)

    def entries(self) -> list[dict[str, Any]]:
        """As libnftables-json(5) tells of it."""
        chains = [{"chain": {"name": name}} for name in self.chains]
        comments = [line.partition('comment "')[2].rstrip('"') for line in self.chains.get("ingress", ())]
        rules = [{"rule": {"chain": "ingress", "comment": one}} for one in comments if one]
        sets = [{"set": {"name": name, "elem": [_split(one) for one in listed]}} for name, listed in self.sets.items()]
        maps = [
            {"map": {"name": name, "elem": [[key, {"goto": {"target": to}}] for key, to in places.items()]}}
            for name, places in self.maps.items()
        ]
        return [*chains, *rules, *sets, *maps]

    def carry_out(self, lines: Iterable[str]) -> None:
        for line in lines:
            verb, kind, _, _, name, *rest = line.split(maxsplit=5)
            text = rest[0] if rest else ""
            {"chain": self._chain, "rule": self._rule, "element": self._element}.get(kind, self._place)(
                verb, name, text
            )

    def _place(self, verb: str, name: str, text: str) -> None:
        """A set or a map."""
        if verb == "delete":
            del self.sets[name]
            assert not any(f"@{name} " in line for lines in self.chains.values() for line in lines)
        elif name not in (*FIXED_SETS, *MAPS):
            assert name not in self.sets
            self.sets[name] = set()

    def _chain(self, verb: str, name: str, text: str) -> None:
        if verb == "flush":
            self.chains[name] = []
        elif verb == "delete":
            assert not self.chains.pop(name)
            assert all(name not in places.values() for places in self.maps.values())
            assert not any(name in line.split() for lines in self.chains.values() for line in lines)
        elif name not in render.BASE_CHAINS:
            assert name not in self.chains
            self.chains[name] = []
        else:
            self.chains.setdefault(name, [])

    def _rule(self, verb: str, name: str, text: str) -> None:
        self.chains[name].append(text)
        for word in text.split():
            assert not word.startswith("@") or word[1:] in self.sets or word[1:] in self.maps

    def _element(self, verb: str, name: str, text: str) -> None:
        listed = text.strip("{} ").split(", ")
        if name in self.maps:
            self._map_elements(verb, name, listed)
        elif verb == "add":
            assert self.sets[name].isdisjoint(listed)
            self.sets[name].update(listed)
        else:
            assert self.sets[name].issuperset(listed)
            self.sets[name].difference_update(listed)

    def _map_elements(self, verb: str, name: str, listed: list[str]) -> None:
        for one in listed:
            if verb == "delete":
                del self.maps[name][one]
                continue
            address, _, target = one.partition(" : goto ")
            assert address not in self.maps[name]
            assert self.chains[target], "an empty chain lets everything pass"
            self.maps[name][address] = target


class FakeNftables:
    """`Nftables` with one table, in memory. `broken` makes it refuse; `log` has the transactions."""

    def __init__(self) -> None:
        self.table: KernelTable | None = None
        self.log: list[list[str]] = []
        self.broken = False

    def close(self) -> None:
        """Nothing to let go of."""

    def run(self, commands: str) -> str:
        if self.broken:
            raise NftablesError(errno.EPERM, "nftables: Error: Operation not permitted")
        lines = commands.splitlines()
        self.log.append(lines)
        if lines[0].startswith("delete table"):
            assert self.table is not None
            self.table = None
            return ""
        if self.table is None:
            assert lines[0].startswith("add table")
            self.table = KernelTable()
        self.table.carry_out(line for line in lines if not line.startswith("add table"))
        return ""

    def list_json(self, command: str) -> list[dict[str, Any]]:
        if self.table is None:
            raise NftablesError(errno.ENOENT, "nftables: Error: No such file or directory")
        return self.table.entries()


def _split(element: str) -> Any:
    parts: list[Any] = element.split(" . ")
    return parts[0] if len(parts) == 1 else {"concat": parts}
