"""What becomes of a request: an answer at once, a password to check, or a way to a backend. Pure but for its dice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address

from tiphys.gateway import redirects
from tiphys.gateway.matching import choose_listener, covers, find, normalized
from tiphys.gateway.model import BasicAuth, Canary, Filters, HeaderChanges, Listener, Mirror, Policy, Route, Target
from tiphys.gateway.proxy.backends import Backends, Endpoint
from tiphys.gateway.proxy.forwarding import Client
from tiphys.gateway.proxy.heads import RequestHead

Pairs = tuple[tuple[str, str], ...]
Random = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Answer:
    """Ours, without a backend."""

    status: int
    message: str = ""
    fields: Pairs = ()


@dataclass(frozen=True, slots=True)
class Check:
    """The password has to be looked at first; nobody knows it yet."""

    auth: BasicAuth
    header: str


@dataclass(frozen=True, slots=True)
class Way:
    """To a backend: `endpoints` are tried in their order."""

    route: Route
    target: Target
    endpoints: tuple[Endpoint, ...]
    path: str
    """The request's target: path and query."""
    host: str
    filters: Filters
    extra: tuple[str, ...] = ()
    """Whole lines of the response's head."""
    mirrors: tuple[Mirror, ...] = ()

    @property
    def policy(self) -> Policy:
        return self.route.policy


NOT_FOUND = Answer(404, "no Ingress and no HTTPRoute matches this host and path")
Known = Callable[[BasicAuth, str], bool | None]
"""Whether a password fits; None when that is not known yet."""


@dataclass(frozen=True, slots=True)
class World:
    """What decisions look at, besides the request."""

    backends: Backends
    known: Known
    random: Random


def decide(
    tables: Sequence[Sequence[Listener]], head: RequestHead, client: Client, world: World, length: int | None
) -> Answer | Check | Way:
    """`tables` are asked one after the other; of the listeners of each only one has a request. Raises Malformed."""
    path = normalized(head.path)
    found = route_of(tables, head, path)
    if found is None:
        return NOT_FOUND
    _, route = found
    refused = _refusal(route.policy, head, client, world, path, length)
    if refused is not None:
        return refused
    if route.redirect is not None:
        return _moved(redirects.location(route.redirect, route.match.path, head, client, path), route)
    target = _target(route, head, world)
    if target.key is None:
        return _failed(target.status, route, head)
    endpoints = world.backends.of(target.key)
    if not endpoints:
        return replace(_failed(503, route, head), message=f"no endpoint of {'/'.join(target.key[:2])} is ready")
    return _way(route, target, endpoints, head, path, world)


def route_of(tables: Sequence[Sequence[Listener]], head: RequestHead, path: str) -> tuple[Listener, Route] | None:
    host = head.hostname
    for listeners in tables:
        listener = listeners[0] if len(listeners) == 1 else choose_listener(listeners, host)
        if listener is None or not covers(listener.host, host):
            continue
        route = find(listener, host, head.method, path, head.headers, head.query)
        if route is not None:
            return listener, route
    return None


def _way(
    route: Route, target: Target, endpoints: tuple[Endpoint, ...], head: RequestHead, path: str, world: World
) -> Way | Answer:
    filters = merged(route.filters, target.filters)
    host, full = head.host, head.target
    if filters.rewrite is not None:
        rewritten = redirects.rewritten(filters.rewrite, route.match.path, path, head.path)
        if rewritten is None:
            return NOT_FOUND
        full = rewritten + (f"?{head.query}" if "?" in head.target else "") if rewritten else full
        host = filters.rewrite.host or host
    extra: tuple[str, ...] = ()
    if route.policy.affinity is not None:
        endpoints, extra = _sticky(route.policy.affinity.cookie, route.policy.affinity.attributes, endpoints, head)
    if route.policy.cors is not None:
        extra += tuple(f"{name}: {value}" for name, value in redirects.cors_fields(route.policy.cors, head))
    mirrors = tuple(each for each in filters.mirrors if each.fraction >= 1 or world.random() < each.fraction)
    return Way(route, target, endpoints, full, host, filters, extra, mirrors)


def merged(route: Filters, backend: Filters) -> Filters:
    """A backend's own filters come after the route's."""
    if not (backend.request or backend.response or backend.rewrite or backend.mirrors):
        return route
    return Filters(
        _both(route.request, backend.request),
        _both(route.response, backend.response),
        backend.rewrite or route.rewrite,
        route.mirrors + backend.mirrors,
    )


