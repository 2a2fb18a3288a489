"""The load of an API server: reads, durable creates, lists, watches, memory. Needs wrk.

    python bench/apiserver.py [--seconds S] [--tiphys ARGUMENT ...]
    python bench/apiserver.py --against KUBE_APISERVER --etcd ETCD
    python bench/apiserver.py --url https://HOST:PORT --token TOKEN --pid PID[,PID...]

The first form starts `tiphys apiserver` itself; the second runs the same load against upstream on this machine
afterwards and prints both with their ratio; the third measures a server that runs already (an empty one, by the token
of an administrator). All speak HTTP/1.1 over TLS. The load generator shares the cores with the server: of absolute
figures the CPU time for a request, of all the server's processes together, says most on a busy machine. A thousand
streams need two thousand file descriptors (`ulimit -n`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from memory import config_map, memory, pod
from servers import CLOCK, Target, tiphys, upstream
from watches import Poster, fan_out

TICKS = os.sysconf("SC_CLK_TCK")
CREATE = """
local thread, count, threads = 0, 0, 0
function setup(one) one:set("thread", threads); threads = threads + 1 end
function request()
  count = count + 1
  local name = "%s-" .. thread .. "-" .. count
  return wrk.format("POST", nil, nil, '%s' .. name .. '%s')
