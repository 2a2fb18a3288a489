"""kill -9 of Tiphys' processes at random moments, under load, and what must hold all the same.

    cd tests && PYTHONPATH=../src python -m e2e.chaos --kills 200 --seed 1 --image busybox.tar

A cluster of its own runs pods of all kinds (see chaos_pods) while control plane, kubelet and helper are killed. Nothing
may be lost: no container, log line, exit code, restart or probe result. The moments come from the seed; what the
processes do at them does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from e2e import chaos_pods as pods
from e2e.commands import Commands
from tiphys.base.clock import SystemClock
from tiphys.base.errors import AlreadyExists, ApiError, Conflict, NotFound
from tiphys.client.config import load
from tiphys.client.https import HttpsClient
from tiphys.client.resources import PODS

CLOCK = SystemClock()
T = TypeVar("T")
NAME = "chaos"
LOGS = Path("/var/log/pods")
COUNTERS, CRASHERS, PROBED = 4, 3, 3
BRIEF_AT_ONCE = 24
KEPT = 40
PATIENCE = 120.0
"""Seconds in which everything must have come to rest after the last kill."""


class Chaos:
    """One cluster, its pods, and the one who kills."""

    def __init__(self, commands: Commands, seed: int, facts: Path) -> None:
        self._commands, self._random, self._facts = commands, random.Random(seed), facts
        self._kubeconfig = commands.home / NAME
        self._client: HttpsClient
        self._identity: dict[str, str] = {}
        self._brief = 0
        self._stopping = False
        self.killed: Counter[str] = Counter()
        self.checked = 0
        self.problems: list[str] = []

    async def run(self, kills: int) -> list[str]:
        """Kill `kills` times; returns what was wrong."""
        self._client = HttpsClient(load(self._kubeconfig))
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as group:
                load_ = group.create_task(self._load())
                flips = group.create_task(self._flip())
                for _ in range(kills):
                    await CLOCK.sleep(self._random.uniform(0, 0.6))
                    await self._kill()
                self._stopping = True
                await load_
                await flips
            await self._settle()
        finally:
            await self._client.close()
        return self.problems

    async def _prepare(self) -> None:
        for number in range(COUNTERS):
            await self._create(pods.pod(f"count-{number}", pods.COUNT, self._facts))
        for number in range(CRASHERS):
            await self._create(pods.pod(f"crash-{number}", pods.CRASH, self._facts))
        for number in range(PROBED):
            await self._create(pods.probed(f"probed-{number}", self._facts))
        for number in range(COUNTERS):
            name = f"count-{number}"
            found = await self._until(name, lambda one: one["status"].get("phase") == "Running")
            self._identity[name] = found["status"]["containerStatuses"][0]["containerID"]

    # calls that outlive their server

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except (NotFound, Conflict, AlreadyExists):
                raise
            except (ApiError, OSError):
                await CLOCK.sleep(0.1)

    async def _create(self, body: dict[str, Any]) -> None:
        try:
            await self._insist(lambda: self._client.create(PODS, body, "default"))
        except AlreadyExists:  # it was made before the server was killed
            return

    async def _get(self, name: str) -> dict[str, Any]:
        return dict(await self._insist(lambda: self._client.get(PODS, name, "default")))

    async def _list(self) -> list[dict[str, Any]]:
        found = await self._insist(lambda: self._client.list(PODS, "default"))
        return [dict(one) for one in found.items]

    async def _until(self, name: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        end = CLOCK.monotonic() + PATIENCE
        while not holds(found := await self._get(name)):
            if CLOCK.monotonic() > end:
                self.problems.append(f"{name}: it did not come about: {found['status']}")
                break
            await CLOCK.sleep(0.2)
        return found

    # load

    async def _load(self) -> None:
        """Pods that run to their end are made all the time; most are checked and deleted again, some before that."""
        while not self._stopping:
            found = [one for one in await self._list() if one["metadata"]["name"].startswith("brief-")]
            over = [one for one in found if (one.get("status") or {}).get("phase") in ("Succeeded", "Failed")]
            for _ in range(min(BRIEF_AT_ONCE - (len(found) - len(over)), 6)):
                await self._add_brief()
            for one in over[: max(0, len(over) - KEPT)]:
                await self._check_brief(one)
                await self._delete(one)
            alive = [one for one in found if one not in over]
            if alive and self._random.random() < 0.3:
                await self._delete(self._random.choice(alive))
            await CLOCK.sleep(self._random.uniform(0.05, 0.4))

    async def _add_brief(self) -> None:
        self._brief += 1
        lines, code = self._random.randrange(1, 60), int(self._random.choice((0, 0, 1, 3, 42)))
        name = f"brief-{self._brief}-{lines}-{code}"
        await self._create(pods.pod(name, pods.brief_script(lines, code), self._facts, restart="Never"))

    async def _delete(self, one: dict[str, Any]) -> None:
        graces: tuple[int | None, ...] = (0, 1, None)
        grace = self._random.choice(graces)
        name = one["metadata"]["name"]
        try:
            await self._insist(lambda: self._client.delete(PODS, name, "default", grace_seconds=grace))
        except (NotFound, Conflict):
            return

    async def _flip(self) -> None:
        """What probes find changes all the time; now and then a container is to be killed by one."""
        while not self._stopping:
            name = f"probed-{self._random.randrange(PROBED)}"
            ready = self._facts / f"{name}.ready"
            if ready.exists():
                ready.unlink()
            else:
                ready.touch()
            if self._random.random() < 0.03:
                (self._facts / f"{name}.dead").touch()
            await CLOCK.sleep(self._random.uniform(0.2, 1.0))

    # kills

    async def _kill(self) -> None:
        target = self._random.choice(("node-1", "node-1", "control-plane", "helper"))
        if target == "helper":
            for pid in helpers(self._commands.home):
                _kill(pid)
        else:
            words = ("status", NAME, "-o", "json")
            status = json.loads((await asyncio.to_thread(self._commands.tiphys, *words, check=False)).stdout)
            found = next((item.get("pid") for item in status["components"] if item["component"] == target), None)
            if found:
                _kill(int(found))
            if self._random.random() < 0.3:
                await CLOCK.sleep(self._random.uniform(0, 1.0))
            await asyncio.to_thread(up, self._commands)
        self.killed[target] += 1

    # truth

    async def _settle(self) -> None:
        for one in await self._list():
            name = one["metadata"]["name"]
            if name.startswith("brief-"):
                await self._rest(name)
        for number in range(COUNTERS):
            name = f"count-{number}"
            found = await self._until(name, lambda one: one["status"].get("phase") == "Running")
            self.problems += pods.check_counter(name, found, self._log(found), self._identity[name])
        for number in range(CRASHERS):
            await self._agrees(f"crash-{number}")
        for number in range(PROBED):
            await self._agrees(f"probed-{number}")
        await self._nothing_twice()

    async def _rest(self, name: str) -> None:
        try:
            found = await self._until(
                name, lambda one: (one.get("status") or {}).get("phase") in ("Succeeded", "Failed")
            )
        except NotFound:
            return
        await self._check_brief(found)

    async def _check_brief(self, found: dict[str, Any]) -> None:
        name = found["metadata"]["name"]
        if found["metadata"].get("deletionTimestamp"):
            return
        self.checked += 1
        self.problems += pods.check_brief(name, found, self._log(found), pods.runs(self._facts, name))

    async def _agrees(self, name: str) -> None:
        """What the status says of restarts, exit codes and readiness comes to be what is."""
        end = CLOCK.monotonic() + 30
        while True:
            found = await self._get(name)
            problems = pods.check_restarts(name, found, pods.runs(self._facts, name))
            if name.startswith("probed"):
                wanted = (self._facts / f"{name}.ready").exists()
                if found["status"]["containerStatuses"][0]["ready"] != wanted:
                    problems.append(f"{name}: ready must be {wanted}: {found['status']}")
                if (self._facts / f"{name}.dead").exists():
                    problems.append(f"{name}: its probe has not killed it")
            if not problems or CLOCK.monotonic() > end:
                self.problems += problems
                return
            await CLOCK.sleep(0.2)

    async def _nothing_twice(self) -> None:
        """Every pod that should run has one container, and nothing else runs."""
        end = CLOCK.monotonic() + 30
        while True:
            wanted = Counter(
                one["metadata"]["name"]
                for one in await self._list()
                if one["status"]["phase"] in ("Running", "Pending")
            )
            found = Counter({name: len(spaces) for name, spaces in running(self._facts).items()})
            # A crashing pod may just be between two runs.
            odd = {name for name in {*wanted, *found} if found[name] != wanted[name]}
            odd = {name for name in odd if not (name.startswith("crash") and found[name] == 0)}
            if not odd or CLOCK.monotonic() > end:
                self.problems += [f"{name}: {found[name]} containers run, wanted {wanted[name]}" for name in odd]
                return
            await CLOCK.sleep(0.2)

    def _log(self, found: dict[str, Any]) -> list[str]:
        meta = found["metadata"]
        directory = LOGS / f"{meta['namespace']}_{meta['name']}_{meta['uid']}" / "c"
        return [line for file in sorted(directory.glob("*.log")) for line in pods.log_lines(file)]


def helpers(home: Path) -> list[int]:
    """The helpers of the cluster's nodes: not their forks, which have other names."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text() == "tiphys-helper\n":
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if str(home).encode() in (entry / "cmdline").read_bytes() and not _is_helper(parent):
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def _is_helper(pid: str) -> bool:
    try:
        return Path("/proc", pid, "comm").read_text() == "tiphys-helper\n"
    except OSError:
        return False


