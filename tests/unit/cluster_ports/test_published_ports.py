"""Published ports as people write them."""

from __future__ import annotations

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster.ports.published import INGRESS, PublishedPort, Target, added, found, parse

WEB = Target("default", "web", "80")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("8080:80", PublishedPort("127.0.0.1", 8080, Target("", "", "80"))),
        ("8080:web:80", PublishedPort("127.0.0.1", 8080, WEB)),
        ("8080:web:http", PublishedPort("127.0.0.1", 8080, Target("default", "web", "http"))),
        ("8080:shop/web:80", PublishedPort("127.0.0.1", 8080, Target("shop", "web", "80"))),
        (
            "0.0.0.0:53:kube-system/kube-dns:53/udp",
            PublishedPort("0.0.0.0", 53, Target("kube-system", "kube-dns", "53"), "udp"),
        ),
        ("5353:30053/UDP", PublishedPort("127.0.0.1", 5353, Target("", "", "30053"), "udp")),
        ("localhost:1:2", PublishedPort("127.0.0.1", 1, Target("", "", "2"))),
        ("[::1]:8080:80", PublishedPort("::1", 8080, Target("", "", "80"))),
        ("[0:0::1]:8080:80/tcp", PublishedPort("::1", 8080, Target("", "", "80"))),
        ("[::]:8080:web:80", PublishedPort("::", 8080, WEB)),
    ],
)
def test_every_form_is_read_and_comes_back_by_its_text(text: str, wanted: PublishedPort) -> None:
    assert parse(text) == wanted
    assert parse(str(wanted)) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not of the form"),
        ("8080", "not of the form"),
        ("8080:", "not of the form"),
        ("0:80", "'0' is not a port"),
        ("65536:80", "'65536' is not a port"),
        ("-1:80", "'-1' is not a port"),
        ("٣:80", "is not a port"),
        ("8080:70000", "'70000' is not a port"),
        ("8080:web:0", "'0' is not a port"),
        ("8080:web", "'web' is not a port"),
        ("8080:/web:80", "neither PORT nor"),
        ("8080:a/:80", "neither PORT nor"),
        ("8080:web:", "neither PORT nor"),
        ("8080:80/sctp", "protocol 'sctp'"),
        ("8080:80/", "protocol ''"),
        ("1.2.3:8080:80", "'1.2.3' is not an IP address"),
        ("[::1:8080:80", "not of the form"),
        ("[x]:8080:80", "'x' is not an IP address"),
        ("224.0.0.1:8080:80", "nothing can be published at"),
        ("[fe80::1%eth0]:8080:80", "nothing can be published at"),
        ("[::ffff:1.2.3.4]:8080:80", "nothing can be published at"),
        ("8080:we b:80", "neither PORT nor"),
    ],
)
def test_what_is_wrong_is_named(text: str, why: str) -> None:
    with pytest.raises(Permanent, match="published port") as refused:
        parse(text)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("8080:80", "8080:443", True),
        ("8080:80", "8081:80", False),
        ("8080:80", "8080:80/udp", False),
        ("8080:80", "0.0.0.0:8080:80", True),
        ("0.0.0.0:8080:80", "192.0.2.1:8080:80", True),
        ("127.0.0.1:8080:80", "192.0.2.1:8080:80", False),
        ("0.0.0.0:8080:80", "[::]:8080:80", False),
        ("[::]:8080:80", "[::1]:8080:80", True),
    ],
)
def test_two_overlap_where_they_want_the_same_port_of_an_address(one: str, other: str, overlap: bool) -> None:
    assert parse(one).overlaps(parse(other)) is overlap
    assert parse(other).overlaps(parse(one)) is overlap


def test_adding_one_again_changes_nothing_and_another_target_is_refused() -> None:
    first = added((), [parse("8080:80"), parse("8443:443")])
    assert added(first, [parse("8080:80")]) == first
    with pytest.raises(Permanent, match=r"127\.0\.0\.1:8080:80/tcp is published already"):
        added(first, [parse("0.0.0.0:8080:web:80")])


def test_80_and_443_are_the_ingress_and_other_numbers_the_nodes() -> None:
    assert [parse(text).service for text in ("1:80", "1:443", "1:8443", "1:web:80")] == [
        INGRESS, INGRESS, ("", ""), ("default", "web"),
    ]  # fmt: skip


def test_ports_are_found_by_any_part_that_names_one() -> None:
    ports = [parse("8080:80"), parse("0.0.0.0:9090:web:80"), parse("9090:80/udp"), parse("[::1]:8080:80")]
    assert found(ports, "0.0.0.0:9090:default/web:80/tcp") == [ports[1]]
    assert found(ports, "0.0.0.0:9090:default/web:80") == [ports[1]]
    assert found(ports, "0.0.0.0:9090") == [ports[1]]
    assert found(ports, "9090/udp") == [ports[2]]
    assert found(ports, "[::1]:8080") == [ports[3]]
    assert found(ports, "8080:80") == [ports[0]]
    with pytest.raises(Permanent, match="could be"):
        found(ports, "9090")
    with pytest.raises(Permanent, match="'1' is not published; published ports: 127"):
        found(ports, "1")
    with pytest.raises(Permanent, match="is not a port"):
        found(ports, "x")
