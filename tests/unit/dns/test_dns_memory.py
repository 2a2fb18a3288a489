"""What is remembered of other servers' answers, who is asked first, and how the index follows the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dns_world import endpoint, endpoint_slice, external, index_of, message, service
from tiphys.dns.cache import FAILED, LONGEST, Cache, Key, lifetime
from tiphys.dns.clients import Clients
from tiphys.dns.index import Index
from tiphys.dns.names import from_text, packed
from tiphys.dns.resolvconf import read
from tiphys.dns.upstreams import BENCH, Server, Upstreams, is_ours, parse_server, servers_of

WEB = Key(from_text("web.test"), 1, 1, 0x100, False)


def test_an_answer_lives_as_long_as_its_shortest_ttl_and_grows_older() -> None:
    cache = Cache()
    cache.put(WEB, message("web.test", "A", ("web.test", 300, "192.0.2.1"), ("web.test", 20, "192.0.2.2")), 100.0)
    kept = cache.get(WEB, 105.9)
    assert kept is not None
    assert [each.ttl for each in kept.answers] == [15, 15]
    assert cache.get(WEB, 119.9) is not None
    assert cache.get(WEB, 120.0) is None
    assert (cache.hits, cache.misses, len(cache)) == (2, 1, 0)


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        (message("a", "A", ("a", 7, "192.0.2.1")), 7),
        (message("a", "A", ("a", 7000, "192.0.2.1")), LONGEST),
        (message("a", "A", ("a", 0, "192.0.2.1")), 0),
        (message("a", "A", rcode=3, soa=300, minimum=9), 9),
        (message("a", "A", rcode=3, soa=8, minimum=900), 8),
        (message("a", "A", rcode=3), 0),
        (message("a", "A"), 0),
        (message("a", "A", soa=12), 12),
        (message("a", "A", ("a", 4, "b"), rcode=3, soa=12), 4),
        (message("a", "A", rcode=2), FAILED),
        (message("a", "A", rcode=5), 0),
    ],
)
def test_what_may_be_kept_and_how_long(what: Any, seconds: int) -> None:
    assert lifetime(what) == seconds


def test_the_oldest_go_when_there_are_too_many_or_too_large_ones() -> None:
    keys = [WEB._replace(name=from_text(f"web-{number}.test")) for number in range(30)]
    for cache in (Cache(entries=10), Cache(size=10 * 630)):
        for key in keys:
            cache.put(key, message("web.test", "A", ("web.test", 30, "192.0.2.1")), 0.0)
        assert 5 <= len(cache) <= 10
        assert cache.get(keys[0], 0.0) is None
        assert cache.get(keys[-1], 0.0) is not None
        cache.clear()
        assert len(cache) == 0


ONE, TWO = Server("192.0.2.1"), Server("2001:db8::1")


def test_a_server_that_did_not_answer_is_asked_last_for_a_while() -> None:
    servers = Upstreams([ONE, TWO])
    assert servers.order(0.0) == [ONE, TWO]
    servers.failed(ONE, 0.0)
    assert servers.order(BENCH - 1) == [TWO, ONE]
    assert servers.order(BENCH) == [ONE, TWO]
    servers.failed(ONE, 50.0)
    servers.answered(ONE)
    assert servers.order(51.0) == [ONE, TWO]


def test_a_server_that_leads_back_is_never_asked_until_others_are_told() -> None:
    servers = Upstreams([ONE, TWO])
    assert servers.leads_back(ONE)
    assert not servers.leads_back(ONE)
    assert servers.order(0.0) == [TWO]
    assert not servers.replace([ONE, TWO])
    assert servers.replace([TWO, ONE])
    assert servers.order(0.0) == [TWO, ONE]


def test_name_servers_of_a_resolv_conf() -> None:
    text = """# comment
nameserver 192.0.2.1
nameserver  2001:db8::1  # more
nameserver fe80::1%lo
nameserver
nameserver example.com
search example.com
 nameserver 192.0.2.1