def _both(first: HeaderChanges, then: HeaderChanges) -> HeaderChanges:
    return HeaderChanges(first.set + then.set, first.add + then.add, first.remove + then.remove)


def _moved(answer: tuple[int, str], route: Route) -> Answer:
    status, url = answer
    changes = route.filters.response
    return Answer(status, fields=(("Location", url), *changes.set, *changes.add))


def _failed(status: int, route: Route, head: RequestHead) -> Answer:
    fields: Pairs = ()
    if route.policy.cors is not None:
        fields = tuple(redirects.cors_fields(route.policy.cors, head))
    return Answer(status, "the backend of this route cannot be used" if status >= 500 else "", fields)


def _refusal(
    policy: Policy, head: RequestHead, client: Client, world: World, path: str, length: int | None
) -> Answer | Check | None:
    """In nginx' order: redirects of the whole site, addresses, CORS, passwords, sizes."""
    if policy.https_only and not client.tls:
        return Answer(policy.https_only, fields=(("Location", f"https://{head.hostname}{head.target}"),))
    if policy.app_root and path == "/":
        return Answer(302, fields=(("Location", redirects.absolute(policy.app_root, head, client)),))
    if (policy.allow or policy.deny) and not _allowed(policy, client.address):
        return Answer(403, "your address may not come here")
    if policy.cors is not None and redirects.is_preflight(head):
        return Answer(204, fields=tuple(redirects.preflight_fields(policy.cors, head)))
    if policy.auth is not None and (refused := _unauthorized(policy.auth, head, world)) is not None:
        return refused
    if policy.max_body and length is not None and length > policy.max_body:
        return Answer(413, f"the body is larger than {policy.max_body} bytes")
    return None


def _allowed(policy: Policy, address: str) -> bool:
    ip = ip_address(address)
    if any(ip in network for network in policy.deny if network.version == ip.version):
        return False
    return not policy.allow or any(ip in network for network in policy.allow if network.version == ip.version)


def _unauthorized(auth: BasicAuth, head: RequestHead, world: World) -> Answer | Check | None:
    if auth.users is None:
        return Answer(503, "the secret with the passwords of this site is not there")
    header = head.headers.get("authorization")
    known = world.known(auth, header) if header else False
    if known is None:
        return Check(auth, header or "")
    if known:
        return None
    realm = auth.realm.replace("\\", "").replace('"', "'")
    return Answer(401, "a name and a password, please", (("WWW-Authenticate", f'Basic realm="{realm}"'),))


def _target(route: Route, head: RequestHead, world: World) -> Target:
    targets = route.targets
    if route.canary is not None and _is_canary(route.canary, head, world):
        targets = route.canary.targets
    if len(targets) == 1 and targets[0].weight:
        return targets[0]
    total = sum(target.weight for target in targets)
    point = world.random() * total
    for target in targets:
        point -= target.weight
        if point < 0:
            return target
    return Target(None)


def _is_canary(canary: Canary, head: RequestHead, world: World) -> bool:
    """Header, then cookie, then weight; `always` and `never` settle it."""
    if canary.header and (value := head.headers.get(canary.header.lower())) is not None:
        if canary.header_test is not None or canary.header_value:
            if canary.header_test(value) if canary.header_test is not None else value == canary.header_value:
                return True
        elif value in ("always", "never"):
            return value == "always"
    if canary.cookie and (value := cookies(head).get(canary.cookie)) in ("always", "never"):
        return value == "always"
    return canary.weight > 0 and world.random() * canary.total < canary.weight


def cookies(head: RequestHead) -> dict[str, str]:
    try:
        parsed = SimpleCookie(head.headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in parsed.items()}


def _sticky(
    cookie: str, attributes: str, endpoints: tuple[Endpoint, ...], head: RequestHead
) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """The endpoint that the client's cookie names comes first; else it is told of the one that does now."""
    wanted = cookies(head).get(cookie)
    for place, endpoint in enumerate(endpoints):
        if wanted == mark(endpoint):
            return (endpoint, *endpoints[:place], *endpoints[place + 1 :]), ()
    return endpoints, (f"Set-Cookie: {cookie}={mark(endpoints[0])}{attributes}",)


def mark(endpoint: Endpoint) -> str:
    """What a cookie says of an endpoint: not its address."""
    host, port = endpoint.address
    return hashlib.sha256(f"tiphys {host} {port}".encode()).hexdigest()[:32]
