"""What pods ask of their network besides an address: host ports and bandwidths, on a node that is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.base.nftables import Nftables
from tiphys.runtime import netns
from tiphys.runtime.hostports import TABLE

pytestmark = pytest.mark.e2e

NODE, PORT = "node-1", 18080


def web(name: str, port: dict[str, Any], **annotations: str) -> dict[str, Any]:
    command = ["sh", "-c", "mkdir /www; echo $HOSTNAME > /www/index.html; exec httpd -f -p 8080 -h /www"]
    container: dict[str, Any] = {"name": "main", "image": "busybox", "command": command}
    container |= {"ports": [{"containerPort": 8080, **port}], "readinessProbe": {"httpGet": {"port": 8080}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "containers": [container]},
    }


@pytest.fixture
def pods(cluster: Commands) -> Iterator[Commands]:
    address = cluster.out("get", "node", NODE, "-o", "jsonpath={.status.addresses[0].address}")
    items = [web("everywhere", {"hostPort": PORT}), web("here", {"hostPort": PORT + 1, "hostIP": address})]
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    for name in ("everywhere", "here"):
        cluster.wait(f"pod/{name}", "condition=Ready")
    yield cluster
    cluster.kubectl("delete", "pod", "everywhere", "here", "--force", "--ignore-not-found")


def ask(address: str, port: int) -> str:
    """ "" when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=2) as answer:
            return str(answer.read().decode().strip())
    except OSError:
        return ""


def table(cluster: Commands) -> str:
    (space,) = Path(cluster.environment["TIPHYS_RUN"], "netns").glob(f"*-{NODE}")
    with Nftables(partial(netns.inside, str(space))) as firewall:
        return firewall.run("list ruleset").partition(f"table inet {TABLE} {{")[2]


def test_host_ports_outlive_the_process_of_their_node(pods: Commands) -> None:
    status = pods.get("pod", "everywhere")["status"]
    address, pod = status["hostIP"], status["podIP"]
    assert status["hostIPs"][0] == {"ip": address}

    def answers() -> tuple[str, str]:
        return ask(address, PORT), ask(address, PORT + 1)

    assert answers() == ("everywhere", "here")
    components = json.loads(pods.tiphys("status", "e2e", "-o", "json").stdout)["components"]
    os.kill(next(each["pid"] for each in components if each["component"] == NODE), signal.SIGKILL)
    assert answers() == ("everywhere", "here")
    pods.tiphys("up", "e2e")
    assert answers() == ("everywhere", "here")
    assert pods.get("pod", "everywhere")["status"]["podIP"] == pod
    pods.kubectl("delete", "pod", "here", "--wait")
    pods.until(lambda: answers() == ("everywhere", ""))
    pods.kubectl("delete", "pod", "everywhere", "--wait")
    pods.until(lambda: not table(pods))


def test_a_bandwidth_that_cannot_be_is_told_in_an_event(cluster: Commands) -> None:
    wrong = web("slow", {}, **{"kubernetes.io/egress-bandwidth": "10"})
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(wrong))
    try:
        words = ("get", "events", "--field-selector=involvedObject.name=slow,reason=FailedCreatePodSandBox")
        cluster.until(lambda: "resource is unreasonably small (< 1kbit)" in cluster.out(*words))
    finally:
        cluster.kubectl("delete", "pod", "slow", "--force")
