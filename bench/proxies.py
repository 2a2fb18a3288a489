"""This project's Service proxy beside upstream's (nftables mode), on the same Services from the same API server.

    python bench/proxies.py --against KUBE_PROXY [--services N] [--changes N]

Each proxy runs in a network namespace of its own, from exec until the last Service answers; then endpoints of single
Services are replaced, one after the other, and packets tell when the kernel has it. Upstream's waits for a second
between two syncs (minSyncPeriod); here for a millisecond, so that the work itself is compared. Needs root and `nft`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy_differences import Api, kubeconfig
from proxy_services import L1, L2, PODS, R1, Case, nodes, ready
from proxy_worlds import World, relayed, started
from servers import CLOCK, Target, tiphys

QUIET = 3.0
"""Seconds before changes, and before memory is looked at."""
CONFIGURATION = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: n1
clusterCIDR: 10.244.0.0/16
clientConnection: {{kubeconfig: {kubeconfig}, qps: 1000, burst: 1000}}
conntrack: {{maxPerCore: 0}}
nftables: {{minSyncPeriod: 1ms}}
"""
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """Seconds of a process and of those that it started and that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def memory(pid: int) -> float:
    """Megabytes that the process alone has, and its share of the rest."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class Measured:
    """One proxy's figures."""

    def __init__(
        self, name: str, program: Sequence[str], options: argparse.Namespace, api: Api, target: Target
    ) -> None:
        self.name, self._program, self._options, self._api, self._target = name, program, options, api, target

    def run(self, folder: Path, addresses: list[str]) -> dict[str, float]:
        """`addresses` are the Services' cluster IPs, by number."""
        file = folder / "config.yaml"
        file.write_text(CONFIGURATION.format(kubeconfig=kubeconfig(folder, self._target)))
        port = int(self._target.url.rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            self.world = stack.enter_context(World(folder, PODS))
            inside = self.world.path("node")
            stack.enter_context(relayed(inside, port))
            begun = CLOCK.monotonic()
            command = [*self._program, f"--config={file}"]
            process = stack.enter_context(started(inside, command, folder / "log"))
            for address in (addresses[-1], *addresses):
                self._wait(address, "")
            found = {"start": CLOCK.monotonic() - begun, "start CPU": cpu(process.pid)}
            CLOCK.pause(QUIET)
            before = cpu(process.pid)
            times = [self._change(number, addresses[number]) for number in range(self._options.changes)]
            CLOCK.pause(QUIET)
            found["change"], found["slowest change"] = statistics.median(times), max(times)
            found["change CPU"] = (cpu(process.pid) - before) / len(times)
            before = cpu(process.pid)
            CLOCK.pause(3 * QUIET)
            found["idle CPU"] = (cpu(process.pid) - before) / (3 * QUIET)
            found["memory"] = memory(process.pid)
            return found

    def _wait(self, address: str, wanted: str) -> None:
        deadline = CLOCK.monotonic() + 120
        while CLOCK.monotonic() < deadline:
            answer = self.world.ask("node", address, 80, "TCP")
            if " " in answer and answer.startswith(wanted):
                return
        raise SystemExit(f"{self.name}: {address} does not lead to {wanted or 'anybody'}")

    def _change(self, number: int, address: str) -> float:
        """Seconds from the request that changes an EndpointSlice until packets get to the new endpoint."""
        wanted = R1 if self.name == "upstream" else L2  # another one for each, since they share an API server
        begun = CLOCK.monotonic()
        move(self._api, number, wanted)
        self._wait(address, wanted)
        return CLOCK.monotonic() - begun


def move(api: Api, number: int, to: str) -> None:
    """Make it the only endpoint."""
    body: dict[str, Any] = {"endpoints": Case("x", ready(to)).slice()["endpoints"]}
    api.call("PATCH", f"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s{number}-1", body)


def show(options: argparse.Namespace, figures: dict[str, dict[str, float]]) -> None:
    print(f"{options.services} Services with 3 endpoints; {' / '.join(figures)}")
    for what in next(iter(figures.values())):
        values = [each[what] for each in figures.values()]
        unit = " MB" if what == "memory" else " s"
        ratio = f"  ({values[1] / values[0]:.1f} times)" if len(values) == 2 and values[0] else ""
        print(f"{what:15}", " / ".join(f"{value:8.3f}{unit}" for value in values), ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="KUBE_PROXY", help="upstream's program")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=20)
    options = parser.parse_args()
    if options.against and shutil.which("nft") is None:
        raise SystemExit("upstream's proxy needs the program nft")
    programs: dict[str, list[str]] = {"tiphys": [sys.executable, "-m", "tiphys", "proxy"]}
    if options.against:
        programs["upstream"] = [options.against]
    figures = {}
    with tiphys([]) as target, tempfile.TemporaryDirectory() as folder:
        api = Api(target)
        for node in nodes():
            api.call("POST", "/api/v1/nodes", node)
        made = [api.create(Case(f"s{number}", ready(L1, L2, R1))) for number in range(options.services)]
        addresses = [one["spec"]["clusterIP"] for one in made]
        for name, program in programs.items():
            own = Path(folder, name)
            own.mkdir()
            figures[name] = Measured(name, program, options, api, target).run(own, addresses)
    show(options, figures)


if __name__ == "__main__":
    main()
