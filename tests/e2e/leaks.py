"""Pods of all kinds come and go on a real node; afterwards nothing of them may be left on the machine.

    cd tests && PYTHONPATH=../src python -m e2e.leaks --pods 2000 --image busybox.tar

Counted before and after: processes, mounts, cgroups, network devices, namespaces, nftables rules, addresses, files and
descriptors, and the memory of each process. Some clients (exec, attach, logs, port-forward) vanish in the middle.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from e2e.commands import Commands
from tiphys.base.clock import SystemClock

CLOCK = SystemClock()
NAME = "leaks"
PATIENCE = 90.0
"""Seconds in which the last traces of pods must have gone."""
AT_ONCE = 12
LIMIT = 240.0
"""Seconds in which a batch must be gone."""
POOLED = 6
"""Descriptors that a process may have more than before: connections kept for the next request."""
VOLUMES: tuple[dict[str, Any], ...] = (
    {"emptyDir": {}},
    {"emptyDir": {"medium": "Memory"}},
    {"configMap": {"name": "kube-root-ca.crt"}},
    {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
)


def sh(script: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", script], **more}


def specs() -> list[dict[str, Any]]:
    """One pod's spec of each kind."""
    hook = {"exec": {"command": ["sleep", "0.2"]}}
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    refused = {"httpGet": {"port": 1}, "periodSeconds": 1, "failureThreshold": 1}
    forever = "while :; do sleep 0.5; done"
    init = [{**sh("true"), "name": "init"}, {**sh(forever), "name": "sidecar", "restartPolicy": "Always"}]
    never = {"restartPolicy": "Never"}
    return [
        {**never, "containers": [sh("echo well")]},
        {**never, "containers": [sh("sleep 0.5; exit 3")]},
        {"containers": [sh("exit 1")]},
        {"containers": [sh(forever, readinessProbe=probe, livenessProbe=probe)]},
        {"containers": [sh(forever, livenessProbe=refused)]},
        {"containers": [sh(forever, lifecycle={"postStart": hook, "preStop": hook})]},
        {"containers": [sh(forever)], "hostNetwork": True},
        {"containers": [sh(forever), {**sh("sleep 1"), "name": "d"}], "shareProcessNamespace": True},
        {"containers": [sh(forever)], "initContainers": init},
        {**never, "containers": [{**sh(""), "command": ["/no/such/program"]}]},
        {"containers": [{**sh(forever), "image": "no-such-image"}]},
        {"containers": [sh("trap '' TERM; " + forever)]},
        {"containers": [sh("sleep 100 & sleep 100 & " + forever)]},
        {"containers": [sh("yes | head -c 3000000; " + forever)]},
    ]


