"""Which route a request takes: hosts, paths, headers, precedence; and how paths and addresses are rewritten."""

from __future__ import annotations

import pytest

from tiphys.gateway import patterns, redirects
from tiphys.gateway.matching import by_precedence, choose_listener, find, normalized, path_matches
from tiphys.gateway.model import Condition, Cors, Listener, Match, PathKind, PathMatch, Redirect, Rewrite, Route
from tiphys.gateway.proxy.forwarding import Client
from tiphys.gateway.proxy.heads import Malformed, RequestHead, parse_request

EXACT, PREFIX, REGEX = PathKind.EXACT, PathKind.PREFIX, PathKind.REGEX
CLIENT = Client("1.2.3.4", 80, tls=False)


@pytest.mark.parametrize(
    ("kind", "rule", "path", "expected"),
    [
        # the table of the API reference, "Ingress path types: examples"
        (PREFIX, "/", "/any/thing", True),
        (EXACT, "/foo", "/foo", True),
        (EXACT, "/foo", "/bar", False),
        (EXACT, "/foo", "/foo/", False),
        (EXACT, "/foo/", "/foo", False),
        (PREFIX, "/foo", "/foo", True),
        (PREFIX, "/foo", "/foo/", True),
        (PREFIX, "/foo/", "/foo", True),
        (PREFIX, "/foo/", "/foo/", True),
        (PREFIX, "/aaa/bb", "/aaa/bbb", False),
        (PREFIX, "/aaa/bbb", "/aaa/bbb", True),
        (PREFIX, "/aaa/bbb/", "/aaa/bbb", True),
        (PREFIX, "/aaa/bbb", "/aaa/bbb/", True),
        (PREFIX, "/aaa/bbb", "/aaa/bbb/ccc", True),
        (PREFIX, "/aaa/bbb", "/aaa/bbbxyz", False),
        (PREFIX, "/aaa", "/ccc", False),
    ],
)
def test_paths(kind: PathKind, rule: str, path: str, expected: bool) -> None:
    assert path_matches(PathMatch(kind, rule), path) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b", "/a/b"), ("/a%2Fb", "/a/b"), ("/a/../b", "/b"), ("/a/./b/", "/a/b/"), ("//a//b", "/a/b"), ("/a/..", "/"),
     ("/a/b/..", "/a/"), ("/%2e%2e/a", None), ("/..", None), ("/a%00", None), ("/.well-known/x", "/.well-known/x")],
)  # fmt: skip
def test_paths_are_compared_as_backends_may_read_them(path: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(Malformed):
            normalized(path)
    else:
        assert normalized(path) == expected


def route(kind: PathKind, value: str, name: str, **more: object) -> Route:
    return Route(Match(PathMatch(kind, value), **more), source=name, order=(name,))  # type: ignore[arg-type]  # a test's shorthand


def test_precedence_of_rules() -> None:
    ordered = [
        route(EXACT, "/a", "exact"),
        route(PREFIX, "/a/b", "longer"),
        route(PREFIX, "/a", "method and header", method="GET", headers=(Condition("x", "1"),)),
        route(PREFIX, "/a", "method", method="GET"),
        route(PREFIX, "/a", "two headers", headers=(Condition("x", "1"), Condition("y", "1"))),
        route(PREFIX, "/a", "header", headers=(Condition("x", "1"),)),
        route(PREFIX, "/a", "query", query=(Condition("q", "1"),)),
        route(PREFIX, "/a", "older"),
        route(PREFIX, "/a", "younger"),
        route(PREFIX, "/", "all"),
    ]
    assert [one.source for one in by_precedence(reversed(ordered))] == [one.source for one in ordered]


def found(listener: Listener, host: str, path: str = "/", method: str = "GET", query: str = "", **headers: str) -> str:
    route = find(listener, host, method, path, headers, query)
    return route.source if route is not None else ""


def test_hosts_of_ingresses_are_apart_and_their_wildcards_are_one_label() -> None:
    listener = Listener(
        80,
        routes={
            "a.example.com": (route(PREFIX, "/only", "exact"),),
            "*.example.com": (route(PREFIX, "/", "wild"),),
            "": (route(PREFIX, "/", "any"),),
        },
        one_label=True,
    )
    assert found(listener, "a.example.com", "/only/x") == "exact"
    assert found(listener, "a.example.com", "/other") == ""
    assert found(listener, "b.example.com") == "wild"
    assert found(listener, "c.b.example.com") == "any"
    assert found(listener, "example.com") == "any"


def test_hosts_of_httproutes_fall_back_to_wider_ones() -> None:
    listener = Listener(
        80,
        routes={
            "a.example.com": (route(PREFIX, "/only", "exact"),),
            "*.example.com": (route(PREFIX, "/", "wild"),),
            "*.com": (route(PREFIX, "/", "wider"),),
        },
    )
    assert found(listener, "a.example.com", "/other") == "wild"
    assert found(listener, "c.b.example.com") == "wild"
    assert found(listener, "example.com") == "wider"
    assert found(listener, "example.org") == ""


def test_headers_methods_and_parameters() -> None:
    matching = Listener(
        80,
        routes={
            "": by_precedence(
                [
                    route(PREFIX, "/", "both", headers=(Condition("version", "two"),), query=(Condition("q", "1"),)),
                    route(PREFIX, "/", "regex", headers=(Condition("color", test=patterns.tester("blu.*")),)),
                    route(PREFIX, "/", "post", method="POST"),
                    route(PREFIX, "/", "rest"),
                ]
            )
        },
    )
    assert found(matching, "x", query="q=1&q=2", version="two") == "both"
    assert found(matching, "x", query="q=2&q=1", version="two") == "rest"
    assert found(matching, "x", color="blue") == "regex"
    assert found(matching, "x", color="light blue") == "rest"
    assert found(matching, "x", method="POST") == "post"


def test_the_listener_with_the_most_specific_host_has_a_request() -> None:
    listeners = [Listener(80, host) for host in ("", "*.example.com", "*.foo.example.com", "abc.foo.example.com")]

    def of(host: str) -> str:
        chosen = choose_listener(listeners, host)
        assert chosen is not None
        return chosen.host

    assert of("bar.com") == ""
    assert of("bar.example.com") == "*.example.com"
    assert of("bar.foo.example.com") == "*.foo.example.com"
    assert of("abc.foo.example.com") == "abc.foo.example.com"
    assert choose_listener(listeners[1:2], "example.com") is None


def head(target: str = "/", method: str = "GET", **fields: str) -> RequestHead:
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: example.com:8080",
        *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items()),
    ]
    return parse_request("\r\n".join(lines).encode())


