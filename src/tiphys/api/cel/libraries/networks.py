"""The `ip` and `cidr` libraries of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tiphys.api.cel.costs import ONE, TRAVERSAL, CallEstimate, Node, Range
from tiphys.api.cel.libraries.goip import Address, AddressError, Prefix, parse_address, parse_prefix
from tiphys.api.cel.libraries.sizes import share, walks
from tiphys.api.cel.types import BOOL, INT, STRING, EvaluationError, Function, Library, Overload, Type, opaque
from tiphys.api.cel.values import size_of
from tiphys.api.kinds.base import quote

IP = opaque("net.IP", equality=ONE)
CIDR = opaque("net.CIDR", equality=ONE)

_BYTES = Range(4, 16)
"""How long addresses are."""


class IpValue:
    """An IP address as CEL sees it."""

    __slots__ = ("address",)
    cel_type: ClassVar[Type] = IP

    def __init__(self, address: Address) -> None:
        self.address = address

    def cel_size(self) -> int:
        return self.address.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IpValue) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)


class CidrValue:
    """An address with a prefix length as CEL sees it; its size is that of the prefix, in bytes."""

    __slots__ = ("prefix",)
    cel_type: ClassVar[Type] = CIDR

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix

    def cel_size(self) -> int:
        return -(-self.prefix.bits // 8)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CidrValue) and self.prefix == other.prefix

    def __hash__(self) -> int:
        return hash(self.prefix)


def _address(text: str) -> Address:
    try:
        address = parse_address(text)
    except AddressError as error:
        raise EvaluationError(f"IP Address {quote(text)} parse error during conversion from string: {error}") from None
    if address.zone:
        raise EvaluationError(f"IP address {quote(text)} with zone value is not allowed")
    if address.mapped:
        raise EvaluationError(f"IPv4-mapped IPv6 address {quote(text)} is not allowed")
    return address


def to_ip(text: str) -> IpValue:
    return IpValue(_address(text))


def to_cidr(text: str) -> CidrValue:
    what = "network address parse error during conversion from string: "
    try:
        prefix = parse_prefix(text)
    except AddressError as error:
        raise EvaluationError(f"{what}{what}{error}") from None
    if prefix.address.mapped:
        raise EvaluationError(f"{what}IPv4-mapped IPv6 address {quote(text)} is not allowed")
    return CidrValue(prefix)


def _possible(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except EvaluationError:
            return False
        return True

    return check


def _is_canonical(text: str) -> bool:
    return str(_address(text)) == text


def _contains_ip(cidr: CidrValue, ip: IpValue) -> bool:
    return cidr.prefix.contains(ip.address)


def _contains_ip_text(cidr: CidrValue, text: str) -> bool:
    return cidr.prefix.contains(_address(text))


def _contains_cidr(cidr: CidrValue, other: CidrValue) -> bool:
    return cidr.prefix.covers(other.prefix)


def _contains_cidr_text(cidr: CidrValue, text: str) -> bool:
    return cidr.prefix.covers(to_cidr(text).prefix)


def _containing(id: str, implementation: Callable[..., bool], other: Type, *, network: bool) -> Overload:
    """`containsIP` or, masking first, `containsCIDR`; a text is parsed besides."""
    parsed = other is STRING

    def cost(arguments: tuple[Any, ...], result: Any) -> int:
        size = size_of(arguments[0])
        total = share(2 * size) + ((share(size) + 1) if network else 0)
        return total + (share(size_of(arguments[1])) if parsed else 0)

    def estimate(nodes: Sequence[Node]) -> CallEstimate:
        total = _BYTES.plus(_BYTES).scaled(TRAVERSAL)
        if network:
            total = total.plus(_BYTES.scaled(TRAVERSAL)).plus(ONE)
        return CallEstimate(total.plus(nodes[1].size.scaled(TRAVERSAL)) if parsed else total)

    return Overload(id, (CIDR, other), BOOL, implementation, member=True, cost=cost, estimate=estimate)


def _member(name: str, id: str, implementation: Callable[[Any], Any], of: Type, result: Type) -> Function:
    return Function(name, (Overload(id, (of,), result, implementation, member=True),))


def _question(name: str, id: str, attribute: str) -> Function:
    return _member(name, id, lambda value: getattr(value.address, attribute), IP, BOOL)


IPS = Library(
    "kubernetes.net.ip",
    (
        Function("ip", (Overload("string_to_ip", (STRING,), IP, to_ip, **walks()),)),
        Function("isIP", (Overload("is_ip", (STRING,), BOOL, _possible(to_ip), **walks()),)),
        Function("ip.isCanonical", (Overload("ip_is_canonical", (STRING,), BOOL, _is_canonical, **walks(times=2)),)),
        Function("string", (Overload("ip_to_string", (IP,), STRING, lambda value: str(value.address)),)),
        _member("family", "ip_family", lambda value: value.address.family, IP, INT),
        _question("isUnspecified", "ip_is_unspecified", "unspecified"),
        _question("isLoopback", "ip_is_loopback", "loopback"),
        _question("isLinkLocalMulticast", "ip_is_link_local_multicast", "link_local_multicast"),
        _question("isLinkLocalUnicast", "ip_is_link_local_unicast", "link_local_unicast"),
        _question("isGlobalUnicast", "ip_is_global_unicast", "global_unicast"),
    ),
    types=(IP,),
)

CIDRS = Library(
    "kubernetes.net.cidr",
    (
        Function("cidr", (Overload("string_to_cidr", (STRING,), CIDR, to_cidr, **walks()),)),
        Function("isCIDR", (Overload("is_cidr", (STRING,), BOOL, _possible(to_cidr), **walks()),)),
        Function("string", (Overload("cidr_to_string", (CIDR,), STRING, lambda value: str(value.prefix)),)),
        Function(
            "containsIP",
            (
                _containing("cidr_contains_ip_string", _contains_ip_text, STRING, network=False),
                _containing("cidr_contains_ip_ip", _contains_ip, IP, network=False),
            ),
        ),
        Function(
            "containsCIDR",
            (
                _containing("cidr_contains_cidr_string", _contains_cidr_text, STRING, network=True),
                _containing("cidr_contains_cidr", _contains_cidr, CIDR, network=True),
            ),
        ),
        _member("ip", "cidr_ip", lambda value: IpValue(value.prefix.address), CIDR, IP),
        _member("prefixLength", "cidr_prefix_length", lambda value: value.prefix.bits, CIDR, INT),
        _member("masked", "cidr_masked", lambda value: CidrValue(value.prefix.masked()), CIDR, CIDR),
    ),
    types=(CIDR,),
)
