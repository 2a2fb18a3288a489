"""An HTTPRoute's rules -> routes of the proxy, and what could not be resolved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tiphys.client.types import Object
from tiphys.gateway import endpoints, patterns
from tiphys.gateway.gatewayapi import filters
from tiphys.gateway.gatewayapi.grants import permitted
from tiphys.gateway.model import Condition, Filters, Match, PathKind, PathMatch, Policy, Route, Target

_KINDS = {"Exact": PathKind.EXACT, "PathPrefix": PathKind.PREFIX, "RegularExpression": PathKind.REGEX}
_DURATION = re.compile(r"([0-9]+)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_UNSUPPORTED_PROTOCOLS = ("kubernetes.io/h2c", "kubernetes.io/wss")
Services = Callable[[str, str], Object | None]


@dataclass(slots=True)
class RouteRules:
    """Of one HTTPRoute."""

    routes: list[Route] = field(default_factory=list)
    refs: tuple[str, str] = ("", "")
    """Reason and message of the first reference that is not resolved."""
    refused: str = ""
    """Why the route as a whole is not accepted."""

    def unresolved(self, reason: str, message: str) -> None:
        if not self.refs[0]:
            self.refs = reason, message


def compile_route(route: Object, services: Services, grants: Sequence[Object]) -> RouteRules:
    """All rules of a route."""
    found = RouteRules()
    metadata = route["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    compiler = _Compiler(found, metadata["namespace"], services, grants)
    for number, rule in enumerate((route.get("spec") or {}).get("rules") or ()):
        try:
            made = compiler.rule(rule)
        except ValueError as error:
            found.refused = f"rule {number}: {error}"
            continue
        for place, match in enumerate(rule.get("matches") or ({},)):
            try:
                matched = _match(match)
            except patterns.BadPattern as error:
                found.refused = f"rule {number}: {error}"
                continue
            order = metadata.get("creationTimestamp") or "", name, number, place
            found.routes.append(replace(made, match=matched, source=f"httproute {name}", order=order))
    return found


@dataclass(slots=True)
class _Compiler:
    found: RouteRules
    namespace: str
    services: Services
    grants: Sequence[Object]

    def rule(self, rule: Mapping[str, Any]) -> Route:
        """But for its match."""
        read = filters.read(rule.get("filters") or (), self.target)
        targets = tuple(self._backend(ref) for ref in rule.get("backendRefs") or ())
        if read.unsupported:
            self.found.unresolved("InvalidKind", read.unsupported)
            targets, read.redirect = (Target(None),), None
        policy = replace(_timeouts(rule.get("timeouts") or {}), cors=read.cors)
        return Route(_ANY, targets, read.redirect, read.filters, policy)

    def _backend(self, ref: Mapping[str, Any]) -> Target:
        read = filters.read(ref.get("filters") or (), self.target)
        target = replace(self.target(ref), weight=int(ref.get("weight", 1)), filters=read.filters)
        if read.unsupported or read.redirect is not None:
            self.found.unresolved("InvalidKind", read.unsupported or "a backend's own redirect is not supported")
            return replace(target, key=None, filters=Filters())
        return target

    def target(self, ref: Mapping[str, Any]) -> Target:
        """Of a reference; one without a key, which answers 500, when it leads nowhere."""
        kind = ref.get("group") or "", ref.get("kind", "Service")
        namespace, name = ref.get("namespace") or self.namespace, ref["name"]
        what = f"{kind[1]} {namespace}/{name}"
        if kind != ("", "Service"):
            self.found.unresolved("InvalidKind", f"{what}: only Services can be backends")
        elif not permitted("HTTPRoute", self.namespace, ("", "Service", namespace, name), self.grants):
            self.found.unresolved("RefNotPermitted", f"{what} may not be used here: no ReferenceGrant allows it")
        else:
            return self._service(namespace, name, str(ref.get("port") or ""))
        return Target(None)

    def _service(self, namespace: str, name: str, port: str) -> Target:
        try:
            entry = endpoints.service_port(self.services(namespace, name), port, name)
        except endpoints.NoBackend as error:
            self.found.unresolved(error.reason, str(error))
            return Target(None)
        protocol = entry.get("appProtocol")
        if protocol in _UNSUPPORTED_PROTOCOLS:
            self.found.unresolved("UnsupportedProtocol", f"service {name!r}: {protocol} is not supported")
            return Target(None)
        return Target((namespace, name, port))


_ANY = Match(PathMatch(PathKind.PREFIX, "/"))


def _match(match: Mapping[str, Any]) -> Match:
    """Raises BadPattern."""
    path = match.get("path") or {}
    kind, value = _KINDS[path.get("type", "PathPrefix")], path.get("value", "/")
    return Match(
        PathMatch(kind, value, patterns.tester(value) if kind is PathKind.REGEX else None),
        match.get("method") or "",
        tuple(_conditions(match.get("headers") or (), lower=True)),
        tuple(_conditions(match.get("queryParams") or (), lower=False)),
    )


def _conditions(entries: Iterable[Mapping[str, Any]], *, lower: bool) -> Iterator[Condition]:
    """The first of several for one name counts. Raises BadPattern."""
    seen = set()
    for one in entries:
        name = one["name"].lower() if lower else one["name"]
        if name in seen:
            continue
        seen.add(name)
        if one.get("type") == "RegularExpression":
            yield Condition(name, test=patterns.tester(one["value"]))
        else:
            yield Condition(name, one["value"])


def _timeouts(spec: Mapping[str, Any]) -> Policy:
    request, backend = (seconds(spec.get(name) or "") for name in ("request", "backendRequest"))
    quiet = 0.0 if request == 0 else Policy().read_timeout
    return Policy(read_timeout=quiet, request_timeout=request or 0.0, backend_timeout=backend or 0.0)


def seconds(duration: str) -> float | None:
    """A duration like 1m30s; None when there is none."""
    parts = _DURATION.findall(duration)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None
