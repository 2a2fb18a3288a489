"""Host names and name resolution of pods."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.kubelet.dns import LOCAL, Dns, parse_resolv_conf, reachable, resolve
from tiphys.kubelet.files import hostname_of, kernel_hostname


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": "u1"}, "spec": spec}


HOST = Dns(("9.9.9.9",), ("lan",), ("edns0",))
DOMAINS = ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local")


@pytest.mark.parametrize(
    ("text", "dns"),
    [
        ("", Dns()),
        ("# nameserver 1.1.1.1\n", Dns()),
        (" \tnameserver\t 1.2.3.4 x\n", Dns(("1.2.3.4",))),
        ("nameserver 1.2.3.4\nnameserver fd00::1", Dns(("1.2.3.4", "fd00::1"))),
        ("search foo\nsearch bar baz.\n", Dns(searches=("bar", "baz"))),
        ("search .\n", Dns()),
        ("domain foo\n", Dns()),
        ("options ndots:5 attempts:2\noptions ndots:1", Dns(options=("ndots:1", "attempts:2"))),
    ],
)
def test_the_nodes_resolv_conf(text: str, dns: Dns) -> None:
    assert parse_resolv_conf(text) == dns


def test_cluster_first_is_the_clusters_servers_and_domains_then_the_nodes() -> None:
    found, complaints = resolve(pod(), HOST, ["10.96.0.10"], "cluster.local")
    assert found == Dns(("10.96.0.10",), (*DOMAINS, "lan"), ("ndots:5",))
    assert complaints == ()
    assert resolve(pod(), HOST, ["10.96.0.10"], "")[0].searches == ("lan",)
    assert resolve(pod(hostNetwork=True), HOST, ["10.96.0.10"], "cluster.local")[0] == HOST
    with_host = pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    assert resolve(with_host, HOST, ["10.96.0.10"], "cluster.local")[0].servers == ("10.96.0.10",)


def test_without_a_cluster_dns_the_nodes_is_taken() -> None:
    found, complaints = resolve(pod(), LOCAL, [], "cluster.local")
    assert found == Dns(("127.0.0.1",), (".",))
    text = 'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
    fallback = 'Falling back to "Default" policy.'
    assert complaints == (("MissingClusterDNS", f'pod: "web_ns(u1)". {text}{fallback}'),)
    assert resolve(pod(dnsPolicy="Default"), HOST, [], "cluster.local") == (HOST, ())


LOCAL_ONLY = Dns(("127.0.0.53", "::1"), ("lan",), ("trust-ad",))


@pytest.mark.parametrize(
    ("host", "behind", "cluster", "expected"),
    [
        (HOST, Dns(("8.8.8.8",)), ["10.96.0.10"], HOST),
        (Dns(("127.0.0.1", "9.9.9.9")), Dns(("8.8.8.8",)), [], Dns(("127.0.0.1", "9.9.9.9"))),
        (LOCAL_ONLY, Dns(("8.8.8.8",), ("office",)), ["10.96.0.10"], Dns(("8.8.8.8",), ("office",))),
        (LOCAL_ONLY, Dns(("127.0.0.1",)), ["10.96.0.10"], Dns(("10.96.0.10",), ("lan",), ("trust-ad",))),
        (LOCAL_ONLY, Dns(), [], LOCAL_ONLY),
        (Dns(), Dns(("8.8.8.8",)), [], Dns()),
        (Dns(("fe80::1%eth0",)), Dns(("8.8.8.8",)), [], Dns(("fe80::1%eth0",))),
    ],
)
def test_a_server_on_the_hosts_loopback_is_no_use_to_pods(
    host: Dns, behind: Dns, cluster: list[str], expected: Dns
) -> None:
    assert reachable(host, behind, cluster) == expected


def test_dns_config_is_merged_in() -> None:
    config = {
        "nameservers": ["9.9.9.9", "1.1.1.1"],
        "searches": ["lan", "more"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "debug"}],
    }
    found, _ = resolve(pod(dnsPolicy="Default", dnsConfig=config), HOST, [], "x")
    assert found == Dns(("9.9.9.9", "1.1.1.1"), ("lan", "more"), ("edns0", "ndots:2", "debug"))


def test_what_is_beyond_the_limits_is_left_out_and_said() -> None:
    config = {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"], "searches": [f"d{i}" for i in range(33)]}
    found, complaints = resolve(pod(dnsPolicy="None", dnsConfig=config), HOST, [], "x")
    assert len(found.servers) == 3
    assert len(found.searches) == 32
    assert complaints[0] == (
        "DNSConfigForming",
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        "1.1.1.1 2.2.2.2 3.3.3.3",
    )
    assert complaints[1][1].startswith("Search Line limits were exceeded, some search paths have been omitted,")


def test_search_lines_have_a_length() -> None:
    long = [("a" * 60 + ".") * 3 + "b" * 20 + f"{i:02}" for i in range(12)]
    found, complaints = resolve(pod(dnsPolicy="None", dnsConfig={"searches": [*long, "c" * 254]}), HOST, [], "x")
    assert len(" ".join(found.searches)) <= 2048
    assert found.searches == tuple(long[: len(found.searches)])
    assert len(complaints) == 1


def test_host_names() -> None:
    assert hostname_of(pod()) == "web"
    assert hostname_of(pod(hostname="other")) == "other"
    assert hostname_of(pod("a" * 62 + "-b")) == "a" * 62
    assert hostname_of(pod(hostnameOverride="x.y")) == "x.y"
    assert hostname_of(pod(hostNetwork=True), "node-1") == "node-1"


def test_a_pod_may_have_its_domain_in_its_host_name() -> None:
    with_domain = pod(subdomain="sub", setHostnameAsFQDN=True)
    assert kernel_hostname(with_domain, "node-1", "cluster.local") == "web.sub.ns.svc.cluster.local"
    assert kernel_hostname(pod(subdomain="sub"), "node-1", "cluster.local") == "web"
    assert kernel_hostname(pod(setHostnameAsFQDN=True), "node-1", "cluster.local") == "web"


def test_a_host_name_with_domain_that_is_too_long_is_refused() -> None:
    long = pod("w" * 50, subdomain="sub", setHostnameAsFQDN=True)
    why = r"cluster domain, FQDN w+\.sub\.ns\.svc\.cluster\.local is too long \(64 characters is the max, 75 characters"
    with pytest.raises(Permanent, match=why):
        kernel_hostname(long, "node-1", "cluster.local")