"""
    assert servers_of(text) == (ONE, TWO, Server("fe80::1%lo"))


def test_a_resolv_conf_that_is_not_there_names_nobody(tmp_path: Path) -> None:
    assert read(tmp_path / "resolv.conf") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ONE),
        ("192.0.2.1:5353", Server("192.0.2.1", 5353)),
        ("2001:db8::1", TWO),
        ("[2001:db8::1]", TWO),
        ("[2001:db8::1]:5353", Server("2001:db8::1", 5353)),
    ],
)
def test_servers_are_read(text: str, expected: Server) -> None:
    assert parse_server(text) == expected
    assert parse_server(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "example.com", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:70000", "[::1", "[::1]x"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_server(text)


def test_our_own_places_are_known() -> None:
    own = [(packed("10.89.0.2"), 10053)]
    assert is_ours(Server("10.89.0.2", 10053), own)
    assert is_ours(Server("::ffff:10.89.0.2", 10053), own)
    assert not is_ours(Server("10.89.0.2"), own)


WEB_KEY = (b"testns", b"web")


def test_only_what_changes_an_answer_counts_as_a_change() -> None:
    index = index_of([service("web", "10.0.0.1")], [endpoint_slice("web", endpoint("10.1.0.1"))], ["testns"])
    version = index.version
    index.service_changed(service("web", "10.0.0.1"), service("web", "10.0.0.1"), 2e9)
    same = endpoint_slice("web", endpoint("10.1.0.1"))
    index.slice_changed(same, same, 2e9)
    index.namespace_changed(None, {"metadata": {"name": "testns"}}, 2e9)
    assert index.version == version
    index.service_changed(None, service("web", "10.0.0.2"), 2e9)
    assert (index.version, index.serial) == (version + 1, 2_000_000_000)
    assert index.service_at(packed("10.0.0.1")) is None
    assert index.service_at(packed("10.0.0.2")) == WEB_KEY


def test_endpoints_follow_their_slices() -> None:
    index = Index()
    one = endpoint_slice("web", endpoint("10.1.0.1"), endpoint("10.1.0.2", hostname="b"))
    two = endpoint_slice("web", endpoint("10.1.0.2", hostname="b"), name="web-2")
    index.slice_changed(None, one, 1.0)
    index.slice_changed(None, two, 1.0)
    assert [each.label for each in index.endpoints(WEB_KEY).endpoints] == [b"10-1-0-1", b"b"]
    assert index.endpoints_at(packed("10.1.0.2")) == [(WEB_KEY, b"b")]
    index.slice_changed(one, None, 1.0)
    assert [each.label for each in index.endpoints(WEB_KEY).endpoints] == [b"b"]
    moved = endpoint_slice("other", endpoint("10.1.0.2"), name="web-2")
    index.slice_changed(two, moved, 1.0)
    assert index.endpoints(WEB_KEY).endpoints == ()
    assert index.endpoints_at(packed("10.1.0.2")) == [((b"testns", b"other"), b"10-1-0-2")]
    index.slice_changed(moved, None, 1.0)
    assert index.endpoints_at(packed("10.1.0.2")) == []


def test_services_change_their_kind_and_go() -> None:
    index = index_of([external("web", "example.com")])
    found = index.service(WEB_KEY)
    assert found is not None
    assert found.alias == from_text("example.com")
    index.service_changed(None, service("web", "10.0.0.1"), 1.0)
    index.service_changed(service("web", "10.0.0.1"), None, 1.0)
    assert index.service(WEB_KEY) is None
    assert index.service_at(packed("10.0.0.1")) is None


def test_slices_of_names_or_of_nobody_are_left_out() -> None:
    named = endpoint_slice("web", {"addresses": ["example.com"]}) | {"addressType": "FQDN"}
    orphan = endpoint_slice("web", endpoint("10.1.0.1"))
    orphan["metadata"]["labels"] = {}
    index = index_of(slices=[named, orphan])
    assert index.endpoints(WEB_KEY).endpoints == ()


def test_namespaces_come_and_go() -> None:
    index = Index()
    assert index.has_namespace(b"anything")
    index.namespace_changed(None, {"metadata": {"name": "one"}}, 1.0)
    assert (index.has_namespace(b"one"), index.has_namespace(b"two")) == (True, False)
    index.namespace_changed({"metadata": {"name": "one"}}, None, 1.0)
    assert not index.has_namespace(b"one")


@pytest.mark.parametrize(
    ("address", "answered"),
    [
        ("10.244.1.2", True),
        ("127.0.0.1", True),
        ("fd74::2", True),
        ("fe80::1%eth0", True),
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:10.0.0.1", True),
        ("9.9.9.9", True),
        ("9.9.10.9", False),
    ],
)
def test_strangers_are_not_answered(address: str, answered: bool) -> None:
    clients = Clients(["9.9.9.1/24", "2001:4860::1"])
    for _ in range(2):
        assert (address in clients) is answered
