"""Pages seen through a proxy subresource: links to the page's own server are made to lead through the proxy, too.

Only what names a path from the root is changed, in Location headers and in the attributes of HTML that hold URLs.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from html import escape, unescape
from posixpath import normpath
from urllib.parse import urlsplit, urlunsplit

from tiphys.base.http.types import Response

MAX_PAGE = 8 * 1024 * 1024
"""Bytes of a page, unpacked, up to which its links are looked at."""
_URLS = {
    "href": "a area base link",
    "src": "audio frame iframe img input script source video embed",
    "cite": "blockquote del ins q",
    "action": "form",
    "formaction": "button input",
    "longdesc": "frame iframe img",
    "usemap": "img input object",
    "codebase": "applet object",
    "background": "body",
    "icon": "command",
    "profile": "head",
    "manifest": "html",
    "classid": "object",
    "data": "object",
    "poster": "video",
}
URLS = frozenset((tag, attribute) for attribute, tags in _URLS.items() for tag in tags.split())
"""(tag, attribute) that hold a URL, from HTML's index of attributes."""
_TAG = re.compile(r"<(?:!--|([A-Za-z][^\s/>]*))")
_ATTRIBUTE = re.compile(r"""[\s/]*([^\s/>=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>][^\s>]*))?""")
_RAW = frozenset(("script", "style", "textarea", "title"))
"""What is between these tags is text, whatever it looks like."""

Rewrite = Callable[[str], str]


def through(prefix: str, hosts: tuple[str, ...]) -> Rewrite:
    """How a URL is written on a page below `prefix`, of a server that is called by any of `hosts`."""

    def rewrite(text: str) -> str:
        try:
            url = urlsplit(text)
        except ValueError:
            return text
        if (url.netloc and url.netloc not in hosts) or not url.path.startswith("/"):
            return text
        path = url.path if url.path.startswith(prefix) else _below(prefix, url.path)
        return urlunsplit(("", "", path, url.query, url.fragment))

    return rewrite


def _below(prefix: str, path: str) -> str:
    joined = normpath(f"{prefix}/{path}".replace("//", "/"))
    return f"{joined}/" if path.endswith("/") else joined


def linked(page: str, rewrite: Rewrite) -> str:
    """The page with its links rewritten; everything else as it was."""
    return "".join(_pieces(page, rewrite))


def _pieces(page: str, rewrite: Rewrite) -> Iterator[str]:
    position = 0
    while found := _TAG.search(page, position):
        yield page[position : found.end()]
        position = found.end()
        name = (found[1] or "").lower()
        if not name:
            position = yield from _until(page, position, "-->")
            continue
        position = yield from _attributes(page, position, name, rewrite)
        if name in _RAW:
            position = yield from _until(page, position, f"</{name}")
    yield page[position:]


def _until(page: str, position: int, end: str) -> Generator[str, None, int]:
    found = re.compile(re.escape(end), re.IGNORECASE).search(page, position)
    stop = found.start() if found else len(page)
    yield page[position:stop]
    return stop


def _attributes(page: str, position: int, tag: str, rewrite: Rewrite) -> Generator[str, None, int]:
    while found := _ATTRIBUTE.match(page, position):
        name, value = found[1].lower(), found[2]
        if value is None or (tag, name) not in URLS:
            yield found[0]
        else:
            yield page[found.start() : found.start(2)] + _value(value, rewrite)
        position = found.end()
    return position


def _value(value: str, rewrite: Rewrite) -> str:
    bare = unescape(value[1:-1] if value[0] in "\"'" else value)
    changed = rewrite(bare)
    return value if changed == bare else f'"{escape(changed)}"'


async def relinked(response: Response, rewrite: Rewrite) -> Response:
    """An answer that came through a proxy, with its Location or the links of its page rewritten."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    if location := headers.get("location"):
        response.headers = {**headers, "location": rewrite(location)}
        return response
    kind = headers.get("content-type", "").partition(";")[0].strip()
    packing = headers.get("content-encoding", "")
    if kind != "text/html" or packing not in ("", "gzip", "deflate") or response.stream is None:
        return response
    chunks = response.stream
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_PAGE:
            response.stream = _rest(body, chunks)
            return response
    page = body if not packing else _unpacked(body)
    if page is None:
        return Response(response.status, response.headers, body)
    kept = {name: value for name, value in headers.items() if name not in ("content-encoding", "content-length")}
    text = linked(page.decode("utf-8", "surrogateescape"), rewrite)
    return Response(response.status, kept, text.encode("utf-8", "surrogateescape"))


async def _rest(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in chunks:
        yield chunk


def _unpacked(body: bytes) -> bytes | None:
    """None when it is too large or not what it says."""
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib; deflate as many servers mean it
        unpacker = zlib.decompressobj(window)
        try:
            page = unpacker.decompress(body, MAX_PAGE)
        except zlib.error:
            continue
        return page if unpacker.eof else None
    return None
