"""Ingresses -> routes by host, the certificates of their hosts, and what is wrong with them. Pure.

Of two Ingresses that claim the same host and path the older one has it. Sources: the API reference of Ingress,
"Ingress path types"; ingress-nginx' documentation for what annotations mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tiphys.client.types import Object
from tiphys.gateway import patterns
from tiphys.gateway.ingress import nginx
from tiphys.gateway.ingress.nginx import Options, Secrets
from tiphys.gateway.matching import by_precedence
from tiphys.gateway.model import (
    ANY_PATH,
    NO_FILTERS,
    BackendKey,
    Canary,
    Filters,
    Match,
    PathKind,
    PathMatch,
    Redirect,
    Rewrite,
    Route,
    Target,
)

SecretKey = tuple[str, str]
Why = Callable[[BackendKey], str]
"""Why a Service's port cannot be a backend; "" when it can."""


@dataclass(slots=True)
class Compiled:
    """The routes of all Ingresses."""

    routes: dict[str, list[Route]] = field(default_factory=dict)
    certificates: dict[str, SecretKey] = field(default_factory=dict)
    """By host; "" are all names that are in the certificates of `nameless`."""
    nameless: list[SecretKey] = field(default_factory=list)
    problems: list[tuple[Object, str, str]] = field(default_factory=list)
    """(Ingress, reason, message) for events."""

    def sorted(self) -> Mapping[str, tuple[Route, ...]]:
        return {host: by_precedence(routes) for host, routes in self.routes.items()}


def age(obj: Object) -> tuple[str, str, str]:
    """The older object comes first; of the same second, the one first by name."""
    metadata = obj["metadata"]
    return metadata.get("creationTimestamp") or "", metadata.get("namespace") or "", metadata["name"]


def compile_ingresses(ingresses: Iterable[Object], secrets: Secrets, why: Why) -> Compiled:
    """All of ours, canaries joined to what they vary."""
    compiled = Compiled()
    canaries: list[tuple[Object, Options]] = []
    for ingress in sorted(ingresses, key=age):
        with alone(ingress, compiled.problems):
            options = nginx.read(ingress, secrets)
            compiled.problems += [(ingress, "UnsupportedAnnotation", problem) for problem in options.problems]
            _certificates(compiled, ingress)
            if options.canary is not None:
                canaries.append((ingress, options))
                continue
            for host, route in _routes(compiled, ingress, options, why):
                _add(compiled, ingress, host, route)
    for ingress, options in canaries:
        with alone(ingress, compiled.problems):
            _join(compiled, ingress, options, why)
    return compiled


