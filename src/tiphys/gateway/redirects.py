"""Other addresses: where clients are sent, what backends are asked for instead; and the fields of CORS. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.gateway.model import Cors, PathKind, PathMatch, Redirect, Rewrite
from tiphys.gateway.patterns import encoded
from tiphys.gateway.proxy.forwarding import Client
from tiphys.gateway.proxy.heads import RequestHead

_DEFAULT_PORTS = {"http": 80, "https": 443}


def location(redirect: Redirect, match: PathMatch, head: RequestHead, client: Client, path: str) -> tuple[int, str]:
    """(status, Location). The port of the listener stays unless the scheme changes (HTTPRoute's rules)."""
    if redirect.url:
        return redirect.status, redirect.url
    own = "https" if client.tls else "http"
    scheme = redirect.scheme or own
    port = redirect.port or (_DEFAULT_PORTS.get(scheme, 0) if redirect.scheme else client.port)
    target = head.target
    if redirect.rewrite is not None:
        changed = rewritten(redirect.rewrite, match, path, head.path)
        target = (changed or "/") + (f"?{head.query}" if "?" in head.target else "")
    host = redirect.host or head.hostname
    suffix = "" if port == _DEFAULT_PORTS.get(scheme) else f":{port}"
    return redirect.status, f"{scheme}://{host}{suffix}{target}"


def absolute(path: str, head: RequestHead, client: Client) -> str:
    """A path of this site as a URL."""
    if "://" in path:
        return path
    return f"{'https' if client.tls else 'http'}://{head.host}{path}"


def rewritten(rewrite: Rewrite, match: PathMatch, path: str, raw: str) -> str | None:
    """The new path; "" when it stays, None when the rule does not fit after all. `raw` is the path as it came."""
    if rewrite.template is not None:
        return rewrite.template(path)
    if rewrite.full_path is not None:
        return rewrite.full_path or "/"
    if rewrite.prefix_path is None or match.kind is not PathKind.PREFIX:
        return ""
    prefix = match.value.rstrip("/")
    # What the client encoded stays so, where the matched prefix can be found in the path as it came.
    rest = (raw[len(prefix) :] if raw.startswith(prefix) else encoded(path[len(prefix) :])).lstrip("/")
    new = rewrite.prefix_path.rstrip("/")
    if not rest:
        return (new or "/") if path == prefix or not new else new + ("/" if path.endswith("/") else "")
    return f"{new}/{rest}"


def is_preflight(head: RequestHead) -> bool:
    return head.method == "OPTIONS" and "origin" in head.headers and "access-control-request-method" in head.headers


def cors_fields(cors: Cors, head: RequestHead) -> Iterator[tuple[str, str]]:
    """What lets a page of another site read the answer; nothing for sites that may not."""
    origin = head.headers.get("origin", "")
    everybody = cors.origins == ("*",)
    if not origin or not (everybody or any(_is_origin(each, origin) for each in cors.origins)):
        return
    yield "Access-Control-Allow-Origin", "*" if everybody and not cors.credentials else origin
    if not everybody or cors.credentials:
        yield "Vary", "Origin"
    if cors.credentials:
        yield "Access-Control-Allow-Credentials", "true"
    if cors.expose:
        yield "Access-Control-Expose-Headers", cors.expose


def preflight_fields(cors: Cors, head: RequestHead) -> Iterator[tuple[str, str]]:
    common = list(cors_fields(cors, head))
    if not common:
        return
    yield from common
    yield "Access-Control-Allow-Methods", cors.methods
    yield "Access-Control-Allow-Headers", cors.headers
    yield "Access-Control-Max-Age", str(cors.max_age)


def _is_origin(allowed: str, origin: str) -> bool:
    """Equal, or with `*.` a name below: https://*.example.com."""
    if allowed == "*" or allowed == origin:
        return True
    before, star, after = allowed.partition("*")
    if not star or not origin.startswith(before) or not origin.endswith(after):
        return False
    middle = origin[len(before) : len(origin) - len(after)]
    return bool(middle) and "/" not in middle and len(origin) >= len(before) + len(after)