@pytest.mark.parametrize(
    ("prefix", "new", "path", "expected"),
    [
        # the table of the API reference, HTTPPathModifier.replacePrefixMatch
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo/", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo/", "", "/foo/bar", "/bar"),
        ("/foo", "", "/foo", "/"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/", "/xyz", "/bar", "/xyz/bar"),
    ],
)
def test_replaced_prefixes(prefix: str, new: str, path: str, expected: str) -> None:
    match = PathMatch(PREFIX, prefix)
    assert redirects.rewritten(Rewrite(prefix_path=new), match, path, path) == expected


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        (Redirect(301, url="https://elsewhere/x"), "https://elsewhere/x"),
        (Redirect(host="example.org"), "http://example.org/a?b"),
        (Redirect(scheme="https"), "https://example.com/a?b"),
        (Redirect(scheme="https", port=8443), "https://example.com:8443/a?b"),
        (Redirect(port=8080), "http://example.com:8080/a?b"),
        (Redirect(rewrite=Rewrite(full_path="/full")), "http://example.com/full?b"),
        (Redirect(scheme="http", port=80), "http://example.com/a?b"),
    ],
)
def test_redirects(redirect: Redirect, expected: str) -> None:
    made = redirects.location(redirect, PathMatch(PREFIX, "/"), head("/a?b"), CLIENT, "/a")
    assert made == (redirect.status, expected)


def test_a_redirect_keeps_the_port_of_its_listener() -> None:
    client = Client("1.2.3.4", 8080, tls=False)
    made = redirects.location(Redirect(host="b.example"), PathMatch(PREFIX, "/"), head("/"), client, "/")
    assert made[1] == "http://b.example:8080/"


def test_cors_tells_only_sites_that_may_know() -> None:
    cors = Cors(origins=("https://a.example", "https://*.b.example"))
    for origin, allowed in {
        "https://a.example": True,
        "https://x.b.example": True,
        "https://b.example": False,
        "https://evil/x.b.example": False,
        "http://a.example": False,
    }.items():
        fields = dict(redirects.cors_fields(cors, head(Origin=origin)))
        assert fields.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    anybody = dict(redirects.cors_fields(Cors(credentials=False), head(Origin="https://x")))
    assert anybody == {"Access-Control-Allow-Origin": "*"}


def test_capture_groups() -> None:
    rewrite = patterns.template(r"/something(/|$)(.*)", "/$2")
    assert rewrite("/something") == "/"
    assert rewrite("/something/new") == "/new"
    assert rewrite("/SOMETHING/x/y") == "/x/y"
    assert rewrite("/other") is None
    assert patterns.template("/a", "/b")("/a/rest") == "/b"


@pytest.mark.parametrize("pattern", ["/(a+)+$(.*)", "/(.*)(.*)(.*)(.*)", "/(x", "/a{2,}*", "/(?=a)"])
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(patterns.BadPattern):
        patterns.template(pattern, "/$1")


def test_no_pattern_takes_long() -> None:
    evil = patterns.tester("(a*)*b")
    assert not evil("a" * 2000)
    assert not patterns.location("/")("/" * 5000)


def test_what_a_client_encoded_cannot_end_a_line_of_the_request() -> None:
    rewrite = patterns.template(r"/api(/|$)(.*)", "/$2")
    path = normalized("/api/x%20HTTP/1.1%0d%0aHost:%20evil%25")
    assert rewrite(path) == "/x%20HTTP/1.1%0D%0AHost:%20evil%25"
    assert rewrite(normalized("/api/a%20b%0Dc")) == "/a%20b%0Dc"
    match = PathMatch(PREFIX, "/foo")
    raw = "/%66oo/a%20b%0d%0ac"
    assert redirects.rewritten(Rewrite(prefix_path="/x"), match, normalized(raw), raw) == "/x/a%20b%0D%0Ac"
