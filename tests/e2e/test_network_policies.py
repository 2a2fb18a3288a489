"""Network policies with real pods: what gets through, that probes do, and that a pod is covered from its first moment
on, also while the process that enforces them is dead."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e

NODE, OTHER = "node-1", "node-2"
ECHOS = "grep Icmp: /proc/net/snmp | tail -1 | awk '{print $10}'"
"""How many echo requests came to the pod's network so far (InEchos)."""


def pod(name: str, node: str, command: str, **labels: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": "busybox", "command": ["sh", "-c", command]}
    container |= {"ports": [{"containerPort": 8080, "name": "web"}]}
    if "httpd" in command:
        container["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/hostname"}, "periodSeconds": 1}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def policy(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    meta = {"name": name}
    spec["podSelector"] = {"matchLabels": selector}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


@pytest.fixture
def policies(cluster: Commands) -> Iterator[Commands]:
    """A namespace for the test alone, which kubectl's context names meanwhile."""
    cluster.kubectl("create", "namespace", "policies")
    cluster.kubectl("config", "set-context", "--current", "--namespace=policies")
    yield cluster
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.kubectl("delete", "namespace", "policies")


def apply(commands: Commands, *items: dict[str, Any]) -> None:
    commands.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def address(commands: Commands, name: str) -> str:
    return commands.out("get", "pod", name, "-o", "jsonpath={.status.podIP}")


def reaches(commands: Commands, client: str, target: str) -> bool:
    """Whether a connection comes about within a second."""
    asked = commands.kubectl("exec", client, "--", "sh", "-c", f"echo | nc -w 1 {target} 8080", check=False)
    return not asked.returncode


def test_what_policies_say_is_so_and_probes_pass_all_the_same(policies: Commands) -> None:
    serve = "exec httpd -f -p 8080 -h /etc"
    wait = "exec sleep 1000"
    apply(policies, pod("server", NODE, serve, app="server"), pod("near", NODE, wait, app="a"), pod("far", OTHER, wait))
    for name in ("server", "near", "far"):
        policies.wait(f"pod/{name}", "condition=Ready")
    server = address(policies, "server")
    assert reaches(policies, "near", server)
    allowed = [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}], "ports": [{"port": "web"}]}]
    apply(policies, policy("server", {"app": "server"}, ingress=allowed))
    policies.until(lambda: not reaches(policies, "far", server))
    assert reaches(policies, "near", server)
    policies.kubectl("label", "pod", "far", "app=a")
    policies.until(lambda: reaches(policies, "far", server))
    apply(policies, policy("near", {"app": "a"}, policyTypes=["Egress"]))
    policies.until(lambda: not reaches(policies, "near", server) and not reaches(policies, "far", server))
    assert not policies.get("pod", "server")["status"]["containerStatuses"][0]["restartCount"]
    policies.wait("pod/server", "condition=Ready")
    policies.kubectl("delete", "networkpolicies", "--all")
    policies.until(lambda: reaches(policies, "near", server))


def test_a_new_pod_is_covered_from_its_first_moment_also_while_nobody_enforces(policies: Commands) -> None:
    apply(policies, policy("deny", {"app": "new"}), pod("flood", NODE, "exec sleep 1000"))
    policies.wait("pod/flood", "condition=Ready")
    start, _, own = address(policies, "flood").rpartition(".")
    targets = " ".join(f"{start}.{number}" for number in range(int(own) + 1, int(own) + 7))
    flood = f"for one in {targets}; do ping -q -i 0.01 $one >/dev/null & done; wait"
    watch = f"{ECHOS} > /first; exec sleep 1000"
    with policies.popen("exec", "flood", "--", "sh", "-c", flood) as flooding:
        names = ("one", "two", "free")
        apply(policies, *(pod(name, NODE, watch, app="old" if name == "free" else "new") for name in names))
        for name in names:
            policies.wait(f"pod/{name}", "condition=Ready")
        policies.until(lambda: _came(policies, "free") > 10)
        components = json.loads(policies.tiphys("status", "e2e", "-o", "json").stdout)["components"]
        os.kill(next(each["pid"] for each in components if each["component"] == NODE), signal.SIGKILL)
        policies.tiphys("up", "e2e")
        policies.kubectl("config", "set-context", "--current", "--namespace=policies")
        before = _came(policies, "free")
        policies.until(lambda: _came(policies, "free") > before)
        assert (_came(policies, "one"), _came(policies, "two")) == (0, 0)
        flooding.kill()


def _came(commands: Commands, name: str) -> int:
    """Echo requests since the pod's container began."""
    first, now = commands.out("exec", name, "--", "sh", "-c", f"cat /first; {ECHOS}").split()
    return int(now) - int(first)
