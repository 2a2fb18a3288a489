"""Domain names as they are on the wire (RFC 1035, section 3.1): labels with their lengths in front, an empty one last.

Names are compared and kept in lower case: `lower` may be used on a whole name, since a length is never a letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

MAX_NAME = 255
MAX_LABEL = 63
_HEX = frozenset(b"0123456789abcdef")
_V4_SUFFIX = (b"in-addr", b"arpa")
_V6_SUFFIX = (b"ip6", b"arpa")


def from_labels(labels: Iterable[bytes]) -> bytes:
    """The name on the wire. Raises ValueError for what is too long or has an empty label."""
    parts = []
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL:
            raise ValueError(f"a label of {len(label)} bytes")
        parts.append(bytes((len(label),)) + label)
    name = b"".join(parts) + b"\0"
    if len(name) > MAX_NAME:
        raise ValueError(f"a name of {len(name)} bytes")
    return name


def from_text(text: str) -> bytes:
    """example.com (or example.com.) on the wire, in lower case. Raises ValueError."""
    bare = text.removesuffix(".")
    return from_labels(bare.lower().encode().split(b".")) if bare else b"\0"


def to_text(name: bytes) -> str:
    """For people: dots inside labels and what cannot be printed are escaped as in zone files."""
    return ".".join(_shown(label) for label in split(name)) + "."


def _shown(label: bytes) -> str:
    return "".join(chr(c) if 32 < c < 127 and c not in b".\\" else f"\\{c:03d}" for c in label)


def split(name: bytes) -> list[bytes]:
    """The labels of a well-formed name."""
    labels = []
    at = 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length])
        at += length + 1
    return labels


def reverse_of(labels: Sequence[bytes]) -> bytes:
    """The address, packed, of which a name below in-addr.arpa or ip6.arpa (lower case) tells; b"" for other names."""
    suffix = tuple(labels[-2:])
    if suffix == _V4_SUFFIX and len(labels) == 6:
        return _v4(labels[3::-1])
    if suffix == _V6_SUFFIX and len(labels) == 34:
        return _v6(labels[31::-1])
    return b""


def _v4(digits: Sequence[bytes]) -> bytes:
    try:
        return IPv4Address(b".".join(digits).decode("ascii")).packed
    except ValueError:
        return b""


def _v6(nibbles: Sequence[bytes]) -> bytes:
    if any(len(each) != 1 or each[0] not in _HEX for each in nibbles):
        return b""
    return bytes.fromhex(b"".join(nibbles).decode("ascii"))


def packed(address: str) -> bytes:
    """The bytes of an IP address; b"" for what is none."""
    try:
        return IPv6Address(address).packed if ":" in address else IPv4Address(address).packed
    except ValueError:
        return b""


def dashed(address: bytes) -> bytes:
    """The label by which an endpoint without a host name is found: 10-0-0-1, fd00--1."""
    if len(address) == 4:
        return str(IPv4Address(address)).replace(".", "-").encode()
    return str(IPv6Address(address)).replace(":", "-").encode()


def undashed(label: bytes) -> bytes:
    """The address of a pod's label: 10-0-0-1 (three single dashes), or the dashes stand for colons; b"" for none."""
    try:
        text = label.decode("ascii")
    except UnicodeDecodeError:
        return b""
    if text.count("-") == 3 and "--" not in text:
        return packed(text.replace("-", "."))
    return packed(text.replace("-", ":"))