def running(facts: Path) -> dict[str, set[str]]:
    """Pod -> the pid namespaces of its containers' processes."""
    found: dict[str, set[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            mounts, environment = (entry / "mountinfo").read_text(), (entry / "environ").read_bytes()
            space = os.readlink(entry / "ns" / "pid")
        except OSError:
            continue
        name = next((item[4:].decode() for item in environment.split(b"\0") if item.startswith(b"POD=")), "")
        if name and str(facts) in mounts:
            found.setdefault(name, set()).add(space)
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def up(commands: Commands, *words: str) -> None:
    commands.tiphys("up", NAME, "--kubeconfig", str(commands.home / NAME), *words)


def storm(commands: Commands, seed: int, kills: int) -> Chaos:
    """Make a cluster, kill its processes, delete it. The result's `problems` tell what was wrong."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as facts:
        chaos = Chaos(commands, seed, Path(facts))
        try:
            asyncio.run(chaos.run(kills))
        finally:
            commands.tiphys("delete", NAME, "--kubeconfig", str(commands.home / NAME))
    return chaos


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-home-") as home:
        commands = Commands(Path(home), Path("/run") / Path(home).name)
        words = [word for image in options.image for word in ("--image", image)]
        up(commands, *words, *(["--port", str(options.port)] if options.port else []))
        chaos = storm(commands, options.seed, options.kills)
    print(f"killed {dict(chaos.killed)}; {chaos.checked} pods that ran to their end were checked")
    print(*chaos.problems, sep="\n")
    return 1 if chaos.problems else 0


if __name__ == "__main__":
    sys.exit(main())
