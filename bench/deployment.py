"""A Deployment of a thousand replicas on a whole control plane: how long until it has settled.

    python bench/deployment.py [--replicas N] [--nodes N] [--planes together,apart]
    python bench/deployment.py --against-dir DIR [--planes ...,upstream,upstream-fast]

`together` is Tiphys as `tiphys up` runs it, one process; `apart` is `tiphys apiserver`, `controller-manager` and
`scheduler`. With --against-dir (kube-apiserver, etcd, kube-controller-manager, kube-scheduler) the same is done to
upstream, once with its default limits on requests (`upstream`) and once with limits that never bite
(`upstream-fast`). Nodes are objects; what a kubelet says about pods is said by this script, the same way for all,
from the same cores.

What is measured: creating it until all are available; a rolling update of all; scaling to nothing until no pod is left;
the same size again; deleting it until garbage collection has taken ReplicaSets and pods. "CPU" is what all
processes of the control plane used meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from servers import CLOCK, TOKEN, Target, free_port, running, tiphys, upstream

from tiphys.base.errors import NotFound
from tiphys.client.config import ClientConfig
from tiphys.client.https import HttpsClient
from tiphys.client.informer import Informer, InformerFactory
from tiphys.client.resources import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICA_SETS, SERVICE_ACCOUNTS
from tiphys.client.types import Client, Object
from tiphys.testing.nodes import FakeNodes

TICKS = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).parent
NAMESPACE, NAME = "bench", "web"
KUBELETS = 16
"""Statuses that the nodes write at once."""
FAST = ["--kube-api-qps", "5000", "--kube-api-burst", "10000"]


@dataclass
class Figures:
    """What was measured of one control plane: phase -> (seconds, seconds of CPU)."""

    name: str
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, phase: str, seconds: float, cpu: float) -> None:
        self.phases[phase] = seconds, cpu
        print(f"  {phase:32} {seconds:7.2f} s {cpu:7.2f} s CPU", flush=True)


def deployment(replicas: int) -> dict[str, Any]:
    labels = {"app": NAME}
    container = {"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def settled(replicas: int) -> Callable[[Object], bool]:
    """Whether the Deployment's status says that all is done."""

    def check(found: Object) -> bool:
        status = found.get("status") or {}
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        counts = [status.get(name) or 0 for name in ("replicas", "updatedReplicas", "availableReplicas")]
        reasons = {each["reason"] for each in status.get("conditions") or ()}
        return seen and counts == [replicas] * 3 and "NewReplicaSetAvailable" in reasons

    return check


class Bench:
    """The work on one control plane."""

    def __init__(self, target: Target, options: argparse.Namespace) -> None:
        self._target, self._options = target, options
        self.figures = Figures(target.name)
        self._changed = asyncio.Event()
        self._generation = 1
        """Of the Deployment, as last written: the cache may be behind."""
        self._client: Client
        self._deployments: Informer
        self._pods: Informer
        self._sets: Informer

    async def run(self) -> None:
        config = ClientConfig(server=self._target.url, token=TOKEN, insecure=True)
        client = self._client = HttpsClient(config, agent="bench")
        nodes = FakeNodes(client, CLOCK, bind=False, workers=KUBELETS)
        try:
            async with InformerFactory(client, CLOCK) as informers, asyncio.TaskGroup() as tasks:
                self._deployments, self._pods, self._sets = (
                    informers.get(each) for each in (DEPLOYMENTS, PODS, REPLICA_SETS)
                )
                for informer in (self._deployments, self._pods, self._sets):
                    informer.subscribe(lambda old, new: self._changed.set())
                await informers.wait_synced()
                work = tasks.create_task(nodes.run())
                await self._prepare(nodes)
                await self._phases()
                work.cancel()
        finally:
            await client.close()

    async def _prepare(self, nodes: FakeNodes) -> None:
        for number in range(self._options.nodes):
            await nodes.add(f"node-{number:03}")
        meta = {"name": NAMESPACE}
        await self._client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        for _ in range(600):
            with contextlib.suppress(NotFound):
                await self._client.get(SERVICE_ACCOUNTS, "default", NAMESPACE)
                if not any(node["spec"].get("taints") for node in (await self._client.list(NODES)).items):
                    await CLOCK.sleep(2)
                    return
            await CLOCK.sleep(0.1)
        raise SystemExit(f"{self._target.name}: no controller seems to work; see its log")

    async def _phases(self) -> None:
        count = self._options.replicas
        async with self._measured(f"create, {count:,} available"):
            await self._client.create(DEPLOYMENTS, deployment(count))
            await self._until(lambda: self._is(settled(count)))
        async with self._measured(f"rolling update of {count:,}"):
            await self._patch({"template": {"metadata": {"annotations": {"version": "2"}}}})
            await self._until(lambda: self._is(settled(count)))
        async with self._measured("scale to 0, no pod left"):
            await self._patch({"replicas": 0})
            await self._until(lambda: self._is(settled(0)) and not len(self._pods))
        async with self._measured(f"scale to {count:,}, all available"):
            await self._patch({"replicas": count})
            await self._until(lambda: self._is(settled(count)))
        async with self._measured("delete, everything collected"):
            await self._client.delete(DEPLOYMENTS, NAME, NAMESPACE, propagation="Background")
            await self._until(lambda: not len(self._deployments) and not len(self._sets) and not len(self._pods))

    async def _patch(self, spec: dict[str, Any]) -> None:
        patched = await self._client.patch(DEPLOYMENTS, NAME, {"spec": spec}, NAMESPACE)
        self._generation = int(patched["metadata"]["generation"])

    def _is(self, check: Callable[[Object], bool]) -> bool:
        found = self._deployments.get(NAMESPACE, NAME)
        return found is not None and found["metadata"]["generation"] >= self._generation and check(found)

    async def _until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(self._options.patience):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    @contextlib.asynccontextmanager
    async def _measured(self, phase: str) -> Any:
        before, start = self._cpu(), CLOCK.monotonic()
        yield
        self.figures.add(phase, CLOCK.monotonic() - start, self._cpu() - before)
        await CLOCK.sleep(self._options.rest)

    def _cpu(self) -> float:
        """Seconds of CPU time that the control plane has used."""
        ticks = 0
        for pid in self._target.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS


