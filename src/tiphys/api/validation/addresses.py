"""IP addresses and CIDRs. Older fields keep odd spellings that are stored already; newer ones want canonical form."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from functools import lru_cache

from tiphys.api.kinds.base import quote
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import Messages

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BAD_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
BAD_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


@lru_cache(1024)
def parse(text: str) -> Address | None:
    """The address, leading zeros in IPv4 octets forgiven; None for what is none (zones are refused)."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(_without_zeros(text))
    except ValueError:
        return None


def _without_zeros(text: str) -> str:
    """IPv4 octets without their leading zeros, which old clients send."""
    head, colon, tail = text.rpartition(":")
    if "." not in tail or not re.fullmatch(r"[0-9]+(\.[0-9]+){3}", tail):
        return text
    return head + colon + ".".join(str(int(octet)) for octet in tail.split("."))


def parse_cidr(text: str) -> tuple[Address, Network] | None:
    """The address and its network, forgiving like `parse`."""
    host, slash, bits = text.partition("/")
    address = parse(host)
    if not slash or address is None or not re.fullmatch("[0-9]+", bits) or int(bits) > address.max_prefixlen:
        return None
    return address, ipaddress.ip_network(f"{address}/{int(bits)}", strict=False)


def is_mapped(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def is_ipv6(text: str) -> bool:
    address = parse(text)
    return address is not None and address.version == 6 and not is_mapped(address)


def shown(address: Address) -> str:
    """The canonical text; a mapped IPv6 address is shown as the IPv4 address it stands for."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def legacy_ip(errors: Errors, path: str, value: str, old: Container[str] = ()) -> bool:
    """An address in a field from before canonical form was asked for; what was stored before stays well."""
    if value in old:
        return True
    count = len(errors)
    address = parse(value)
    if address is None:
        errors.invalid(path, value, BAD_IP)
    elif _without_zeros(value) != value:
        errors.invalid(path, value, "must not have leading 0s")
    elif is_mapped(address):
        errors.invalid(path, value, "must not be an IPv4-mapped IPv6 address")
    return len(errors) == count


def legacy_cidr(errors: Errors, path: str, value: str, old: Container[str] = ()) -> bool:
    if value in old:
        return True
    count = len(errors)
    parsed = parse_cidr(value)
    if parsed is None:
        errors.invalid(path, value, BAD_CIDR)
        return False
    address, network = parsed
    host, _, bits = value.partition("/")
    if _without_zeros(host) != host or str(int(bits)) != bits:
        errors.invalid(path, value, "must not have leading 0s in IP or prefix length")
    elif is_mapped(address):
        errors.invalid(path, value, "must not have an IPv4-mapped IPv6 address")
    elif address != network.network_address:
        errors.invalid(path, value, "must not have bits set beyond the prefix length")
    return len(errors) == count


def canonical_ip(errors: Errors, path: str, value: str) -> None:
    """An address in the one form that newer fields take (RFC 5952)."""
    if legacy_ip(errors, path, value) and (address := parse(value)) is not None and value != shown(address):
        errors.invalid(path, value, f"must be in canonical form ({quote(shown(address))})")


def ip_name(value: str) -> Messages:
    """The name of an object that stands for the address."""
    errors = Errors()
    canonical_ip(errors, "", value)
    return tuple(error.message.partition(f"{quote(value)}: ")[2] for error in errors)


def canonical_cidr(errors: Errors, path: str, value: str) -> None:
    if legacy_cidr(errors, path, value) and (parsed := parse_cidr(value)) and value != str(parsed[1]):
        errors.invalid(path, value, f"must be in canonical form ({quote(str(parsed[1]))})")


def endpoint_ip(errors: Errors, path: str, value: str) -> None:
    """An address that traffic may be sent to."""
    address = parse(value)
    if address is None:
        errors.invalid(path, value, "must be a valid IP address")
        return
    if address.is_unspecified:
        errors.invalid(path, value, f"may not be unspecified ({value})")
    if address.is_loopback:
        errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if address in ipaddress.ip_network("224.0.0.0/24") or address in ipaddress.ip_network("ff02::/16"):
        errors.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")


def ip_warnings(path: str, value: str) -> list[str]:
    """Texts for addresses that are taken but not in the form that they should have."""
    address = parse(value)
    if address is None:
        return []
    if _without_zeros(value) != value or is_mapped(address):
        return [f"{path}: non-standard IP address {quote(value)} is invalid: use {quote(shown(address))}"]
    if address.version == 6 and str(address) != value:
        return [f"{path}: IPv6 address {quote(value)} should be in RFC 5952 canonical format ({quote(str(address))})"]
    return []


def cidr_warnings(path: str, value: str) -> list[str]:
    parsed = parse_cidr(value)
    if parsed is None:
        return []
    address, network = parsed
    found = []
    if address != network.network_address:
        single = f"{shown(address)}/{address.max_prefixlen}"
        found.append(
            f"{path}: CIDR value {quote(value)} is ambiguous in this context"
            f" (should be {quote(str(network))} or {quote(single)}?)"
        )
    host, _, bits = value.partition("/")
    if _without_zeros(host) != host or str(int(bits)) != bits or is_mapped(address):
        found.append(f"{path}: non-standard CIDR value {quote(value)} is invalid: use {quote(str(network))}")
    if not found and address.version == 6 and str(network) != value:
        canonical = quote(str(network))
        found.append(f"{path}: IPv6 CIDR value {quote(value)} should be in RFC 5952 canonical format ({canonical})")
    return found
