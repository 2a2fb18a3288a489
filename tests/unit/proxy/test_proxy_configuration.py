"""KubeProxyConfiguration: files and flags, defaults, what is not valid, what the proxy is told."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiphys.base.errors import Permanent
from tiphys.cluster import proxy_component
from tiphys.cluster.proxy_flags import add_flags, given
from tiphys.proxy.configfile import document, settings
from tiphys.proxy.configfile.fields import defaulted
from tiphys.proxy.configfile.validation import check
from tiphys.proxy.conntrack import sysctls

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
ROOT = "KubeProxyConfiguration"


def flags(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(words)


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    file = tmp_path / "config.yaml"
    file.write_text(HEAD + text)
    return document.read(file)


def test_defaults_are_upstreams_but_for_the_mode(tmp_path: Path) -> None:
    document.write(defaulted({}), tmp_path / "written")
    written = yaml.safe_load((tmp_path / "written").read_text())
    assert written["mode"] == "nftables"
    assert (written["healthzBindAddress"], written["metricsBindAddress"]) == ("0.0.0.0:10256", "127.0.0.1:10249")
    assert written["conntrack"] == {
        "maxPerCore": 32768,
        "min": 131072,
        "tcpBeLiberal": False,
        "tcpCloseWaitTimeout": "1h0m0s",
        "tcpEstablishedTimeout": "24h0m0s",
        "udpStreamTimeout": "0s",
        "udpTimeout": "0s",
    }
    assert written["logging"]["flushFrequency"] == "5s"
    assert written["nodePortAddresses"] is None
    assert "featureGates" not in written
    assert document.read(tmp_path / "written") == defaulted({}) | {"logging": written["logging"]}


@pytest.mark.parametrize(
    ("bind", "health", "metrics"),
    [
        ("", "0.0.0.0:10256", "127.0.0.1:10249"),
        ("bindAddress: 9.8.7.6", "0.0.0.0:10256", "127.0.0.1:10249"),
        ('bindAddress: "::"', "[::]:10256", "[::1]:10249"),
        ("healthzBindAddress: 1.2.3.4\nmetricsBindAddress: 1.2.3.4:99", "1.2.3.4:10256", "1.2.3.4:99"),
        ('healthzBindAddress: "fd00:1::5"', "[fd00:1::5]:10256", "127.0.0.1:10249"),
    ],
)
def test_ports_and_families_of_addresses_are_filled_in(tmp_path: Path, bind: str, health: str, metrics: str) -> None:
    values = read(tmp_path, bind)
    assert (values["healthzBindAddress"], values["metricsBindAddress"]) == (health, metrics)
    assert check(values) == []


def test_a_file_is_read_leniently(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = read(tmp_path, "foo: bar\niptables: {old: 1, masqueradeBit: 17}\nconfigSyncPeriod: 15s\n")
    assert (values["iptables.masqueradeBit"], values["configSyncPeriod"]) == (17, 15.0)
    assert "unknown fields: foo, iptables.old" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bindAddress: [1]", "bindAddress: cannot unmarshal array into a string"),
        ("oomScoreAdj: true", "oomScoreAdj: cannot unmarshal bool into an integer"),
        ("configSyncPeriod: 5", "configSyncPeriod: cannot unmarshal number into a string"),
        ("nodePortAddresses: primary", "nodePortAddresses: cannot unmarshal string into a list of strings"),
        ("featureGates: {a: 1}", "featureGates: cannot unmarshal number into a boolean"),
    ],
)
def test_values_of_wrong_types_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Permanent, match="failed to decode") as caught:
        read(tmp_path, text)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b", "is not a KubeProxyConfiguration"),
        ("kind: KubeProxyConfiguration\napiVersion: v2", "is registered for version"),
        ("a: [", "is neither YAML nor JSON"),
        ("[]", "is not a KubeProxyConfiguration"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(Permanent, match=message):
        document.read(tmp_path / "file")


NO_PORT, NO_CIDR, POSITIVE = "must be a valid port", "must be a valid CIDR", "must be greater than 0"
NOT_NEGATIVE, BITS = "must be greater than or equal to 0", "must be within the range [0, 31]"
LINUX = "KubeProxyLinuxConfiguration"
CONNTRACK = f"{LINUX}.KubeProxyConntrackConfiguration"
LOCAL = "DetectLocalConfiguration"
MODES = "must be iptables, ipvs, nftables or blank (blank means the best-available proxy [currently iptables])"
CIDR_BLOCK = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
BAD = (
    ("bindAddress", "10.10.12.11:2000", "BindAddress", "not a valid textual representation of an IP address"),
    ("healthzBindAddress", "foo", "HealthzBindAddress", "must be IP:port"),
    ("configSyncPeriod", -1.0, "ConfigSyncPeriod", POSITIVE),
    ("nftables.minSyncPeriod", -2.0, "MinSyncPeriod", NOT_NEGATIVE),
    ("mode", "kernelspace", "Mode.ProxyMode", MODES),
    ("clientConnection.burst", -5, "ClientConnection.Burst", NOT_NEGATIVE),
    ("nftables.masqueradeBit", -10, "KubeProxyNFTablesConfiguration.MasqueradeBit", BITS),
    ("iptables.masqueradeBit", 32, "KubeProxyIPTablesConfiguration.MasqueradeBit", BITS),
    ("conntrack.maxPerCore", -1, f"{CONNTRACK}.MaxPerCore", NOT_NEGATIVE),
    ("conntrack.min", -1, f"{CONNTRACK}.Min", NOT_NEGATIVE),
    ("conntrack.udpTimeout", -5.0, f"{CONNTRACK}.UDPTimeout", NOT_NEGATIVE),
    ("conntrack.udpStreamTimeout", -5.0, f"{CONNTRACK}.UDPStreamTimeout", NOT_NEGATIVE),
    ("conntrack.tcpCloseWaitTimeout", -5.0, f"{CONNTRACK}.TCPCloseWaitTimeout", NOT_NEGATIVE),
    ("conntrack.tcpEstablishedTimeout", -5.0, f"{CONNTRACK}.TCPEstablishedTimeout", NOT_NEGATIVE),
    ("oomScoreAdj", 1001, f"{LINUX}.OOMScoreAdj", "must be within the range [-1000, 1000]"),
)


@pytest.mark.parametrize(("path", "value", "field", "detail"), BAD)
def test_what_is_not_valid_is_told_in_upstreams_words(path: str, value: Any, field: str, detail: str) -> None:
    shown = f'"{value:g}s"' if isinstance(value, float) else json.dumps(value)
    assert problems({path: value}) == [f"{field}: Invalid value: {shown}: {detail}"]


def problems(given: dict[str, Any]) -> list[str]:
    return [str(one).removeprefix(f"{ROOT}.") for one in check(defaulted(given))]


@pytest.mark.parametrize(
    ("address", "part", "detail"),
    [
        ("123.456.789.10:12345", "123.456.789.10", "must be a valid IP"),
        ("10.10.10.10:foo", "foo", NO_PORT),
        ("10.10.10.10:0", "0", NO_PORT),
        ("[fd00::1]:65536", "65536", NO_PORT),
    ],
)
def test_of_an_address_the_part_that_is_wrong_is_told(address: str, part: str, detail: str) -> None:
    assert problems({"metricsBindAddress": address}) == [f'MetricsBindAddress: Invalid value: "{part}": {detail}']


def test_periods_have_an_order() -> None:
    detail = "must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod"
    assert problems({"nftables.syncPeriod": -5.0, "nftables.minSyncPeriod": 2.0}) == [
        f'SyncPeriod: Invalid value: "-5s": {POSITIVE}',
        f'SyncPeriod: Invalid value: "2s": {detail}',
    ]


def test_lists_and_modes_are_checked() -> None:
    choices = '"ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", ""'
    assert problems({"detectLocalMode": "Guess"}) == [
        f'DetectLocalMode: Unsupported value: "Guess": supported values: {choices}'
    ]
    for mode, field in (("BridgeInterface", "InterfaceName"), ("InterfaceNamePrefix", "InterfacePrefix")):
        assert problems({"detectLocalMode": mode}) == [f'{LOCAL}.{field}: Invalid value: "": must not be empty']
    assert problems({"clusterCIDR": "10.0.0.0"}) == [
        f'{LOCAL}.ClusterCIDRs[0]: Invalid value: "10.0.0.0": {CIDR_BLOCK}'
    ]
    assert problems({"nodePortAddresses": ["::0", "::1"]}) == [
        f'NodePortAddresses[{at}]: Invalid value: "::{at}": {NO_CIDR}' for at in (0, 1)
    ]
    assert problems({"nodePortAddresses": ["127.0.0.0/8", "primary"]}) == [
        "NodePortAddresses[1]: Invalid value: \"primary\": can't use both 'primary' and CIDRs"
    ]


@pytest.mark.parametrize("cidrs", ["10.0.0.0/16,10.1.0.0/16", "10.0.0.0/16,fd00::/48,10.1.0.0/16"])
def test_pods_have_one_range_a_family(cidrs: str) -> None:
    [problem] = check(defaulted({"clusterCIDR": cidrs}))
    assert "must be a either a single CIDR or dual-stack pair of CIDRs" in str(problem)
    assert check(defaulted({"clusterCIDR": "10.0.0.0/16,fd00::/48"})) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "iptables"}, "proxy mode iptables is not supported"),
        ({"mode": "ipvs"}, "proxy mode ipvs is not supported"),
        ({"detectLocalMode": "BridgeInterface", "detectLocal.bridgeInterface": "x"}, "detectLocalMode BridgeInterface"),
        ({"oomScoreAdj": 2000, "mode": "x"}, r"failed validate: \[.*, .*\]"),
    ],
)
def test_what_this_proxy_does_not_do_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Permanent, match=message):
        settings.require(defaulted(given))


def test_fields_without_effect_are_named() -> None:
    values = defaulted({"ipvs.strictARP": True, "portRange": "2-7", "conntrack.min": 5, "nftables.masqueradeBit": 3})
    settings.require(values)
    assert settings.without_effect(values) == ["ipvs.strictARP", "portRange"]


def test_flags_are_fields() -> None:
    options = flags(
        *("--cluster-cidr=10.0.0.0/16,fd00::/48", "--nodeport-addresses", "10.0.0.0/8,fd00::/8", "--masquerade-all"),
        *("--conntrack-tcp-timeout-established=2h", "--hostname-override", "N1", "--proxy-mode=nftables"),
    )
    values = proxy_component.configuration(options)
    assert given(options)["conntrack.tcpEstablishedTimeout"] == 7200.0
    assert (values["hostnameOverride"], values["nftables.masqueradeAll"]) == ("n1", True)
    config = settings.proxy_config(values, "n1", ["192.168.0.5", "fd00::5"], ["IPv4", "IPv6"])
    assert config.local_pods == ("10.0.0.0/16", "fd00::/48")
    assert config.node_port_addresses == ("10.0.0.0/8", "fd00::/8")
    assert config.masquerade_own
    assert (config.masquerade_all, config.node_ips) == (True, ("192.168.0.5", "fd00::5"))


def test_a_file_replaces_all_flags_but_the_nodes_name(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(HEAD + "hostnameOverride: other\nclusterCIDR: 10.1.0.0/16\n")
    values = proxy_component.configuration(
        flags("--config", str(file), "--cluster-cidr=10.0.0.0/16", "--hostname-override= N1 ")
    )
    assert (values["clusterCIDR"], values["hostnameOverride"]) == ("10.1.0.0/16", "n1")
    assert proxy_component.configuration(flags("--config", str(file)))["hostnameOverride"] == "other"
    with pytest.raises(Permanent, match="empty hostname-override is invalid"):
        proxy_component.configuration(flags("--hostname-override= "))


def test_node_ports_answer_on_the_primary_addresses_unless_told_otherwise() -> None:
    ips = ["192.168.0.5", "fd00::5"]
    assert settings.node_port_ranges(defaulted({}), ips) == ["192.168.0.5/32", "fd00::5/128"]
    assert settings.node_port_ranges(defaulted({}), ["127.0.0.1"]) == []
    assert settings.node_port_ranges(defaulted({"nodePortAddresses": ["10.0.0.0/8"]}), ips) == ["10.0.0.0/8"]
    assert settings.health_check_addresses(["192.168.0.0/16"], ips) == ["192.168.0.5"]
    assert settings.health_check_addresses([], ips) == []


def test_the_nodes_addresses_are_those_of_its_object_or_as_told() -> None:
    addresses = [
        {"type": "Hostname", "address": "n1"},
        {"type": "ExternalIP", "address": "1.2.3.4"},
        {"type": "InternalIP", "address": "192.168.0.5"},
        {"type": "InternalIP", "address": "192.168.0.6"},
        {"type": "ExternalIP", "address": "fd00::5"},
    ]
    node = {"status": {"addresses": addresses}}
    assert settings.node_ips(node, "0.0.0.0") == ["192.168.0.5", "fd00::5"]
    assert settings.node_ips(node, "fd00::9") == ["fd00::9", "192.168.0.5"]
    assert settings.node_ips(None, "::") == ["127.0.0.1"]


def test_sysctls_of_connections() -> None:
    values = defaulted({"conntrack.udpTimeout": 30.0, "conntrack.tcpBeLiberal": True})
    assert sysctls.wanted(values, 2) == {
        "nf_conntrack_max": 131072,
        "nf_conntrack_tcp_timeout_established": 86400,
        "nf_conntrack_tcp_timeout_close_wait": 3600,
        "nf_conntrack_udp_timeout": 30,
        "nf_conntrack_tcp_be_liberal": 1,
    }
    assert sysctls.wanted(values, 8)["nf_conntrack_max"] == 8 * 32768
    assert sysctls.wanted(values, 1000)["nf_conntrack_max"] == 1 << 20
    assert "nf_conntrack_max" not in sysctls.wanted(values | {"conntrack.maxPerCore": 0}, 2)


def test_only_other_values_are_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name, value in (("nf_conntrack_max", 8), ("nf_conntrack_udp_timeout", 30), ("size", 1)):
        (tmp_path / name).write_text(f"{value}\n")
    wanted = {"nf_conntrack_max": 4000, "nf_conntrack_udp_timeout": 30, "nf_conntrack_gone": 1}
    sysctls.apply(wanted, tmp_path, tmp_path / "size")
    assert [(tmp_path / name).read_text() for name in ("nf_conntrack_max", "size")] == ["4000", "1000"]
    assert "nf_conntrack_udp_timeout to" not in caplog.text
    assert "nf_conntrack_gone stays as it is, not 1" in caplog.text
