"""Filters of HTTPRoutes -> what the proxy changes on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.gateway.model import Cors, Filters, HeaderChanges, Mirror, Pairs, Redirect, Rewrite, Target

_WORD = re.compile(r"[\x21-\x7e]*")
_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
Ref = Mapping[str, Any]
Resolve = Callable[[Ref], Target]


@dataclass(slots=True)
class Read:
    """What the filters of a rule or a backend say."""

    filters: Filters = field(default_factory=Filters)
    redirect: Redirect | None = None
    cors: Cors | None = None
    unsupported: str = ""
    """A filter that nobody here knows: requests must not pass without it."""


def read(filters: Iterable[Mapping[str, Any]], resolve: Resolve) -> Read:
    """`resolve` makes targets of backendRefs."""
    found = Read()
    request = response = HeaderChanges()
    rewrite: Rewrite | None = None
    mirrors: list[Mirror] = []
    for one in filters:
        kind = one.get("type")
        if kind == "RequestHeaderModifier":
            request = changes(one["requestHeaderModifier"])
        elif kind == "ResponseHeaderModifier":
            response = changes(one["responseHeaderModifier"])
        elif kind == "URLRewrite":
            spec = one["urlRewrite"]
            rewrite = _rewrite(spec.get("path"), spec.get("hostname") or "")
        elif kind == "RequestRedirect":
            found.redirect = _redirect(one["requestRedirect"])
        elif kind == "RequestMirror":
            mirror = _mirror(one["requestMirror"], resolve)
            mirrors += [mirror] if mirror.target.key is not None else []
        elif kind == "CORS":
            found.cors = _cors(one["cors"])
        else:
            ref = one.get("extensionRef") or {}
            found.unsupported = f"filter {kind} ({ref.get('kind')} {ref.get('name')}) is not supported"
    found.filters = Filters(request, response, rewrite, tuple(mirrors))
    return found


def changes(spec: Mapping[str, Any]) -> HeaderChanges:
    def pairs(name: str) -> Pairs:
        return tuple((_safe(one["name"]), _safe(one["value"], blanks=True)) for one in spec.get(name) or ())

    return HeaderChanges(pairs("set"), pairs("add"), tuple(spec.get("remove") or ()))


def _safe(value: str, *, blanks: bool = False) -> str:
    """Raises ValueError for what would break out of the line that it becomes a part of."""
    if not (_LINE if blanks else _WORD).fullmatch(value):
        raise ValueError(f"{value!r} has characters that cannot be sent")
    return value


def _rewrite(path: Mapping[str, Any] | None, host: str) -> Rewrite:
    host = _safe(host)
    if path is None:
        return Rewrite(host)
    if path["type"] == "ReplaceFullPath":
        return Rewrite(host, full_path=_safe(path.get("replaceFullPath") or "/"))
    return Rewrite(host, prefix_path=_safe(path.get("replacePrefixMatch") or ""))


def _redirect(spec: Mapping[str, Any]) -> Redirect:
    path = spec.get("path")
    return Redirect(
        int(spec.get("statusCode") or 302),
        scheme=_safe(spec.get("scheme") or ""),
        host=_safe(spec.get("hostname") or ""),
        port=int(spec.get("port") or 0),
        rewrite=_rewrite(path, "") if path is not None else None,
    )


def _mirror(spec: Mapping[str, Any], resolve: Resolve) -> Mirror:
    fraction = 1.0
    if spec.get("percent") is not None:
        fraction = spec["percent"] / 100
    elif spec.get("fraction") is not None:
        fraction = spec["fraction"]["numerator"] / (spec["fraction"].get("denominator") or 100)
    return Mirror(resolve(spec["backendRef"]), fraction)


def _cors(spec: Mapping[str, Any]) -> Cors:
    return Cors(
        origins=tuple(spec.get("allowOrigins") or ()),
        methods=_safe(", ".join(spec.get("allowMethods") or ()), blanks=True),
        headers=_safe(", ".join(spec.get("allowHeaders") or ()), blanks=True),
        expose=_safe(", ".join(spec.get("exposeHeaders") or ()), blanks=True),
        credentials=bool(spec.get("allowCredentials")),
        max_age=int(spec.get("maxAge") or 5),
    )
