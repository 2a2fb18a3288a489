"""URLs read by the rules of Go's net/url, which Kubernetes' `url` functions and the `uri` format follow.

Python's urllib accepts nearly everything; here what is refused, and the words it is refused with, are those that
clients see. Source: RFC 3986 and the documentation of net/url.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from tiphys.api.cel.libraries.goip import AddressError, parse_address
from tiphys.api.kinds.base import quote

_LETTERS = frozenset(string.ascii_letters)
_IN_SCHEME = _LETTERS | frozenset(string.digits + "+-.")
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-_.~")
_HOST = _UNRESERVED | frozenset("!$&'()*+,;=:[]<>\"")
_PATH = _UNRESERVED | frozenset("$&+,/:;=@")
_PATH_AS_WRITTEN = _PATH | frozenset("!'()*[]%")
_USER = _UNRESERVED | frozenset("!$&'()*+,;=:%@")
_HEX = frozenset(string.hexdigits)


class UrlError(ValueError):
    """Not a URL; the text says why."""


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in its parts; `path` is decoded, `raw_path` as it was written."""

    scheme: str = ""
    opaque: str = ""
    user: str = ""
    host: str = ""
    path: str = ""
    raw_path: str = ""
    query: str = ""
    fragment: str = ""
    authority: bool = False

    @property
    def hostname(self) -> str:
        host, _ = _split_port(self.host)
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @property
    def port(self) -> str:
        return _split_port(self.host)[1]

    @property
    def escaped_path(self) -> str:
        if all(char in _PATH_AS_WRITTEN for char in self.raw_path):
            return self.raw_path
        return "*" if self.path == "*" else _escape(self.path, _PATH)

    def values(self) -> dict[str, list[str]]:
        """The parameters of the query; those that cannot be read are left out."""
        found: dict[str, list[str]] = {}
        for piece in self.query.split("&"):
            if not piece or ";" in piece:
                continue
            name, _, value = piece.partition("=")
            try:
                key, text = _unescape(name.replace("+", " ")), _unescape(value.replace("+", " "))
            except UrlError:
                continue
            found.setdefault(key, []).append(text)
        return found

    def __str__(self) -> str:
        text = f"{self.scheme}:" if self.scheme else ""
        if self.opaque:
            text += self.opaque
        else:
            if self.authority:
                text += f"//{self.user}@{self.host}" if self.user else f"//{self.host}"
            text += self.escaped_path
        text += f"?{self.query}" if self.query else ""
        return text + (f"#{self.fragment}" if self.fragment else "")


def parse_request_uri(text: str) -> Url:
    """An absolute URL or path, without a fragment, as a request line has it. Raises UrlError."""
    try:
        return _parse(text, via_request=True)
    except UrlError as error:
        raise UrlError(f"parse {quote(text)}: {error}") from None


def parse(text: str) -> Url:
    """Any URL or relative reference. Raises UrlError."""
    whole, _, fragment = text.partition("#")
    try:
        url = _parse(whole, via_request=False)
        _unescape(fragment)
    except UrlError as error:
        raise UrlError(f"parse {quote(text)}: {error}") from None
    fields = {name: getattr(url, name) for name in Url.__slots__ if name != "fragment"}
    return Url(fragment=fragment, **fields)


def _parse(text: str, *, via_request: bool) -> Url:
    if any(char < " " or char == "\x7f" for char in text):
        raise UrlError("net/url: invalid control character in URL")
    if not text and via_request:
        raise UrlError("empty url")
    if text == "*":
        return Url(path="*", raw_path="*")
    scheme, rest = _scheme(text)
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return Url(scheme=scheme, opaque=rest, query=query)
        _check_relative(rest, via_request=via_request)
    user = host = ""
    has_authority = rest.startswith("//") and bool(scheme or (not via_request and not rest.startswith("///")))
    if has_authority:
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        user, host = _authority(authority)
    return Url(scheme, "", user, host, _unescape(rest), rest, query, "", has_authority)


def _check_relative(rest: str, *, via_request: bool) -> None:
    if via_request:
        raise UrlError("invalid URI for request")
    if ":" in rest.partition("/")[0]:
        raise UrlError("first path segment in URL cannot contain colon")


def _scheme(text: str) -> tuple[str, str]:
    for i, char in enumerate(text):
        if char == ":":
            if i == 0:
                raise UrlError("missing protocol scheme")
            return text[:i].lower(), text[i + 1 :]
        if char not in _IN_SCHEME or (i == 0 and char not in _LETTERS):
            break
    return "", text


def _authority(text: str) -> tuple[str, str]:
    user, _, host = text.rpartition("@")
    host = _host(host)
    if any(char not in _USER for char in user):
        raise UrlError("net/url: invalid userinfo")
    for part in user.split(":", 1):
        _unescape(part)
    return user, host


def _host(host: str) -> str:
    if "[" in host:
        return _literal(host)
    if (colon := host.find(":")) >= 0:
        _check_port(host[colon:])
    return _unescape_host(host)


def _literal(host: str) -> str:
    """A host in brackets: an IPv6 address."""
    end = host.rfind("]")
    if end < 0:
        raise UrlError("missing ']' in host")
    _check_port(host[end + 1 :])
    start, zone = host.find("["), host.find("%25", 0, end)
    if zone >= 0:
        text = _unescape_host(host[:zone]) + _unescape(host[zone:end]) + _unescape_host(host[end:])
    else:
        text = _unescape_host(host)
    inner = text[start + 1 : text.rfind("]")]
    try:
        address = parse_address(inner)
    except AddressError as error:
        raise UrlError(f"invalid host: {error}") from None
    if address.family == 4:
        raise UrlError("invalid IP-literal")
    return text


def _valid_port(text: str) -> bool:
    return not text or (text[0] == ":" and all(char in string.digits for char in text[1:]))


def _check_port(text: str) -> None:
    if not _valid_port(text):
        raise UrlError(f"invalid port {quote(text)} after host")


def _split_port(host: str) -> tuple[str, str]:
    colon = host.rfind(":")
    if colon >= 0 and _valid_port(host[colon:]):
        return host[:colon], host[colon + 1 :]
    return host, ""


def _unescape_host(text: str) -> str:
    i = 0
    while i < len(text):
        if text[i] == "%":
            _check_escape(text, i)
            if text[i + 1] in "01234567" and text[i : i + 3] != "%25":
                raise UrlError(f"invalid URL escape {quote(text[i : i + 3])}")
            i += 3
            continue
        if text[i] < "\x80" and text[i] not in _HOST:
            raise UrlError(f"invalid character {quote(text[i])} in host name")
        i += 1
    return _unescape(text)


def _check_escape(text: str, i: int) -> None:
    if len(text) < i + 3 or text[i + 1] not in _HEX or text[i + 2] not in _HEX:
        raise UrlError(f"invalid URL escape {quote(text[i : i + 3])}")


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    out, i = bytearray(), 0
    while i < len(text):
        if text[i] == "%":
            _check_escape(text, i)
            out.append(int(text[i + 1 : i + 3], 16))
            i += 3
        else:
            out += text[i].encode("utf-8", "surrogatepass")
            i += 1
    return out.decode("utf-8", "replace")


def _escape(text: str, kept: frozenset[str]) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if chr(byte) in kept else f"%{byte:02X}" for byte in encoded)
