"""Routes as the proxy wants them: plain values, made from Ingresses and HTTPRoutes alike, never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

BackendKey = tuple[str, str, str]
"""Namespace, Service, and the port's name or number."""
Pairs = tuple[tuple[str, str], ...]


class PathKind(Enum):
    """In the order of precedence."""

    EXACT = 0
    PREFIX = 1
    REGEX = 2


@dataclass(frozen=True, slots=True)
class PathMatch:
    kind: PathKind
    value: str
    test: Callable[[str], bool] | None = None
    """For REGEX."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A header field or query parameter with a value; any of those when `value` is None."""

    name: str
    value: str | None = None
    test: Callable[[str], bool] | None = None
    """Instead of equality."""


@dataclass(frozen=True, slots=True)
class Match:
    path: PathMatch
    method: str = ""
    headers: tuple[Condition, ...] = ()
    query: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """Fields to set, add and remove."""

    set: Pairs = ()
    add: Pairs = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


NO_CHANGES = HeaderChanges()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Another path, another host; "" leaves it. `prefix` is what the route matched, for a replaced prefix."""

    host: str = ""
    full_path: str | None = None
    prefix_path: str | None = None
    template: Callable[[str], str | None] | None = None
    """From capture groups: the whole new path, None when the path does not match after all."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What is changed on the way to a backend and back."""

    request: HeaderChanges = NO_CHANGES
    response: HeaderChanges = NO_CHANGES
    rewrite: Rewrite | None = None
    mirrors: tuple[Mirror, ...] = ()


NO_FILTERS = Filters()


@dataclass(frozen=True, slots=True)
class Target:
    """A backend with its share of the requests. Without a key it answers `status`."""

    key: BackendKey | None
    weight: int = 1
    tls: bool = False
    status: int = 500
    filters: Filters = NO_FILTERS


@dataclass(frozen=True, slots=True)
class Mirror:
    target: Target
    fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where the client is sent; what is "" or 0 stays as it was. `url` is all of it."""

    status: int = 302
    url: str = ""
    scheme: str = ""
    host: str = ""
    port: int = 0
    rewrite: Rewrite | None = None


@dataclass(frozen=True, slots=True)
class Canary:
    """Some requests of a route go elsewhere: by header, by cookie, else by weight."""

    targets: tuple[Target, ...]
    header: str = ""
    header_value: str = ""
    header_test: Callable[[str], bool] | None = None
    cookie: str = ""
    weight: int = 0
    total: int = 100


@dataclass(frozen=True, slots=True)
class Cors:
    origins: tuple[str, ...] = ("*",)
    methods: str = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
    headers: str = (
        "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"
    )
    expose: str = ""
    credentials: bool = True
    max_age: int = 1728000


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """`users` are lines of htpasswd by name; None when the secret cannot be had: then nobody gets in."""

    realm: str
    users: Mapping[str, str] | None

    def digest(self, header: str) -> bytes:
        """Stands for these users and a password together, where neither is to be kept."""
        known = hashlib.sha256(header.encode("latin-1", "replace"))
        for name, hashed in sorted((self.users or {}).items()):
            known.update(f"\0{name}:{hashed}".encode())
        return known.digest()


@dataclass(frozen=True, slots=True)
class Affinity:
    """A client stays with its endpoint by a cookie."""

    cookie: str = "INGRESSCOOKIE"
    attributes: str = "; Path=/; HttpOnly"


Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and conditions of a route. Times in seconds, 0 for none."""

    connect_timeout: float = 5.0
    read_timeout: float = 60.0
    request_timeout: float = 0.0
    backend_timeout: float = 0.0
    max_body: int = 0
    """Bytes; 0 for any size."""
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    auth: BasicAuth | None = None
    cors: Cors | None = None
    affinity: Affinity | None = None
    https_only: int = 0
    """Status with which plain HTTP is sent to HTTPS; 0: it is not."""
    app_root: str = ""


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Route:
    """What becomes of the requests that match."""

    match: Match
    targets: tuple[Target, ...] = ()
    redirect: Redirect | None = None
    filters: Filters = NO_FILTERS
    policy: Policy = DEFAULT_POLICY
    canary: Canary | None = None
    source: str = ""
    """The object it is from: kind namespace/name, for the access log."""
    order: tuple[object, ...] = ()
    """Among equals the smaller comes first."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One (port, host) at which requests come in, with its routes. A host may begin with "*."; "" is any."""

    port: int
    """The port that clients use: the Service's."""
    host: str = ""
    tls: bool = False
    routes: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    """By the host of the route; sorted by precedence."""
    one_label: bool = False
    """Whether wildcards stand for one label only, as with Ingresses."""


ANY_PATH = PathMatch(PathKind.PREFIX, "/")
