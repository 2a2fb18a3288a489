"""Formats of strings that schemas may ask for, as kube-openapi checks them; those that nobody knows are ignored.

Names are compared without dashes: date-time is datetime.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from types import MappingProxyType

Check = Callable[[str], bool]


def known(name: str, kind: str) -> bool:
    """Whether a schema of this type (\"\" for none) may have the format; others are as if it had none."""
    if kind in ("", "string"):
        return name.replace("-", "") in FORMATS
    return name in {"integer": ("int32", "int64"), "number": ("float", "double")}.get(kind, ())


def check_of(name: str) -> Check | None:
    """The check of strings of a format; None if strings of it are not looked at."""
    return FORMATS.get(name.replace("-", ""))


def _matches(pattern: str, flags: int = 0) -> Check:
    search = re.compile(pattern, flags | re.ASCII).fullmatch
    return lambda text: search(text) is not None


_TOP = re.compile(r"[^\W\d_]{2,63}")


def _hostname(text: str) -> bool:
    """RFC 1034 with the leniency of RFC 1123; symbols and letters of any script."""
    if len(text.encode()) > 255:
        return False
    labels = text.split(".")
    if any(len(label.encode()) > 63 for label in labels):
        return False
    if len(labels) == 1:
        head, dash, tail = text[:1], text[1:2] == "-", text[2:] if text[1:2] == "-" else text[1:]
        return bool(head) and _signs(head) and _signs(tail) and len(tail) <= 62 and (not dash or bool(text[1:]))
    *inner, top = labels
    fits = all(label and _signs(label[0]) and _signs(label[-1]) and _signs(label.replace("-", "")) for label in inner)
    return fits and _TOP.fullmatch(top) is not None


def _signs(text: str) -> bool:
    """ASCII letters and digits, letters of other scripts, symbols."""
    return all(char.isalpha() or (char.isascii() and char.isdigit()) or _symbol(char) for char in text)


def _symbol(char: str) -> bool:
    import unicodedata

    return unicodedata.category(char)[0] == "S"


def _uri(text: str) -> bool:
    from tiphys.api.cel.libraries import gourl

    try:
        gourl.parse_request_uri(text)
    except gourl.UrlError:
        return False
    return True


def _email(text: str) -> bool:
    from email.utils import parseaddr

    name, address = parseaddr(text)
    local, at, domain = address.rpartition("@")
    if not (local and at and domain) or any(char in domain for char in ' @<>,;:"()'):
        return False
    if " " in local and not local.startswith('"'):
        return False
    return text.strip() == address or ((bool(name) or text.strip().startswith("<")) and text.strip().endswith(">"))


_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")


def _ipv4(text: str) -> bool:
    """Leading zeros are let through, and IPv6 addresses that end in an IPv4 one."""
    if "." not in text:
        return False
    try:
        ipaddress.ip_address(_ZEROS.sub("", text) if ":" not in text else text)
    except ValueError:
        return False
    return "%" not in text


def _ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6 and "%" not in text
    except ValueError:
        return False


_PREFIX = re.compile(r"[0-9]{1,3}")


def _cidr(text: str) -> bool:
    address, slash, bits = text.partition("/")
    if not slash or not _PREFIX.fullmatch(bits) or "%" in text:
        return False
    try:
        found = ipaddress.ip_address(_ZEROS.sub("", address) if ":" not in address else address)
    except ValueError:
        return False
    return int(bits) <= found.max_prefixlen


_MAC = re.compile(r"([0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\2)+[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.)+[0-9a-fA-F]{4})")


def _mac(text: str) -> bool:
    return _MAC.fullmatch(text) is not None and sum(char not in ":-." for char in text) in (12, 16, 40)


_ISBN10, _ISBN13 = re.compile(r"[0-9]{9}[0-9X]"), re.compile(r"[0-9]{13}")


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not _ISBN10.fullmatch(digits):
        return False
    values = [10 if char == "X" else int(char) for char in digits]
    return sum((i + 1) * value for i, value in enumerate(values)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not _ISBN13.fullmatch(digits):
        return False
    total = sum(int(char) * (3 if i % 2 else 1) for i, char in enumerate(digits[:12]))
    return int(digits[12]) == (10 - total % 10) % 10


_CARD = re.compile(
    r"4[0-9]{12}([0-9]{3})?|5[1-5][0-9]{14}|6(011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(0[0-5]|[68][0-9])[0-9]{11}"
    r"|(2131|1800|35[0-9]{3})[0-9]{11}"
)


def _credit_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if not _CARD.fullmatch(digits):
        return False
    doubled = [int(char) * (2 if i % 2 else 1) for i, char in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _bytes(text: str) -> bool:
    try:
        return bool(binascii.a2b_base64(text, strict_mode=True)) and "\n" not in text
    except ValueError:
        return False


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


def _date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and (text.startswith("0000") or bool(date.fromisoformat(text)))
    except ValueError:
        return False


def _date_time(text: str) -> bool:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return text == ""
    zone = match[2] or "Z"
    if zone != "Z" and (int(zone[1:3]) > 24 or int(zone[4:]) > 60):
        return False
    try:
        return bool(datetime.fromisoformat(match[1]))
    except ValueError:
        return False


_GO_DURATION = re.compile(r"[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)")
_TERM = re.compile(r"([0-9]+)\s*([A-Za-zµ]+)", re.ASCII)
_UNITS = ("ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk")
_LONG_UNITS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")


def _duration(text: str) -> bool:
    """Go's durations, or anything with a number and a unit of time in it."""
    if _GO_DURATION.fullmatch(text):
        return True
    found = [unit.lower() for _, unit in _TERM.findall(text)]
    return any(unit in _UNITS or unit.startswith(_LONG_UNITS) for unit in found)


_UUID = "[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{}[0-9a-f]{{3}}-?{}[0-9a-f]{{3}}-?[0-9a-f]{{12}}"
_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_short_name, _long_name = _matches(_NAME), _matches(rf"{_NAME}(\.{_NAME})*")
_BYTE = r"(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])"
_SSN = _matches(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}")

FORMATS: Mapping[str, Check] = MappingProxyType(
    {
        "bsonobjectid": _matches("[0-9a-fA-F]{24}"),
        "uri": _uri,
        "email": _email,
        "hostname": _hostname,
        "ipv4": _ipv4,
        "ipv6": _ipv6,
        "cidr": _cidr,
        "mac": _mac,
        "uuid": _matches(_UUID.format("[0-9a-f]", "[0-9a-f]"), re.IGNORECASE),
        "uuid3": _matches(_UUID.format("3", "[0-9a-f]"), re.IGNORECASE),
        "uuid4": _matches(_UUID.format("4", "[89ab]"), re.IGNORECASE),
        "uuid5": _matches(_UUID.format("5", "[89ab]"), re.IGNORECASE),
        "isbn": lambda text: _isbn10(text) or _isbn13(text),
        "isbn10": _isbn10,
        "isbn13": _isbn13,
        "creditcard": _credit_card,
        "ssn": lambda text: len(text) == 11 and _SSN(text),
        "hexcolor": _matches("#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
        "rgbcolor": _matches(rf"rgb\(\s*{_BYTE}\s*,\s*{_BYTE}\s*,\s*{_BYTE}\s*\)"),
        "byte": _bytes,
        "password": lambda text: True,
        "date": _date,
        "duration": _duration,
        "datetime": _date_time,
        "k8sshortname": lambda text: len(text) <= 63 and _short_name(text),
        "k8slongname": lambda text: len(text) <= 253 and _long_name(text),
    }
)