def kubeconfig(folder: str, url: str) -> str:
    path = Path(folder, "kubeconfig")
    context = {"name": "bench", "context": {"cluster": "bench", "user": "bench"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "bench", "user": {"token": TOKEN}}],
        "contexts": [context],
        "current-context": "bench",
    }
    path.write_text(json.dumps(document))
    return str(path)


@contextlib.contextmanager
def beside(name: str, target: Target, commands: dict[str, list[str]]) -> Iterator[Target]:
    """`target` with further components, each in a process of its own; {kubeconfig} in a command is replaced."""
    with tempfile.TemporaryDirectory(dir=".") as folder, contextlib.ExitStack() as stack:
        config = kubeconfig(folder, target.url)
        pids = [
            stack.enter_context(running([word.format(kubeconfig=config) for word in command], folder, component))
            for component, command in commands.items()
        ]
        yield Target(name, target.url, target.token, (*target.pids, *pids))


@contextlib.contextmanager
def together() -> Iterator[Target]:
    with tiphys([], [str(HERE / "control_plane.py")]) as target:
        yield Target("together", target.url, target.token, target.pids)


@contextlib.contextmanager
def apart() -> Iterator[Target]:
    program = [sys.executable, "-m", "tiphys"]
    commands = {
        name: [*program, name, "--kubeconfig", "{kubeconfig}", "--leader-elect=false"]
        for name in ("controller-manager", "scheduler")
    }
    with tiphys([]) as server, beside("apart", server, commands) as target:
        yield target


@contextlib.contextmanager
def theirs(name: str, folder: Path, limits: list[str]) -> Iterator[Target]:
    common = ["--kubeconfig", "{kubeconfig}", "--leader-elect=false", *limits]
    ports = [f"--secure-port={free_port()}", f"--secure-port={free_port()}"]
    manager = [str(folder / "kube-controller-manager"), *common, ports[0], "--use-service-account-credentials"]
    scheduler = [str(folder / "kube-scheduler"), *common, ports[1]]
    commands = {"kube-controller-manager": manager, "kube-scheduler": scheduler}
    server = upstream(str(folder / "kube-apiserver"), str(folder / "etcd"), [])
    with server as started, beside(name, started, commands) as target:
        yield target


def plane(name: str, options: argparse.Namespace) -> contextlib.AbstractContextManager[Target]:
    if name == "together":
        return together()
    if name == "apart":
        return apart()
    if options.against_dir is None:
        raise SystemExit(f"{name} needs --against-dir")
    return theirs(name, options.against_dir, FAST if name == "upstream-fast" else [])


def compare(found: list[Figures]) -> None:
    """A table in Markdown: seconds, and how many times as long each takes as the first."""
    print("\n| work | " + " | ".join(each.name for each in found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for phase, (base, _) in found[0].phases.items():
        cells = []
        for each in found:
            seconds, cpu = each.phases[phase]
            ratio = "" if each is found[0] else f", {seconds / base:.1f} times"
            cells.append(f"{seconds:.1f} s ({cpu:.1f} s CPU){ratio}")
        print(f"| {phase} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--rest", type=float, default=2.0, help="seconds between phases")
    parser.add_argument("--patience", type=float, default=1200.0, help="seconds that a phase may take")
    parser.add_argument("--against-dir", type=Path, metavar="DIR", help="where upstream's binaries are")
    parser.add_argument("--planes", default="", help="together, apart, upstream, upstream-fast; by commas")
    options = parser.parse_args()
    default = "together,apart" + (",upstream,upstream-fast" if options.against_dir else "")
    found = []
    for name in (options.planes or default).split(","):
        with plane(name, options) as target:
            print(f"{name}:", flush=True)
            bench = Bench(target, options)
            uvloop.run(bench.run())
            found.append(bench.figures)
    compare(found)


if __name__ == "__main__":
    main()
