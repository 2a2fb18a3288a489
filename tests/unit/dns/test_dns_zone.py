"""The records of the cluster's domain: the specification's, and what CoreDNS answers where it leaves room."""

from __future__ import annotations

import pytest

from dns_world import KINDS, endpoint, endpoint_slice, external, index_of, service, shown
from tiphys.dns.index import Index
from tiphys.dns.names import from_text
from tiphys.dns.wire import SOA
from tiphys.dns.zone import Answer, Zone

V6_HTTP = ({"name": "http", "protocol": "TCP", "port": 80},)
UNNAMED = ({"port": 443},)


@pytest.fixture(scope="module")
def index() -> Index:
    services = [
        service("svc1", "10.0.0.1"),
        service("svc6", "1234:abcd::1"),
        service("dual", "10.0.0.3", "10::3"),
        service("hdls1", "None"),
        service("hdlsprtls", "None", ports=()),
        service("unready", "None"),
        service("unnamed", "10.0.0.4", ports=UNNAMED),
        service("two", "10.0.0.5", ports=[*V6_HTTP, {"name": "dns", "protocol": "UDP", "port": 53}]),
        external("external", "Ext.Interwebs.test"),
        external("address", "192.0.2.1"),
        external("to-service", "svc1.testns.svc.cluster.local"),
        external("to-nowhere", "nobody.testns.svc.cluster.local"),
        external("to-self", "to-self.testns.svc.cluster.local"),
        external("ping", "pong.testns.svc.cluster.local"),
        external("pong", "ping.testns.svc.cluster.local"),
        service(
            "kube-dns", "10.0.0.10", namespace="kube-system", ports=[{"name": "dns", "protocol": "UDP", "port": 53}]
        ),
    ]
    slices = [
        endpoint_slice("hdls1", endpoint("172.0.0.2"), endpoint("172.0.0.3"), endpoint("172.0.0.9", ready=False)),
        endpoint_slice("hdls1", endpoint("172.0.0.4", hostname="dup-name"), name="hdls1-b"),
        endpoint_slice("hdls1", endpoint("172.0.0.5", hostname="Dup-Name"), endpoint("172.0.0.3"), name="hdls1-c"),
        endpoint_slice("hdls1", endpoint("5678:abcd::1"), endpoint("5678:abcd::2"), name="hdls1-6"),
        endpoint_slice("hdlsprtls", endpoint("172.0.0.20"), ports=()),
        endpoint_slice("unready", endpoint("172.0.0.30", ready=False)),
        endpoint_slice("svc1", endpoint("172.0.0.40", hostname="web-0")),
    ]
    return index_of(services, slices, ["testns", "kube-system", "empty"])


@pytest.fixture(scope="module")
def zone(index: Index) -> Zone:
    return Zone("cluster.local", index)


def ask(zone: Zone, name: str, kind: str) -> Answer:
    answer = zone.answer(from_text(name), KINDS[kind])
    assert answer is not None, "left to other servers"
    return answer