@contextlib.contextmanager
def alone(obj: Object, problems: list[tuple[Object, str, str]]) -> Iterator[None]:
    """An object that is not as it should be (definitions can be replaced, values can be anything) must not keep others
    from being served."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        problems.append((obj, "Malformed", f"it is left out: {type(error).__name__} {error}"))


def _add(compiled: Compiled, ingress: Object, host: str, route: Route) -> None:
    others = compiled.routes.setdefault(host, [])
    same = next((one for one in others if _same(one, route)), None)
    if same is None or route.order[0]:
        others.append(route)
    else:
        message = f"{host or '*'}{route.match.path.value} is served by {same.source} already"
        compiled.problems.append((ingress, "Conflict", message))


def _same(one: Route, other: Route) -> bool:
    a, b = one.match.path, other.match.path
    return a.kind is b.kind and a.value == b.value and not one.order[0]


def _certificates(compiled: Compiled, ingress: Object) -> None:
    namespace = ingress["metadata"]["namespace"]
    for entry in (ingress.get("spec") or {}).get("tls") or ():
        if not entry.get("secretName"):
            continue
        key = namespace, entry["secretName"]
        for host in entry.get("hosts") or ():
            compiled.certificates.setdefault(host, key)
        if not entry.get("hosts"):
            compiled.nameless.append(key)


def _routes(compiled: Compiled, ingress: Object, options: Options, why: Why) -> Iterator[tuple[str, Route]]:
    spec = ingress.get("spec") or {}
    tls = {host for entry in spec.get("tls") or () for host in entry.get("hosts") or ()}
    everything = any(not entry.get("hosts") for entry in spec.get("tls") or ())
    hosts = []
    for rule in spec.get("rules") or ():
        host = rule.get("host") or ""
        hosts.append(host)
        secure = host in tls or everything or f"*.{host.partition('.')[2]}" in tls
        for path in (rule.get("http") or {}).get("paths") or ():
            route = _route(compiled, ingress, options, path, why, secure=secure)
            if route is not None:
                yield host, route
    if spec.get("defaultBackend"):
        for host in dict.fromkeys(hosts) if hosts else ("",):
            target = _target(compiled, ingress, options, spec["defaultBackend"], why)
            policy = _policy(options, host in tls or everything)
            order = (True, *age(ingress))
            yield host, Route(
                Match(ANY_PATH), (target,), policy=policy, filters=_filters(options, None), source=source(ingress),
                order=order,
            )  # fmt: skip


def source(ingress: Object) -> str:
    return f"ingress {ingress['metadata']['namespace']}/{ingress['metadata']['name']}"


def _route(
    compiled: Compiled, ingress: Object, options: Options, path: Mapping[str, Any], why: Why, *, secure: bool
) -> Route | None:
    value = path.get("path") or "/"
    try:
        match, rewrite = _path(value, path.get("pathType"), options)
    except patterns.BadPattern as error:
        compiled.problems.append((ingress, "InvalidPath", f"path {value!r} is left out: {error}"))
        return None
    redirect = None
    if options.redirect is not None:
        redirect = Redirect(options.redirect[0], url=options.redirect[1])
    return Route(
        Match(match),
        (_target(compiled, ingress, options, path["backend"], why),),
        redirect=redirect,
        filters=_filters(options, rewrite),
        policy=_policy(options, secure),
        source=source(ingress),
        order=(False, *age(ingress)),
    )


def _path(value: str, kind: str | None, options: Options) -> tuple[PathMatch, Rewrite | None]:
    """Raises BadPattern."""
    rewrite = Rewrite(full_path=options.rewrite) if options.rewrite else None
    if kind == "Exact":
        return PathMatch(PathKind.EXACT, value), rewrite
    if options.regex or (options.rewrite and "$" in options.rewrite):
        match = PathMatch(PathKind.REGEX, value, patterns.location(value))
        return match, Rewrite(template=patterns.template(value, options.rewrite)) if rewrite else None
    return PathMatch(PathKind.PREFIX, value), rewrite


def _filters(options: Options, rewrite: Rewrite | None) -> Filters:
    if options.upstream_host:
        rewrite = replace(rewrite or Rewrite(), host=options.upstream_host)
    return Filters(rewrite=rewrite) if rewrite is not None else NO_FILTERS


def _policy(options: Options, secure: bool) -> Any:
    https = options.force_ssl_redirect or (secure and options.ssl_redirect)
    return replace(options.policy, https_only=308) if https else options.policy


def _target(compiled: Compiled, ingress: Object, options: Options, backend: Mapping[str, Any], why: Why) -> Target:
    service = backend.get("service")
    if service is None:
        resource = backend.get("resource") or {}
        message = f"resource backends ({resource.get('kind')} {resource.get('name')}) are not supported"
        compiled.problems.append((ingress, "UnsupportedBackend", message))
        return Target(None, status=503)
    if options.closed:
        return Target(None, status=503)
    port = service.get("port") or {}
    key = ingress["metadata"]["namespace"], service["name"], str(port.get("name") or port.get("number") or "")
    if reason := why(key):
        compiled.problems.append((ingress, "BackendNotFound", reason))
        return Target(None, status=503)
    return Target(key, tls=options.tls_backend)


def _join(compiled: Compiled, ingress: Object, options: Options, why: Why) -> None:
    """A canary changes routes of the same host and path that others made."""
    canary = options.canary or {}
    for host, route in _routes(compiled, ingress, options, why):
        others = compiled.routes.get(host, [])
        place = next((number for number, one in enumerate(others) if _same(one, route)), None)
        if place is None:
            message = f"{host or '*'}{route.match.path.value} is no canary of anything: no other Ingress has it"
            compiled.problems.append((ingress, "CanaryAlone", message))
            continue
        try:
            others[place] = replace(others[place], canary=_canary(canary, route.targets))
        except ValueError as error:
            compiled.problems.append((ingress, "InvalidCanary", str(error)))


def _canary(values: Mapping[str, str], targets: tuple[Target, ...]) -> Canary:
    """Raises ValueError."""
    pattern = values.get("canary-by-header-pattern", "")
    return Canary(
        targets,
        header=values.get("canary-by-header", ""),
        header_value=values.get("canary-by-header-value", ""),
        header_test=patterns.tester(pattern) if pattern else None,
        cookie=values.get("canary-by-cookie", ""),
        weight=int(values.get("canary-weight", "0")),
        total=max(1, int(values.get("canary-weight-total", "100"))),
    )
