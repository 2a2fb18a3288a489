"""Links of pages that are seen through a proxy subresource."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from tiphys.apiserver.pages import MAX_PAGE, linked, relinked, through
from tiphys.base.http.types import Response

PREFIX = "/api/v1/namespaces/ns/pods/p/proxy"
rewrite = through(PREFIX, ("10.1.2.3:80", "localhost:8001"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/rewriteme", f"{PREFIX}/rewriteme"),
        ("/dir/?a=b#c", f"{PREFIX}/dir/?a=b#c"),
        ("/", f"{PREFIX}/"),
        ("/a/../b", f"{PREFIX}/b"),
        ("relative", "relative"),
        ("", ""),
        ("#top", "#top"),
        ("http://10.1.2.3:80/x", f"{PREFIX}/x"),
        ("https://localhost:8001/x", f"{PREFIX}/x"),
        ("http://elsewhere/x", "http://elsewhere/x"),
        (f"{PREFIX}/already", f"{PREFIX}/already"),
        ("mailto:a@b", "mailto:a@b"),
        ("http://[broken", "http://[broken"),
    ],
)
def test_a_path_from_the_root_leads_through_the_proxy(url: str, expected: str) -> None:
    assert rewrite(url) == expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<a href="/x">t</a>', f'<a href="{PREFIX}/x">t</a>'),
        ("<A HREF='/x' class=b>t</A>", f'<A HREF="{PREFIX}/x" class=b>t</A>'),
        ("<img src=/x.png alt='>'>", f"<img src=\"{PREFIX}/x.png\" alt='>'>"),
        ('<link rel=icon href = "/i"/>', f'<link rel=icon href = "{PREFIX}/i"/>'),
        ('<a href="/x?a=1&amp;b=2">', f'<a href="{PREFIX}/x?a=1&amp;b=2">'),
        ('<a href="/x"><img src="/y"></a>', f'<a href="{PREFIX}/x"><img src="{PREFIX}/y"></a>'),
        ('<script src="/s.js">if (a < b) x = "<a href=\\"/n\\">"</script>', None),
        ('<!-- <a href="/no"> --><b title="/no">', '<!-- <a href="/no"> --><b title="/no">'),
        ("<style><a href='/no'></style>", "<style><a href='/no'></style>"),
        ('<a href="/unclosed', '<a href="/unclosed'),
        ("1 < 2 <3 </a href='/no'> <", "1 < 2 <3 </a href='/no'> <"),
    ],
)
def test_only_attributes_that_hold_urls_are_changed(page: str, expected: str | None) -> None:
    wanted = expected or page.replace('"/s.js"', f'"{PREFIX}/s.js"')
    assert linked(page, rewrite) == wanted


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ['<a "', "<a b='", "<a ", "<", "<!--", "<script>", "<a href=", '<a href="/x">'])
def test_hostile_pages_take_time_in_proportion_to_their_length(piece: str) -> None:
    linked(piece * 50_000, rewrite)


def answered(headers: dict[str, str], *chunks: bytes) -> Response:
    async def main() -> Response:
        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        response = await relinked(Response(200, headers, stream=stream()), rewrite)
        if response.stream is not None:
            response.body = b"".join([chunk async for chunk in response.stream])
        return response

    return asyncio.run(main())


PAGE, THROUGH = b'<a href="/x">\xff</a>', f'<a href="{PREFIX}/x">'.encode() + b"\xff</a>"


@pytest.mark.parametrize(
    ("packing", "body"),
    [
        ("", PAGE),
        ("gzip", gzip.compress(PAGE)),
        ("deflate", zlib.compress(PAGE)),
        ("deflate", zlib.compress(PAGE)[2:-4]),
    ],
)
def test_pages_are_rewritten_however_they_are_packed(packing: str, body: bytes) -> None:
    headers = {"content-type": "text/html; charset=utf-8", "content-length": str(len(body))}
    if packing:
        headers["content-encoding"] = packing
    response = answered(headers, body[:3], body[3:])
    assert response.body == THROUGH
    assert set(response.headers) == {"content-type"}


def test_what_is_no_page_passes_as_it_is() -> None:
    assert answered({"content-type": "application/json"}, PAGE).body == PAGE
    assert answered({"content-type": "text/html", "content-encoding": "br"}, PAGE).body == PAGE
    assert answered({"content-type": "text/html", "content-encoding": "gzip"}, PAGE).body == PAGE


def test_a_page_that_is_too_large_or_unpacks_to_too_much_passes_as_it_is() -> None:
    large = PAGE + b" " * MAX_PAGE
    assert answered({"content-type": "text/html"}, large, PAGE).body == large + PAGE
    packed = gzip.compress(large)
    assert answered({"content-type": "text/html", "content-encoding": "gzip"}, packed).body == packed


def test_redirects_lead_through_the_proxy() -> None:
    assert answered({"Location": "/login?next=/"}).headers["location"] == f"{PREFIX}/login?next=/"
    assert answered({"Location": "http://elsewhere/"}).headers["location"] == "http://elsewhere/"
