"""NetworkPolicies as values: what a policy selects and what it lets pass (networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tiphys.api import selectors
from tiphys.api.selectors import EVERYTHING, NOTHING, LabelSelector
from tiphys.proxy.policies import ranges
from tiphys.proxy.policies.facts import PROTOCOLS
from tiphys.proxy.policies.ranges import Range, Ranges

Object = Mapping[str, Any]
Direction = Literal["ingress", "egress"]
INGRESS: Direction = "ingress"
EGRESS: Direction = "egress"
DIRECTIONS = (INGRESS, EGRESS)


@dataclass(frozen=True, slots=True)
class PeerSelector:
    """Pods by their labels: those of one namespace, or with "" those of all that `namespaces` selects."""

    namespace: str
    namespaces: LabelSelector
    pods: LabelSelector

    def selects_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """`labels` are the namespace's, None while they are not known: then no selector matches."""
        if self.namespace:
            return name == self.namespace
        return labels is not None and self.namespaces.matches(labels)

    @property
    def key(self) -> str:
        """The same for those that select the same."""
        parts = (text(self.pods), "" if self.namespace else text(self.namespaces))
        return "|".join((self.namespace, *parts))


def text(selector: LabelSelector) -> str:
    return "(nothing)" if selector.nothing else str(selector)


@dataclass(frozen=True, slots=True)
class Ports:
    """Of one protocol (lower case): numbers, or with `name` the port that the server calls so; neither: all."""

    protocol: str
    numbers: Ranges = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """An ingress or egress rule: peers (`anyone`: all) that may use ports (`any_port`: all, of any protocol)."""

    anyone: bool = False
    peers: tuple[PeerSelector, ...] = ()
    blocks: Mapping[int, Ranges] | None = None
    """Addresses by family (4, 6)."""
    any_port: bool = False
    ports: tuple[Ports, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A direction is None unless the policy is about it; one without allowances lets nothing pass."""

    namespace: str
    name: str
    pods: LabelSelector
    ingress: tuple[Allowance, ...] | None
    egress: tuple[Allowance, ...] | None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def allowances(self, direction: Direction) -> tuple[Allowance, ...] | None:
        return self.ingress if direction == INGRESS else self.egress


def policy_of(obj: Object) -> Policy:
    """From a NetworkPolicy object. Raises ValueError for what the API does not let in."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    namespace = str(metadata["namespace"])
    types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    ingress = [_allowance(rule, rule.get("from"), namespace) for rule in spec.get("ingress") or ()]
    egress = [_allowance(rule, rule.get("to"), namespace) for rule in spec.get("egress") or ()]
    return Policy(
        namespace,
        str(metadata["name"]),
        selectors.from_object(spec.get("podSelector") or {}),
        tuple(ingress) if "Ingress" in types else None,
        tuple(egress) if "Egress" in types else None,
    )


def _allowance(rule: Object, peers: Iterable[Object] | None, namespace: str) -> Allowance:
    listed = list(peers or ())
    ports = rule.get("ports") or ()
    blocks = [one["ipBlock"] for one in listed if one.get("ipBlock")]
    return Allowance(
        anyone=not listed,
        peers=tuple(dict.fromkeys(_selector(one, namespace) for one in listed if not one.get("ipBlock"))),
        blocks=_addresses(blocks),
        any_port=not ports,
        ports=tuple(_ports(ports)),
    )


def _selector(peer: Object, namespace: str) -> PeerSelector:
    by_namespace, by_pod = peer.get("namespaceSelector"), peer.get("podSelector")
    pods = selectors.from_object({} if by_pod is None else by_pod)
    if by_namespace is None:
        return PeerSelector(namespace, EVERYTHING, pods if by_pod is not None else NOTHING)
    return PeerSelector("", selectors.from_object(by_namespace), pods)


def _addresses(blocks: Iterable[Object]) -> Mapping[int, Ranges] | None:
    """Exceptions are those of their own block only: another block may have the same addresses."""
    found: dict[int, list[Range]] = {}
    for block in blocks:
        family, all_of_it = ranges.of_block(block["cidr"])
        excepted = [ranges.of_block(one) for one in block.get("except") or ()]
        left = ranges.without((all_of_it,), (one for other, one in excepted if other == family))
        found.setdefault(family, []).extend(left)
    return {family: merged for family, all_of_it in found.items() if (merged := ranges.merge(all_of_it))} or None


def _ports(ports: Iterable[Object]) -> Iterator[Ports]:
    """One for all the numbers of a protocol, one a name."""
    numbers: dict[str, list[Range]] = {}
    names: dict[Ports, None] = {}
    for port in ports:
        protocol, value = str(port.get("protocol") or "TCP").lower(), port.get("port")
        if protocol not in PROTOCOLS:
            continue  # the API lets in none; nothing passes by it
        if value is None:
            numbers.setdefault(protocol, []).append((0, 65535))
        elif isinstance(value, str):
            names[Ports(protocol, name=value)] = None
        else:
            numbers.setdefault(protocol, []).append((int(value), int(port.get("endPort") or value)))
    for protocol, listed in numbers.items():
        merged = ranges.merge(listed)
        if merged:
            yield Ports(protocol, () if merged == ((0, 65535),) else merged)
    yield from names
