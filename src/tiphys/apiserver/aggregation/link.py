"""The link of the chain that hands requests to the server that answers for their group and version.

Whoever asks is authenticated and authorized here; the other server is told by X-Remote-* headers, which it believes
because of our certificate. What a client sends by those names, and its credentials, never get there.
"""

from __future__ import annotations

import ssl
import string
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import orjson

from tiphys.apiserver.aggregation.extension import Extension
from tiphys.apiserver.aggregation.remotes import Remote, Remotes
from tiphys.apiserver.kubelets import HOP_BY_HOP, Relay, onward_headers, splice, wants_upgrade
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import ApiError
from tiphys.base.http.client import HttpClient, Streamed
from tiphys.base.http.types import Duplex, Handler, Request, Response
from tiphys.base.identity import ANONYMOUS, User

PREFIX = "x-remote-"
HEAD_SECONDS = 60.0
"""How long a server may take to begin its answer."""
TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
Fields = Mapping[str, str | tuple[str, ...]]


def aggregate(remotes: Remotes, extensions: Sequence[Extension] = ()) -> Callable[[Handler], Handler]:
    """The link; `extensions` answer in this process for what no other server does."""

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            info: RequestInfo = request.attributes["info"]
            remote = remotes.of(info)
            if remote is not None:
                return await _forward(request, remotes, remote)
            local = next((one for one in extensions if one.answers(info)), None)
            return await (handler if local is None else local.handler)(request)

        return link

    return middleware


async def _forward(request: Request, remotes: Remotes, remote: Remote) -> Response:
    if not remote.available:
        return _unavailable("service unavailable")
    try:
        client = await remotes.client(remote)
        if wants_upgrade(request):
            return await _upgrade(client, request)
        return await _exchange(client, request)
    except ApiError:
        return _unavailable("service unavailable")
    except (OSError, ssl.SSLError) as error:
        return _unavailable(f"error trying to reach service: {error or type(error).__name__}")


def _unavailable(text: str) -> Response:
    return Response(503, dict(TEXT), text.encode() + b"\n")


def identity(user: User) -> dict[str, str | tuple[str, ...]]:
    """The headers that say who asks."""
    headers: dict[str, str | tuple[str, ...]] = {"X-Remote-User": _field(user.name)}
    if user.uid:
        headers["X-Remote-Uid"] = _field(user.uid)
    if user.groups:
        headers["X-Remote-Group"] = tuple(map(_field, user.groups))
    for key, values in user.extra.items():
        headers[f"X-Remote-Extra-{quote(key, safe='')}"] = tuple(map(_field, values))
    return headers


def _field(text: str) -> str:
    """A text as a header's value: UTF-8, and on one line, as Go sends it."""
    return text.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace").decode("latin-1")


def _headers(request: Request) -> Fields:
    theirs = {name: value for name, value in onward_headers(request).items() if not name.startswith(PREFIX)}
    return {**theirs, **identity(request.user or ANONYMOUS)}


def _url(request: Request) -> str:
    path = (request.raw_path or quote(request.path)).partition("?")[0]
    url = f"{path}?{request.query_string}" if request.query_string else path
    return url if url.isascii() else quote(url, safe=string.punctuation, encoding="latin-1")


async def _exchange(client: HttpClient, request: Request) -> Response:
    stack = AsyncExitStack()
    context = client.stream(
        request.method, _url(request), headers=_headers(request), body=_body(request), timeout=HEAD_SECONDS
    )
    streamed = await stack.enter_async_context(context)
    kept = {name: value for name, value in streamed.headers.items() if name not in HOP_BY_HOP}
    if request.local:
        return await _local(request, streamed, stack)
    return Response(streamed.status, kept, stream=Relay(streamed.chunks, stack))


def _body(request: Request) -> bytes:
    return request.body if request.obj is None else orjson.dumps(request.obj)


async def _local(request: Request, streamed: Streamed, stack: AsyncExitStack) -> Response:
    """The answer decoded, for callers in this process."""
    relay = Relay(streamed.chunks, stack)
    if streamed.status == 200 and request.attributes["info"].verb == "watch":
        return Response(200, events=_events(relay))
    body = b"".join([chunk async for chunk in relay])
    await relay.aclose()
    if "json" in streamed.headers.get("content-type", ""):
        return Response(streamed.status, obj=orjson.loads(body))
    return Response(streamed.status, dict(TEXT), body)


async def _events(chunks: Relay) -> AsyncIterator[Mapping[str, Any]]:
    rest = b""
    try:
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield orjson.loads(line)
    finally:
        await chunks.aclose()


async def _upgrade(client: HttpClient, request: Request) -> Response:
    headers = {**_headers(request), "upgrade": request.headers["upgrade"]}
    answer, far = await client.upgrade(request.method, _url(request), headers, body=request.body, timeout=HEAD_SECONDS)
    shown = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
    if far is None:
        return Response(answer.status, shown, answer.body)

    async def pump(near: Duplex) -> None:
        await splice(near, far)

    return Response(101, {**shown, "Connection": "Upgrade", "Upgrade": answer.headers.get("upgrade", "")}, upgrade=pump)
