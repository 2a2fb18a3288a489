"""Configurations of CNI plugins: which file counts, what a plugin is told, what its answers mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.cni import conf, results
from tiphys.runtime.cni.conf import CniError
from tiphys.runtime.cni.network import capabilities_of
from tiphys.runtime.connectivity import Bandwidth, PortMapping
from tiphys.runtime.types import SandboxSpec


def write(directory: Path, name: str, content: Any) -> None:
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))


def single(**fields: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": "bridge", **fields}


def test_the_first_file_by_name_that_can_be_read_counts(tmp_path: Path) -> None:
    write(tmp_path, "30-later.conf", single(name="later"))
    write(tmp_path, "20-list.conflist", {"cniVersion": "0.4.0", "name": "list", "plugins": [{"type": "ptp"}]})
    write(tmp_path, "10-broken.conf", "{")
    write(tmp_path, "05-nobodys.txt", single(name="nobodys"))
    write(tmp_path, "06-empty.conflist", {"cniVersion": "0.4.0", "name": "empty", "plugins": []})
    found = conf.load(tmp_path)
    assert (found.name, found.version, [each["type"] for each in found.plugins]) == ("list", "0.4.0", ["ptp"])
    assert found.source.endswith("20-list.conflist")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not an object"),
        (single(cniVersion="0.1.0"), r"cniVersion '0.1.0' is none of 0.3.0, 0.3.1"),
        (single(cniVersion=None), "cniVersion None"),
        (single(name="a/b"), "name 'a/b' must match"),
        (single(type="../sh"), "plugins must be objects with a type"),
        ({"cniVersion": "1.0.0", "name": "n", "plugins": [{}]}, "plugins must be objects with a type"),
    ],
)
def test_what_makes_no_sense_is_told(content: Any, words: str) -> None:
    with pytest.raises(CniError, match=words):
        conf.parse(content, "file")


def test_no_configuration_is_said_in_upstreams_words(tmp_path: Path) -> None:
    with pytest.raises(CniError, match=r"^cni plugin not initialized$"):
        conf.load(tmp_path)
    with pytest.raises(CniError, match=r"^cni plugin not initialized: .*No such file"):
        conf.load(tmp_path / "nowhere")


def test_the_latest_version_that_both_know_is_used() -> None:
    versions = ["0.4.0", "1.1.0", "9.0.0"]
    found = conf.parse(single(cniVersions=versions), "file")
    assert found.version == "1.1.0"
    assert found.since("1.0.0")
    assert not conf.parse(single(), "file").since("1.1.0")


def test_a_plugin_is_told_what_it_asked_for() -> None:
    plugin = {"type": "portmap", "snat": True, "capabilities": {"portMappings": True, "bandwidth": False}}
    config = conf.parse({"cniVersion": "1.0.0", "name": "n", "plugins": [plugin]}, "file")
    told = {"portMappings": [1], "bandwidth": {"ingressRate": 1}, "ipRanges": []}
    assert conf.execution(config, plugin, capabilities=told, previous={"ips": []}) == {
        "type": "portmap",
        "snat": True,
        "cniVersion": "1.0.0",
        "name": "n",
        "runtimeConfig": {"portMappings": [1]},
        "prevResult": {"ips": []},
    }
    valid = [{"containerID": "a", "ifname": "eth0"}]
    assert conf.execution(config, plugin, valid=valid)["cni.dev/valid-attachments"] == valid
    assert "runtimeConfig" not in conf.execution(config, {"type": "ptp"}, capabilities=told)


def test_capabilities_have_their_conventional_names() -> None:
    ports = (PortMapping("tcp", 80, 8080), PortMapping("udp", 53, 5353, "127.0.0.1"))
    spec = SandboxSpec("s", ports=ports, bandwidth=Bandwidth(egress=1_000_000_000))
    assert capabilities_of(spec, ("10.1.0.0/24",)) == {
        "ipRanges": [[{"subnet": "10.1.0.0/24"}]],
        "portMappings": [
            {"hostPort": 80, "containerPort": 8080, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "127.0.0.1"},
        ],
        "bandwidth": {"egressRate": 1_000_000_000, "egressBurst": 10_000_000},
    }


def test_a_sandboxs_addresses_are_those_of_its_own_interface() -> None:
    result = {
        "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/ns"}, {"name": "net1", "sandbox": "/ns"}],
        "ips": [
            {"address": "10.1.0.2/24", "interface": 1},
            {"address": "fd00::2/64", "interface": 1},
            {"address": "10.9.0.2/24", "interface": 2},
            {"address": "10.1.0.1/24", "interface": 0},
            {"address": "10.2.0.2/24"},
        ],
    }
    assert results.addresses(result, "eth0") == ("10.1.0.2", "fd00::2", "10.2.0.2")


@pytest.mark.parametrize(
    ("output", "errors", "words"),
    [
        (b'{"code": 11, "msg": "no room", "details": "10.0.0.0/8"}', b"", "no room; 10.0.0.0/8"),
        (b'{"code": 11, "msg": "no room"}', b"noise", "no room$"),
        (b"", b"panic: oops", "netplugin failed: 'panic: oops'"),
        (b"", b"", "netplugin failed with no error message: 3"),
    ],
)
def test_a_plugins_error_keeps_its_words(output: bytes, errors: bytes, words: str) -> None:
    error = results.failure("bridge", "ADD", 3, output, errors)
    with pytest.raises(CniError, match=r'plugin type="bridge" failed \(add\): ' + words):
        raise error