SVC = "svc.cluster.local"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (f"svc1.testns.{SVC}", "A", ["10.0.0.1"]),
        (f"svc6.testns.{SVC}", "AAAA", ["1234:abcd::1"]),
        (f"dual.testns.{SVC}", "A", ["10.0.0.3"]),
        (f"dual.testns.{SVC}", "AAAA", ["10::3"]),
        (f"_http._tcp.svc1.testns.{SVC}", "A", ["10.0.0.1"]),
        (f"hdls1.testns.{SVC}", "A", ["172.0.0.2", "172.0.0.3", "172.0.0.4", "172.0.0.5"]),
        (f"hdls1.testns.{SVC}", "AAAA", ["5678:abcd::1", "5678:abcd::2"]),
        (f"hdlsprtls.testns.{SVC}", "A", ["172.0.0.20"]),
        (f"172-0-0-20.hdlsprtls.testns.{SVC}", "A", ["172.0.0.20"]),
        (f"172-0-0-2.hdls1.testns.{SVC}", "A", ["172.0.0.2"]),
        (f"dup-name.hdls1.testns.{SVC}", "A", ["172.0.0.4", "172.0.0.5"]),
        (f"5678-abcd--2.hdls1.testns.{SVC}", "AAAA", ["5678:abcd::2"]),
        (f"web-0.svc1.testns.{SVC}", "A", ["172.0.0.40"]),
        ("10-1-2-3.testns.pod.cluster.local", "A", ["10.1.2.3"]),
        ("fd00--1.testns.pod.cluster.local", "AAAA", ["fd00::1"]),
        ("ns.dns.cluster.local", "A", ["10.0.0.10"]),
        ("dns-version.cluster.local", "TXT", ["1.1.0"]),
        (f"external.testns.{SVC}", "CNAME", ["ext.interwebs.test."]),
        ("1.0.0.10.in-addr.arpa", "PTR", ["svc1.testns.svc.cluster.local."]),
        ("2.0.0.172.in-addr.arpa", "PTR", ["172-0-0-2.hdls1.testns.svc.cluster.local."]),
        ("4.0.0.172.in-addr.arpa", "PTR", ["dup-name.hdls1.testns.svc.cluster.local."]),
        ("1." + "0." * 19 + "d.c.b.a.4.3.2.1.ip6.arpa", "PTR", None),
        ("1." + "0." * 23 + "d.c.b.a.4.3.2.1.ip6.arpa", "PTR", ["svc6.testns.svc.cluster.local."]),
    ],
)
def test_names_of_services_and_endpoints(zone: Zone, name: str, kind: str, expected: list[str] | None) -> None:
    if expected is None:
        assert zone.answer(from_text(name), KINDS[kind]) is None
        return
    answer = ask(zone, name, kind)
    ttl = 28800 if kind == "TXT" else 30
    assert sorted(map(shown, answer.sections.answers)) == [f"{name}. {ttl} {kind} {data}" for data in expected]
    assert answer.sections.rcode == 0


@pytest.mark.parametrize(
    ("name", "answers", "extra"),
    [
        (f"_http._tcp.svc1.testns.{SVC}", ["0 100 80 svc1"], ["svc1.testns A 10.0.0.1"]),
        (f"svc1.testns.{SVC}", ["0 100 80 svc1"], ["svc1.testns A 10.0.0.1"]),
        (f"unnamed.testns.{SVC}", ["0 100 443 unnamed"], ["unnamed.testns A 10.0.0.4"]),
        (f"dual.testns.{SVC}", ["0 50 80 dual"], ["dual.testns A 10.0.0.3", "dual.testns AAAA 10::3"]),
        (f"_dns._udp.two.testns.{SVC}", ["0 100 53 two"], ["two.testns A 10.0.0.5"]),
        (f"dup-name.hdls1.testns.{SVC}", ["0 50 80 dup-name.hdls1"], None),
        (
            f"_http._tcp.hdls1.testns.{SVC}",
            [
                "0 16 80 172-0-0-2.hdls1",
                "0 16 80 172-0-0-3.hdls1",
                "0 16 80 5678-abcd--1.hdls1",
                "0 16 80 5678-abcd--2.hdls1",
                "0 16 80 dup-name.hdls1",
            ],
            None,
        ),
    ],
)
def test_places_of_named_ports(zone: Zone, name: str, answers: list[str], extra: list[str] | None) -> None:
    said = ask(zone, name, "SRV").sections
    assert sorted(map(shown, said.answers)) == [f"{name}. 30 SRV {each}.testns.{SVC}." for each in answers]
    if extra is not None:
        found = [shown(each).replace(f".{SVC}. 30", "") for each in said.additional]
        assert found == extra


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cluster.local", "A"),
        (SVC, "A"),
        ("pod.cluster.local", "A"),
        ("dns.cluster.local", "A"),
        (f"testns.{SVC}", "NS"),
        (f"empty.{SVC}", "A"),
        ("testns.pod.cluster.local", "A"),
        (f"svc1.testns.{SVC}", "AAAA"),
        (f"svc1.testns.{SVC}", "TXT"),
        (f"svc1.testns.{SVC}", "SOA"),
        (f"svc1.testns.{SVC}", "CNAME"),
        (f"_tcp.svc1.testns.{SVC}", "A"),
        (f"hdlsprtls.testns.{SVC}", "SRV"),
        ("dns-version.cluster.local", "A"),
        ("10-1-2-3.testns.pod.cluster.local", "AAAA"),
    ],
)
def test_names_that_exist_without_such_records(zone: Zone, name: str, kind: str) -> None:
    said = ask(zone, name, kind).sections
    assert (said.rcode, said.answers) == (0, ())
    assert [each.type for each in said.authority] == [SOA]


