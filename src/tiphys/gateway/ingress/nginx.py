"""Annotations of ingress-nginx that charts carry: what is understood becomes options, the rest is told.

What is not supported and keeps people out (external authentication, client certificates) closes the routes instead of
opening them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from tiphys.client.types import Object
from tiphys.gateway import htpasswd
from tiphys.gateway.model import DEFAULT_POLICY, Affinity, BasicAuth, Cors, Network, Policy

PREFIX = "nginx.ingress.kubernetes.io/"
_SIZE = re.compile(r"([0-9]+)([kKmMgG]?)")
_LONGEST = 1e9
"""Seconds."""
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_WORD = re.compile(r"[\x21-\x7e]*")
_LINE = re.compile(r"[^\x00-\x1f\x7f]*")
_CLOSING = frozenset({"auth-url", "auth-tls-secret", "auth-tls-verify-client", "enable-global-auth"})
"""Unsupported ones that restrict who gets in."""
_HARMLESS = frozenset({"proxy-buffering", "proxy-buffer-size", "proxy-request-buffering", "proxy-http-version",
                       "proxy-send-timeout", "proxy-next-upstream", "proxy-buffers-number", "service-upstream",
                       "websocket-services", "affinity-mode", "use-http2", "preserve-trailing-slash",
                       "proxy-max-temp-file-size", "client-body-buffer-size"})  # fmt: skip
"""Tuning of nginx that has no meaning here."""


class Invalid(ValueError):
    """Why a value is refused."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the annotations of an Ingress say."""

    policy: Policy = DEFAULT_POLICY
    rewrite: str = ""
    regex: bool = False
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    redirect: tuple[int, str] | None = None
    tls_backend: bool = False
    upstream_host: str = ""
    canary: Mapping[str, str] | None = None
    closed: bool = False
    """Nobody gets in, since what would decide it is not supported or invalid."""
    problems: tuple[str, ...] = ()


Secrets = Callable[[str, str], Object | None]


@dataclass(slots=True)
class _Reader:
    values: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name, default).strip()
        if not _LINE.fullmatch(value):
            self.problems.append(f"{PREFIX}{name} has control characters")
            return default
        return value

    def word(self, name: str) -> str:
        """Text that becomes a part of a request's line or a name: nothing that could end it."""
        value = self.text(name)
        if not _WORD.fullmatch(value):
            self.problems.append(f"{PREFIX}{name} must be ASCII without blanks, not {value!r}")
            return ""
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if value not in ("", "true", "false"):
            self.problems.append(f"{PREFIX}{name} must be true or false, not {value!r}")
        return value == "true" if value in ("true", "false") else default

    def seconds(self, name: str, default: float) -> float:
        value = self.text(name).removesuffix("s")
        if value and not value.isdecimal():
            self.problems.append(f"{PREFIX}{name} must be a number of seconds, not {value!r}")
        return min(float(value), _LONGEST) if value.isdecimal() else default

    def number(self, name: str, default: int) -> int:
        return int(self.seconds(name, default))


def read(ingress: Object, secrets: Secrets) -> Options:
    """What is understood; `problems` name what is not. `secrets` gives a Secret by namespace and name."""
    metadata = ingress["metadata"]
    values = {
        name.removeprefix(PREFIX): str(value)
        for name, value in (metadata.get("annotations") or {}).items()
        if name.startswith(PREFIX)
    }
    if not values:
        return Options()
    reader = _Reader(values)
    closed = False
    for name in sorted(values):
        if name in _CLOSING and values[name] not in ("", "off", "false"):
            closed = True
            reader.problems.append(f"{PREFIX}{name} is not supported: the routes of this Ingress answer 503")
        elif name not in KNOWN and name not in _HARMLESS and name not in _CLOSING:
            reader.problems.append(f"{PREFIX}{name} is not supported and has no effect")
    try:
        policy = _policy(reader, metadata["namespace"], secrets)
    except Invalid as error:
        policy, closed = Policy(), True
        reader.problems.append(f"{error}: the routes of this Ingress answer 503")
    protocol = reader.text("backend-protocol", "HTTP").upper()
    if protocol not in ("HTTP", "HTTPS", "AUTO_HTTP"):
        closed = True
        reader.problems.append(f"{PREFIX}backend-protocol {protocol!r} is not supported: the routes answer 503")
    return Options(
        policy=policy,
        rewrite=reader.word("rewrite-target"),
        regex=reader.flag("use-regex", False),
        ssl_redirect=reader.flag("ssl-redirect", True),
        force_ssl_redirect=reader.flag("force-ssl-redirect", False),
        redirect=_redirect(reader),
        tls_backend=protocol == "HTTPS",
        upstream_host=reader.word("upstream-vhost"),
        canary=values if reader.flag("canary", False) else None,
        closed=closed,
        problems=tuple(reader.problems),
    )


