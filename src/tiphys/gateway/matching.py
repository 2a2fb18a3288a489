"""Which route a request takes: the most specific host, then the most specific rule. Pure.

Precedence of rules (HTTPRoute's; Ingress' is a part of it): exact path, longest prefix, method, more headers, more
query parameters; then the older object. Sources: the API references of Ingress and HTTPRoute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, unquote

from tiphys.gateway.model import Condition, Listener, Match, PathKind, PathMatch, Route
from tiphys.gateway.proxy.heads import Malformed


def precedence(route: Route) -> tuple[object, ...]:
    """Routes of one host are tried in this order."""
    match = route.match
    return (
        match.path.kind is not PathKind.EXACT,
        -len(match.path.value),
        match.path.kind.value,
        not match.method,
        -len(match.headers),
        -len(match.query),
        route.order,
    )


def by_precedence(routes: Iterable[Route]) -> tuple[Route, ...]:
    return tuple(sorted(routes, key=precedence))


@lru_cache(4096)
def normalized(path: str) -> str:
    """The path that rules are compared with: percent-decoded, without `//`, `.` and `..`, which backends may resolve
    after we looked. Raises Malformed for one that leaves the root."""
    if "%" in path:
        path = unquote(path, "latin-1")
        if "\x00" in path:
            raise Malformed("a path with a null byte")
    if "//" not in path and "/." not in path:
        return path
    kept: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            if not kept:
                raise Malformed("a path that leaves the root")
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    tail = "/" if kept and parts[-1] in ("", ".", "..") else ""
    return "/" + "/".join(kept) + tail


def path_matches(rule: PathMatch, path: str) -> bool:
    """A prefix matches whole elements: /foo matches /foo, /foo/ and /foo/bar."""
    if rule.kind is PathKind.EXACT:
        return path == rule.value
    if rule.kind is PathKind.PREFIX:
        prefix = rule.value.rstrip("/")
        return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")
    return rule.test is not None and rule.test(path)


def _holds(condition: Condition, value: str | None) -> bool:
    if value is None:
        return False
    if condition.test is not None:
        return condition.test(value)
    return condition.value is None or value == condition.value


@lru_cache(1024)
def _parameters(query: str) -> Mapping[str, str]:
    """The first value of each; none for a query that cannot be read."""
    found: dict[str, str] = {}
    try:
        for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=1000):
            found.setdefault(name, value)
    except ValueError:
        return {}
    return found


def matches(match: Match, method: str, path: str, headers: Mapping[str, str], query: str) -> bool:
    """`path` is normalized, names of `headers` are in lower case."""
    if not path_matches(match.path, path) or (match.method and match.method != method):
        return False
    if match.headers and not all(_holds(condition, headers.get(condition.name)) for condition in match.headers):
        return False
    if not match.query:
        return True
    parameters = _parameters(query)
    return all(_holds(condition, parameters.get(condition.name)) for condition in match.query)


def wildcards(host: str) -> Iterator[str]:
    """The wildcards that match `host`, the most specific first: *.example.com, *.com."""
    rest = host.partition(".")[2]
    while rest:
        yield f"*.{rest}"
        rest = rest.partition(".")[2]


def routes_at(listener: Listener, host: str) -> Iterator[tuple[Route, ...]]:
    """The routes of each host of the listener that matches, the most specific first."""
    routes = listener.routes
    if host in routes:
        yield routes[host]
    if len(routes) > 1 or "" not in routes:
        for pattern in wildcards(host):
            if pattern in routes:
                yield routes[pattern]
            if listener.one_label:
                break
    if host and "" in routes:
        yield routes[""]


def covers(pattern: str, host: str) -> bool:
    """Whether a listener's host, which may be a wildcard or "", matches a request's."""
    return not pattern or pattern == host or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def choose_listener(listeners: Iterable[Listener], host: str) -> Listener | None:
    """The one with the most specific host (a request is never of two: listeners are isolated)."""
    fitting = [each for each in listeners if covers(each.host, host)]
    return max(fitting, key=lambda each: specificity(each.host), default=None)


def specificity(pattern: str) -> tuple[bool, int]:
    """Names before wildcards, the longer before the shorter."""
    return bool(pattern) and not pattern.startswith("*."), len(pattern)


def find(listener: Listener, host: str, method: str, path: str, headers: Mapping[str, str], query: str) -> Route | None:
    """The route of a request at a listener. Ingresses' hosts are apart from each other; an HTTPRoute's wildcard gets
    what no rule of a more specific host takes."""
    for routes in routes_at(listener, host):
        for route in routes:
            if matches(route.match, method, path, headers, query):
                return route
        if listener.one_label:
            return None
    return None