end
"""
CONFIG_MAP = ('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"', '"},"data":{"key":"value"}}')
POD = (
    '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"',
    '","labels":{"app":"bench"}},"spec":{"containers":[{"name":"c","image":"nginx",'
    '"resources":{"requests":{"cpu":"10m","memory":"10Mi"}}}]}}',
)


@dataclass
class Figures:
    """What was measured of one server: name of the measure -> (value, its text)."""

    values: dict[str, tuple[float, str]] = field(default_factory=dict)

    def add(self, name: str, value: float, text: str) -> None:
        self.values[name] = value, text
        print(f"  {name:44} {text}", flush=True)


class Bench:
    """The load on one server."""

    def __init__(self, target: Target, options: argparse.Namespace, folder: Path) -> None:
        self._target, self._options, self._folder = target, options, folder
        self.figures = Figures()

    def cpu(self) -> float:
        """Seconds of CPU time that the server has used."""
        ticks = 0
        for pid in self._target.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def wrk(self, name: str, path: str, *, connections: int = 32, script: str = "") -> None:
        """Run wrk; a response that is not 2xx ends the whole thing."""
        words = ["wrk", "-t1", f"-c{connections}", f"-d{self._options.seconds}s", "--timeout", "30s"]
        words += ["-H", f"Authorization: Bearer {self._target.token}", "-H", "Content-Type: application/json"]
        if script:
            file = self._folder / "load.lua"
            file.write_text(script)
            words += ["-s", str(file)]
        before = self.cpu()
        out = subprocess.run([*words, self._target.url + path], check=True, capture_output=True, text=True).stdout
        used = self.cpu() - before
        if "Non-2xx" in out:
            raise SystemExit(f"{name} went wrong:\n{out}")
        count = re.search(r"(\d+) requests in", out)
        rate = re.search(r"Requests/sec: *([\d.]+)", out)
        if count is None or rate is None:
            raise SystemExit(f"{name} went wrong:\n{out}")
        value = float(rate[1])
        shown = f"{value:,.0f}/s" if value >= 20 else f"{value:.1f}/s"
        self.figures.add(name, value, f"{shown} ({used * 1e6 / max(int(count[1]), 1):,.0f} us CPU)")

    def run(self) -> Figures:
        """Everything, in the order of the table."""
        target, options = self._target, self._options
        if target.ready_seconds:
            self.figures.add("start to /readyz", target.ready_seconds, f"{target.ready_seconds:.2f} s")
        self.figures.add("memory when empty", memory(list(target.pids)), f"{memory(list(target.pids)):.0f} MB")
        asyncio.run(self._prepare())
        self.wrk("GET one pod, 32 connections", "/api/v1/namespaces/few/pods/pod-00000")
        config_maps, pods = "/api/v1/namespaces/created/configmaps", "/api/v1/namespaces/created/pods"
        self.wrk("create ConfigMap, 32 connections", config_maps, script=CREATE % ("c", *CONFIG_MAP))
        self.wrk("create Pod, 32 connections", pods, script=CREATE % ("p", *POD))
        self.wrk("LIST 500 pods, 8 connections", "/api/v1/namespaces/few/pods", connections=8)
        self._watches()
        asyncio.run(self._fill())
        path = "/api/v1/namespaces/many/pods"
        self.wrk(f"LIST {options.pods:,} pods, 2 connections", path, connections=2)
        held = memory(list(target.pids))
        name = f"memory, with {options.pods:,} pods, {options.configmaps:,} ConfigMaps"
        self.figures.add(name, held, f"{held:,.0f} MB")
        return self.figures

    def _watches(self) -> None:
        found = uvloop.run(fan_out(self._target, self._options.streams, self.cpu))
        streams = f"{self._options.streams:,} watches"
        self.figures.add(f"events to {streams}, one by one", found.one_by_one, f"{found.one_by_one:.1f}/s")
        text = f"{found.at_once:.1f}/s ({found.cpu_microseconds:.1f} us CPU a stream)"
        self.figures.add(f"events to {streams}, 8 writers", found.at_once, text)

    async def _prepare(self) -> None:
        poster = Poster(self._target)
        for name in ("few", "created", "many"):
            await self._namespace(poster, name)
        for number in range(500):
            await _created(poster, "/api/v1/namespaces/few/pods", pod(number))
        poster.close()

    async def _namespace(self, poster: Poster, name: str) -> None:
        await _created(poster, "/api/v1/namespaces", _object("Namespace", name))
        await _created(poster, f"/api/v1/namespaces/{name}/serviceaccounts", _object("ServiceAccount", "default"))

    async def _fill(self) -> None:
        """What the created ones lack of the numbers that memory is measured with is not counted: they come on top."""
        options = self._options
        pods = (("/api/v1/namespaces/many/pods", pod(number)) for number in range(options.pods))
        maps = (("/api/v1/namespaces/many/configmaps", config_map(number)) for number in range(options.configmaps))
        for bodies in (pods, maps):
            await asyncio.gather(*(self._send(bodies) for _ in range(16)))

    async def _send(self, bodies: Iterator[tuple[str, dict[str, object]]]) -> None:
        poster = Poster(self._target)
        for path, body in bodies:
            await _created(poster, path, body)
        poster.close()


async def _created(poster: Poster, path: str, body: object) -> None:
    """POST, and again if admission does not know yet what was created a moment ago."""
    for _ in range(50):
        status = await poster.send("POST", path, body)
        if status in (201, 409):
            return
        await CLOCK.sleep(0.1)
    raise SystemExit(f"POST {path}: {status}")


def _object(kind: str, name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


def targets(options: argparse.Namespace) -> Iterator[contextlib.AbstractContextManager[Target]]:
    """The servers to measure, one after the other."""
    if options.url:
        pids = tuple(int(pid) for pid in options.pid.split(",")) if options.pid else ()
        yield contextlib.nullcontext(Target("server", options.url, options.token, pids))
        return
    yield tiphys(options.tiphys)
    if options.against:
        yield upstream(options.against, options.etcd, [])


def compare(own: Figures, other: Figures) -> None:
    """A table in Markdown; more is better for rates, less for seconds and memory."""
    print("\n| work | Tiphys | Kubernetes | ratio |\n|---|---|---|---|")
    for name, (value, text) in own.values.items():
        theirs, theirs_text = other.values[name]
        better = value / theirs if "/s" in text else theirs / value
        print(f"| {name} | {text} | {theirs_text} | {better:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8, help="of each load")
    parser.add_argument("--pods", type=int, default=11_000)
    parser.add_argument("--configmaps", type=int, default=19_000)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--against", metavar="KUBE_APISERVER", help="path of upstream's binary")
    parser.add_argument("--etcd", default="etcd", help="path of the etcd binary")
    parser.add_argument("--url")
    parser.add_argument("--token", default="bench")
    parser.add_argument("--pid", default="", help="processes of the server at --url, separated by commas")
    parser.add_argument("--tiphys", nargs=argparse.REMAINDER, default=[], help="further arguments of tiphys apiserver")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for context in targets(options):
            with context as target:
                print(f"{target.name}:", flush=True)
                found.append(Bench(target, options, Path(folder)).run())
    if len(found) == 2:
        compare(*found)


if __name__ == "__main__":
    main()