def _policy(reader: _Reader, namespace: str, secrets: Secrets) -> Policy:
    """Raises Invalid for what restricts who gets in and cannot be read."""
    allow = reader.text("whitelist-source-range") or reader.text("allowlist-source-range")
    return Policy(
        connect_timeout=reader.seconds("proxy-connect-timeout", 5.0),
        read_timeout=reader.seconds("proxy-read-timeout", 60.0),
        max_body=_size(reader),
        allow=_networks("whitelist-source-range", allow),
        deny=_networks("denylist-source-range", reader.text("denylist-source-range")),
        auth=_auth(reader, namespace, secrets),
        cors=_cors(reader) if reader.flag("enable-cors", False) else None,
        affinity=_affinity(reader),
        app_root=_app_root(reader),
    )


def _size(reader: _Reader) -> int:
    text = reader.text("proxy-body-size")
    matched = _SIZE.fullmatch(text) if text else None
    if text and matched is None:
        reader.problems.append(f"{PREFIX}proxy-body-size must be a size like 8m, not {text!r}")
    return int(matched[1]) * _UNITS[matched[2].lower()] if matched is not None else 0


def _networks(name: str, text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise Invalid(f"{PREFIX}{name}: {error}") from error


def _auth(reader: _Reader, namespace: str, secrets: Secrets) -> BasicAuth | None:
    kind = reader.text("auth-type")
    if not kind:
        return None
    if kind != "basic":
        raise Invalid(f"{PREFIX}auth-type {kind!r} is not supported")
    where, slash, name = reader.text("auth-secret").rpartition("/")
    if slash and where != namespace:
        raise Invalid(f"{PREFIX}auth-secret: a secret of another namespace may not be used")
    realm = reader.text("auth-realm", "Authentication Required")
    return BasicAuth(realm, _users(secrets(namespace, name), reader.text("auth-secret-type", "auth-file")))


def _users(secret: Object | None, kind: str) -> Mapping[str, str] | None:
    """None when the secret is not there or not as it must be."""
    data = (secret or {}).get("data") or {}
    try:
        if kind == "auth-map":
            return {name: base64.b64decode(value).decode().strip() for name, value in data.items()} or None
        return htpasswd.parse(base64.b64decode(data["auth"]).decode())
    except (KeyError, binascii.Error, UnicodeDecodeError):
        return None


def _cors(reader: _Reader) -> Cors:
    own = Cors()
    origins = tuple(part.strip() for part in reader.text("cors-allow-origin", "*").split(",") if part.strip())
    return replace(
        own,
        origins=origins or ("*",),
        methods=reader.text("cors-allow-methods", own.methods),
        headers=reader.text("cors-allow-headers", own.headers),
        expose=reader.text("cors-expose-headers"),
        credentials=reader.flag("cors-allow-credentials", True),
        max_age=reader.number("cors-max-age", own.max_age),
    )


def _affinity(reader: _Reader) -> Affinity | None:
    kind = reader.text("affinity")
    if kind != "cookie":
        if kind:
            reader.problems.append(f"{PREFIX}affinity {kind!r} is not supported and has no effect")
        return None
    name = reader.text("session-cookie-name", "INGRESSCOOKIE")
    if not _TOKEN.fullmatch(name):
        reader.problems.append(f"{PREFIX}session-cookie-name {name!r} is no name of a cookie")
        name = "INGRESSCOOKIE"
    parts = [f"Path={reader.text('session-cookie-path', '/')}", "HttpOnly"]
    if age := reader.number("session-cookie-max-age", 0):
        parts.append(f"Max-Age={age}")
    if reader.flag("session-cookie-secure", False):
        parts.append("Secure")
    if same := reader.text("session-cookie-samesite"):
        parts.append(f"SameSite={same}")
    return Affinity(name, "".join(f"; {part}" for part in parts if ";" not in part))


def _app_root(reader: _Reader) -> str:
    text = reader.word("app-root")
    if text and not text.startswith("/"):
        reader.problems.append(f"{PREFIX}app-root must begin with a slash")
        return ""
    return text


def _redirect(reader: _Reader) -> tuple[int, str] | None:
    for name, status, code in (
        ("temporal-redirect", 302, "temporal-redirect-code"),
        ("permanent-redirect", 301, "permanent-redirect-code"),
    ):
        if url := reader.word(name):
            number = reader.number(code, status)
            return (number if 300 <= number <= 308 else status), url
    return None


KNOWN = frozenset({
    "affinity", "allowlist-source-range", "app-root", "auth-realm", "auth-secret", "auth-secret-type", "auth-type",
    "backend-protocol", "canary", "canary-by-cookie", "canary-by-header", "canary-by-header-pattern",
    "canary-by-header-value", "canary-weight", "canary-weight-total", "cors-allow-credentials", "cors-allow-headers",
    "cors-allow-methods", "cors-allow-origin", "cors-expose-headers", "cors-max-age", "denylist-source-range",
    "enable-cors", "force-ssl-redirect", "permanent-redirect", "permanent-redirect-code", "proxy-body-size",
    "proxy-connect-timeout", "proxy-read-timeout", "rewrite-target", "session-cookie-max-age", "session-cookie-name",
    "session-cookie-path", "session-cookie-samesite", "session-cookie-secure", "ssl-redirect", "temporal-redirect",
    "temporal-redirect-code", "upstream-vhost", "use-regex", "whitelist-source-range",
})  # fmt: skip