class Leaks:
    """A cluster and its churn."""

    def __init__(self, commands: Commands, seed: int) -> None:
        self._commands = commands
        self._random = random.Random(seed)
        self._made = 0
        self._clients: list[subprocess.Popen[str]] = []

    def churn(self, pods: int) -> None:
        """`pods` pods' lives, some at a time."""
        for _ in range(0, pods, AT_ONCE):
            names = self._batch()
            self._bother(names)
            threading.Event().wait(self._random.uniform(0.0, 3.0))
            for grace in ("0", "1", "2"):
                some = [name for name in names if self._random.random() < 0.5]
                if some:
                    force = ["--force"] if grace == "0" else []
                    words = (f"--grace-period={grace}", "--wait=false", "--ignore-not-found", *force)
                    self._commands.kubectl("delete", "pod", *some, *words)
            self._commands.kubectl("delete", "pod", *names, "--wait=false", "--ignore-not-found", "--grace-period=1")
            self._commands.until(lambda: not self._commands.get("pods")["items"], LIMIT)
            for client in self._clients:
                client.kill()
                client.communicate()
            self._clients.clear()

    def _batch(self) -> list[str]:
        kinds, items, names = specs(), [], []
        for _ in range(AT_ONCE):
            spec = kinds[self._made % len(kinds)]
            self._made += 1
            names.append(f"pod-{self._made}")
            volumes = [{"name": f"v{n}", **volume} for n, volume in enumerate(VOLUMES) if self._random.random() < 0.4]
            for container in spec["containers"]:
                container["volumeMounts"] = [
                    {"name": one["name"], "mountPath": f"/volumes/{one['name']}"} for one in volumes
                ]
            meta = {"name": names[-1], "labels": {"app": "leaks"}}
            spec = {**spec, "volumes": volumes, "terminationGracePeriodSeconds": 2}
            items.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        self._commands.kubectl("create", "-f", "-", stdin=json.dumps(listed))
        return names

    def _bother(self, names: Sequence[str]) -> None:
        """Clients that go away without a word, or whose pod goes away under them."""
        for words in (
            ("exec", "-i", "{}", "--", "sleep", "100"),
            ("logs", "-f", "{}"),
            ("attach", "{}"),
            ("port-forward", "{}", ":80"),
        ):
            name = self._random.choice(names)
            self._clients.append(self._commands.popen(*(word.format(name) for word in words)))

    def quiet(self) -> Counter[str]:
        """What there is, once the last traces are being removed no more."""
        found = self.census()
        end = CLOCK.monotonic() + 30
        while CLOCK.monotonic() < end:
            threading.Event().wait(1.0)
            before, found = found, self.census()
            if before == found:
                break
        return found

    def left(self, before: Counter[str]) -> dict[str, tuple[int, int]]:
        """What there is more of than before and does not go: what could not be removed is tried again after 10 s, and a
        minute later leftovers are looked for."""
        end = CLOCK.monotonic() + PATIENCE
        while (found := grown(before, self.census())) and CLOCK.monotonic() < end:
            threading.Event().wait(1.0)
        return found

    def census(self) -> Counter[str]:
        """How much there is of each kind of thing that pods could leave."""
        found: Counter[str] = Counter()
        home = str(self._commands.home)
        for pid, command in processes(home):
            found[f"process {command}"] += 1
            found[f"descriptors of {command}"] += sum(1 for _ in entries(Path("/proc", pid, "fd")))
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            found["mounts"] = sum(1 for line in file if home in line)
        for root in Path("/sys/fs/cgroup").glob("*/tiphys"):
            found[f"cgroups {root.parent.name}"] = sum(1 for _, _, _ in os.walk(root / NAME))
        for space in Path(self._commands.environment["TIPHYS_RUN"], "netns").glob("*"):
            found[f"devices in {space.name}"] = inside(space, "ip", "-o", "link")
            found[f"rules in {space.name}"] = inside(space, "nft", "list", "ruleset")
        for book in Path(home).rglob("addresses.json"):
            found["addresses"] += len(json.loads(book.read_text())["owners"])
        for place in ("runtime", "kubelet", "pods"):
            for directory in Path(home).rglob(f"nodes/*/{place}"):
                found[f"files in {place}"] += sum(len(inner) + len(files) for _, inner, files in os.walk(directory))
        for logs in ("/var/log/pods", "/var/log/containers"):
            found[logs] = sum(1 for one in entries(Path(logs)) if "pod-" in one.name)
        return found

    def memory(self) -> dict[str, int]:
        """Kilobytes of their own of the processes that stay."""
        return {command: private(pid) for pid, command in processes(str(self._commands.home)) if "tiphys" in command}


def entries(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from directory.iterdir()


def processes(home: str) -> Iterator[tuple[str, str]]:
    """Processes that have to do with the cluster at `home`, and what they are."""
    for entry in entries(Path("/proc")):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            about = words + (entry / "environ").read_bytes().decode(errors="replace")
            comm = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if home in about and "kubectl" not in words and "e2e.leaks" not in words and "pytest" not in words:
            _, _, component = words.partition(" run ")
            yield entry.name, f"tiphys {component.split(' --')[0]}" if component else comm


def private(pid: str) -> int:
    try:
        lines = Path("/proc", pid, "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))


def inside(space: Path, *words: str) -> int:
    """How many lines a program prints in a network namespace."""
    done = subprocess.run(["nsenter", f"--net={space}", *words], capture_output=True, text=True, check=False)
    return len(done.stdout.splitlines())


def grown(before: Counter[str], after: Counter[str]) -> dict[str, tuple[int, int]]:
    """What there is more of than before."""
    found = {}
    for what, count in after.items():
        allowed = POOLED if what.startswith("descriptors") else 0
        if count > before[what] + allowed:
            found[what] = (before[what], count)
    return found


def up(commands: Commands, *words: str) -> Commands:
    """Make the cluster; returns commands that speak to it."""
    kubeconfig = commands.home / NAME
    commands.tiphys("up", NAME, "--kubeconfig", str(kubeconfig), *words)
    own = Commands(commands.home, Path(commands.environment["TIPHYS_RUN"]))
    own.environment["KUBECONFIG"] = str(kubeconfig)
    return own


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--warm", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--image", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leaks-") as home:
        commands = Commands(Path(home), Path("/run") / Path(home).name)
        words = [word for image in options.image for word in ("--image", image)]
        try:
            own = up(commands, *words, *(["--port", str(options.port)] if options.port else []))
            leaks = Leaks(own, options.seed)
            leaks.churn(options.warm)
            before, memory = leaks.quiet(), leaks.memory()
            leaks.churn(options.pods)
            left = leaks.left(before)
            for what, kilobytes in leaks.memory().items():
                print(f"{what}: {memory.get(what, 0)} kB, then {kilobytes} kB")
        finally:
            commands.tiphys("delete", NAME, "--kubeconfig", str(commands.home / NAME))
    print(*(f"{what}: {pair[0]}, then {pair[1]}" for what, pair in left.items()), sep="\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
