"""Variables from files (fileKeyRef), defaults of the downward API, service links."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tiphys.kubelet.downward import NoSuchField, PodFacts, resource_value
from tiphys.kubelet.env import ConfigError, make_env, service_links
from tiphys.kubelet.envfiles import file_value, parse_env_file

GOOD = """
# a comment
  INDENTED='yes'   # and another
A='1'

MULTI='one
  two # no comment

four'
EQUALS='a=b=c'
DOLLAR='$A ${B} `x` "q" \\'
EMPTY=''
GAP= 'value'
LAST='end'
"""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INDENTED", "yes"),
        ("A", "1"),
        ("MULTI", "one\n  two # no comment\n\nfour"),
        ("EQUALS", "a=b=c"),
        ("DOLLAR", '$A ${B} `x` "q" \\'),
        ("EMPTY", ""),
        ("GAP", ""),
        ("LAST", "end"),
        ("NOT_THERE", ""),
    ],
)
def test_values_are_what_stands_in_single_quotes(key: str, value: str) -> None:
    assert parse_env_file(GOOD, key) == value


@pytest.mark.parametrize("line", ["A", "A=1", 'A="1"', "A ='1'", "='1'", "A='1'x", "A='1", "A='1''2'", "A" * 70_000])
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"format|too long"):
        parse_env_file(f"B='2'\n{line}\n", "C")
    assert parse_env_file("B='2'\nA=1\n", "B") == "2"


class Volumes:
    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, pod: Any, name: str) -> Path:
        return self._root


def test_a_link_of_a_container_s_does_not_lead_out_of_the_volume(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("K='host'\n")
    root = tmp_path / "volume"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    (root / "good").write_text("K='v'\n")
    volumes: Any = Volumes(root)

    def value(path: str, key: str = "K", **more: Any) -> str | None:
        return file_value(volumes, {}, {"volumeName": "v", "path": path, "key": key, **more})

    assert value("good") == "v"
    for path in ("link", "loop", "none", "../secret"):
        with pytest.raises(ConfigError, match="couldn't parse env file"):
            value(path)
    with pytest.raises(ConfigError, match=r'environment variable key "X" not found in file ".*/good"'):
        value("good", "X")
    assert value("good", "X", optional=True) is None


def test_an_optional_key_that_is_not_there_leaves_its_variable_out() -> None:
    pod = {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": []}}
    reference = {"fileKeyRef": {"volumeName": "v", "path": "f", "key": "K", "optional": True}}
    container = {"name": "c", "env": [{"name": "A", "valueFrom": reference}, {"name": "B", "value": "$(A)"}]}
    sources: Any = None
    assert make_env(PodFacts(pod), container, sources, {}, lambda _: None) == {"B": "$(A)"}
    assert make_env(PodFacts(pod), container, sources, {}, lambda _: "x") == {"A": "x", "B": "x"}


def facts(**spec: Any) -> PodFacts:
    pod = {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"name": "c"}], **spec}}
    return PodFacts(pod, allocatable={"cpu": "4", "memory": "8Gi", "hugepages-2Mi": "4Mi"})


def test_limits_default_to_the_pod_s_in_environments_and_to_the_node_s_in_volumes() -> None:
    whole = facts(resources={"limits": {"cpu": "2", "memory": "1Gi"}})
    reference = {"resource": "limits.cpu"}
    assert resource_value(whole, reference, {"name": "c"}) == "2"
    assert resource_value(whole, {**reference, "containerName": "c"}, None) == "4"
    assert resource_value(facts(), reference, {"name": "c"}) == "4"
    assert resource_value(facts(), {"resource": "limits.memory", "divisor": "1Mi"}, {"name": "c"}) == "8192"
    assert resource_value(facts(), {"resource": "requests.cpu"}, {"name": "c"}) == "0"
    assert resource_value(facts(), {"resource": "limits.hugepages-2Mi"}, {"name": "c"}) == "0"


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ({"resource": "limits.pods"}, "unsupported container resource : limits.pods"),
        ({"resource": "limits.cpu", "containerName": "x"}, "container x not found"),
    ],
)
def test_resources_that_there_are_not(reference: Any, text: str) -> None:
    with pytest.raises(NoSuchField) as raised:
        resource_value(facts(), reference, {"name": "c"})
    assert str(raised.value) == text


def service(name: str, namespace: str, address: str = "10.0.0.1") -> dict[str, Any]:
    spec = {"clusterIP": address, "ports": [{"port": 80}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_a_service_kubernetes_of_the_pod_s_own_namespace_wins() -> None:
    services = [
        service("kubernetes", "default", "10.0.0.1"),
        service("kubernetes", "ns", "10.0.0.2"),
        service("headless", "ns", "None"),
        service("other", "elsewhere"),
    ]
    for listed in (services, services[::-1]):
        assert service_links(listed, "ns", enabled=True)["KUBERNETES_SERVICE_HOST"] == "10.0.0.2"
        assert service_links(listed, "ns", enabled=False)["KUBERNETES_SERVICE_HOST"] == "10.0.0.1"
        assert not [name for name in service_links(listed, "ns", enabled=True) if "KUBERNETES" not in name]
