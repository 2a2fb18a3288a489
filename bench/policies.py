"""Network policies of one node in a large cluster: how long it takes until they are in the kernel, and each change.

    python -m bench.policies [--policies 1000] [--pods 5000] [--local 110]

Needs root: rules go into a network namespace made for it. Pods have 1 of 500 labels in 50 namespaces; policies select
by label, with a selector of their own each, and let pods of the namespace and of another one in on two ports.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tiphys.base.clock import SystemClock
from tiphys.base.nftables import Nftables
from tiphys.proxy.policies.compiler import Compiler
from tiphys.proxy.policies.facts import Pod, pod_of
from tiphys.proxy.policies.kernel import Kernel
from tiphys.proxy.policies.policy import Policy, policy_of
from tiphys.runtime import netns

SPACES, APPS, ROUNDS = 50, 500, 100
clock = SystemClock()


def make_pod(number: int) -> Pod:
    labels = {"app": f"app-{number % APPS}", "pod-template-hash": f"{number % APPS:x}", "tier": f"t{number % 3}"}
    address = f"10.{200 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    meta = {"namespace": f"ns-{number % SPACES}", "name": f"pod-{number}", "uid": f"u{number}", "labels": labels}
    ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    status = {"phase": "Running", "podIPs": [{"ip": address}]}
    return pod_of({"metadata": meta, "spec": {"containers": [{"ports": ports}]}, "status": status})


def make_policy(number: int) -> Policy:
    space = number % SPACES
    app = (number // SPACES * SPACES + space) % APPS
    other = {"matchLabels": {"kubernetes.io/metadata.name": f"ns-{(number * 7 + 1) % SPACES}"}}
    peers: list[dict[str, Any]] = [
        {"podSelector": {"matchLabels": {"app": f"app-{(number * 13) % APPS}"}}},
        {"namespaceSelector": other, "podSelector": {"matchLabels": {"tier": f"t{number % 3}"}}},
    ]
    rule = {"from": peers, "ports": [{"port": 8080}, {"port": "http"}]}
    spec = {"podSelector": {"matchLabels": {"app": f"app-{app}"}}, "ingress": [rule], "policyTypes": ["Ingress"]}
    return policy_of({"metadata": {"namespace": f"ns-{space}", "name": f"p{number}"}, "spec": spec})


class Node:
    """One that has `local` of the pods."""

    def __init__(self, kernel: Kernel, sizes: argparse.Namespace) -> None:
        self.kernel, self.compiler = kernel, Compiler()
        self.pods = [make_pod(number) for number in range(sizes.pods)]
        self.policies = [make_policy(number) for number in range(sizes.policies)]
        self.local = self.pods[: sizes.local]

    def know(self) -> None:
        """What the informers' first lists tell."""
        for number in range(SPACES):
            self.compiler.set_namespace(f"ns-{number}", {"kubernetes.io/metadata.name": f"ns-{number}"})
        for pod in self.local:
            self.compiler.attach(pod, pod.addresses)
        for pod in self.pods:
            self.compiler.set_pod(pod.uid, pod)
        for policy in self.policies:
            self.compiler.set_policy(policy.key, policy)
        self.compiler.settle()

    def bring(self) -> None:
        """Into the kernel."""
        self.compiler.settle()
        if not self.kernel.known:
            self.kernel.read()
            self.compiler.touched |= self.kernel.everything(self.compiler.ruleset)
        self.kernel.carry_out(self.kernel.plan(self.compiler.ruleset, self.compiler.touched))
        self.compiler.touched.clear()

    def replace_peer(self, number: int) -> None:
        """A pod of another node gets another address."""
        pod = self.pods[len(self.local) + number]
        moved = replace(pod, addresses=(f"10.250.{number >> 8}.{number & 255}",), revision=pod.revision + 1)
        self.compiler.set_pod(pod.uid, moved)
        self.bring()

    def replace_pod(self, number: int) -> None:
        """A pod of this node goes, and another of its kind comes."""
        old = self.local[number % len(self.local)]
        self.compiler.set_pod(old.uid, None)
        self.compiler.release(old.uid, old.addresses)
        new = replace(old, uid=f"new-{number}", addresses=(f"10.251.{number >> 8}.{number & 255}",))
        self.compiler.attach(new, new.addresses)
        self.local[number % len(self.local)] = new
        self.bring()

    def change_policy(self, number: int) -> None:
        policy = self.policies[number % len(self.policies)]
        ingress = (*(policy.ingress or ()), *(make_policy(number + 1).ingress or ()))
        self.compiler.set_policy(policy.key, replace(policy, ingress=ingress))
        self.bring()


def timed(work: Callable[[], None]) -> float:
    """Milliseconds."""
    began = clock.monotonic()
    work()
    return (clock.monotonic() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, number in (("policies", 1000), ("pods", 5000), ("local", 110)):
        parser.add_argument(f"--{name}", type=int, default=number)
    sizes = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: rules go into a network namespace")
    with tempfile.TemporaryDirectory() as directory:
        space = Path(directory, "netns")
        netns.persist(space)
        try:
            measure(Node(Kernel(lambda: Nftables(lambda work: netns.inside(str(space), work))), sizes))
        finally:
            netns.drop(space)


def measure(node: Node) -> None:
    show("all known, worked out", [timed(node.know)])
    rules = node.compiler.ruleset
    show("all of it into the kernel", [timed(node.bring)])
    print(f"{len(rules.chains)} chains, {len(rules.sets)} sets, {sum(map(len, rules.sets.values()))} elements")
    node.kernel.forget()
    show("taken over after a restart", [timed(node.bring)])
    changes: tuple[tuple[str, Callable[[int], None]], ...] = (
        ("a peer elsewhere gets another address", node.replace_peer),
        ("a pod of the node is replaced", node.replace_pod),
        ("a policy changes", node.change_policy),
    )
    for what, change in changes:
        numbers = random.sample(range(len(node.pods) - len(node.local)), ROUNDS)
        show(what, [timed(partial(change, number)) for number in numbers])


def show(what: str, times: list[float]) -> None:
    spread = f"   (p95 {sorted(times)[int(len(times) * 0.95)]:.2f})" if len(times) > 1 else ""
    print(f"{what:40} {statistics.median(times):9.2f} ms{spread}")


if __name__ == "__main__":
    main()