@pytest.mark.parametrize(
    "name",
    [
        "foo.cluster.local",
        f"foo.{SVC}",
        "foo.pod.cluster.local",
        f"svc0.testns.{SVC}",
        f"svc1.nobody.{SVC}",
        f"unready.testns.{SVC}",
        f"172-0-0-9.hdls1.testns.{SVC}",
        f"bogus.hdls1.testns.{SVC}",
        f"bogus.svc0.testns.{SVC}",
        f"_https._tcp.svc1.testns.{SVC}",
        f"_http._udp.svc1.testns.{SVC}",
        f"_._tcp.unnamed.testns.{SVC}",
        f"_udp.svc1.testns.{SVC}",
        f"a.b.c.svc1.testns.{SVC}",
        f"endpoint.external.testns.{SVC}",
        f"address.testns.{SVC}",
        "10-1-2.testns.pod.cluster.local",
        "10-1-2-3.nobody.pod.cluster.local",
        "x.10-1-2-3.testns.pod.cluster.local",
        "x.dns-version.cluster.local",
    ],
)
def test_names_that_do_not_exist(zone: Zone, name: str) -> None:
    said = ask(zone, name, "A").sections
    assert (said.rcode, said.answers) == (3, ())
    assert [each.type for each in said.authority] == [SOA]


@pytest.mark.parametrize("name", ["example.com", "local", "notcluster.local", "9.9.9.9.in-addr.arpa", "arpa", "."])
def test_other_names_are_left_to_others(zone: Zone, name: str) -> None:
    assert zone.answer(from_text(name), KINDS["PTR"]) is None


def test_an_alias_is_followed_inside_and_left_to_others_outside(zone: Zone) -> None:
    inside = ask(zone, f"to-service.testns.{SVC}", "A")
    assert [shown(each) for each in inside.sections.answers] == [
        f"to-service.testns.{SVC}. 30 CNAME svc1.testns.{SVC}.",
        f"svc1.testns.{SVC}. 30 A 10.0.0.1",
    ]
    outside = ask(zone, f"external.testns.{SVC}", "A")
    assert outside.chase == from_text("ext.interwebs.test")
    assert len(outside.sections.answers) == 1


@pytest.mark.parametrize(("name", "rcode"), [("to-nowhere", 3), ("to-self", 0), ("ping", 0)])
def test_aliases_that_lead_nowhere_or_in_a_circle_end(zone: Zone, name: str, rcode: int) -> None:
    said = ask(zone, f"{name}.testns.{SVC}", "A").sections
    assert said.rcode == rcode
    assert 1 <= len(said.answers) <= 8
    assert [each.type for each in said.authority] == [SOA]


def test_the_zone_itself_has_an_soa_record_and_a_name_server(zone: Zone) -> None:
    assert [each.type for each in ask(zone, "cluster.local", "SOA").sections.answers] == [SOA]
    said = ask(zone, "cluster.local", "NS").sections
    assert [shown(each) for each in said.answers] == [f"cluster.local. 30 NS kube-dns.kube-system.{SVC}."]
    assert [shown(each) for each in said.additional] == [f"kube-dns.kube-system.{SVC}. 30 A 10.0.0.10"]


def test_before_there_is_a_service_for_it_the_server_tells_its_own_address() -> None:
    zone = Zone("example.org.", index_of(), [b"\x0a\x59\0\x02"])
    said = ask(zone, "example.org", "NS").sections
    assert [shown(each) for each in (*said.answers, *said.additional)] == [
        "example.org. 30 NS ns.dns.example.org.",
        "ns.dns.example.org. 30 A 10.89.0.2",
    ]


def test_without_knowing_namespaces_any_may_be_there() -> None:
    zone = Zone("cluster.local", index_of())
    assert ask(zone, "10-1-2-3.whatever.pod.cluster.local", "A").sections.answers
    assert ask(zone, f"whatever.{SVC}", "A").sections.rcode == 0


def test_names_that_would_be_too_long_are_left_out() -> None:
    domain = ".".join(["d" * 60] * 3)
    index = index_of([service("s" * 40, "None")], [endpoint_slice("s" * 40, endpoint("10.0.0.1", hostname="h" * 60))])
    said = ask(Zone(domain, index), f"{'s' * 40}.testns.svc.{domain}", "SRV").sections
    assert said.answers == ()
