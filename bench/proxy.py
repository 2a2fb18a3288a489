"""How long Services take into the kernel: all at once, one change, and a process that finds everything there.

    python bench/proxy.py [--services N] [--endpoints N] [--changes N] [--ip-family ipv4|ipv6|dual]

Works in a network namespace of its own (needs root). Times are from objects in memory to rules in the kernel.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tiphys.base.clock import SystemClock
from tiphys.base.nftables import Nftables
from tiphys.proxy.services.compiler import Compiler, Surroundings, surroundings
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.writer import Writer
from tiphys.runtime import netns

CLOCK = SystemClock()
FAMILIES = {"ipv4": ("IPv4",), "ipv6": ("IPv6",), "dual": ("IPv4", "IPv6")}
RANGES = [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}}]


def service(number: int, families: tuple[str, ...]) -> dict[str, Any]:
    ips = {"IPv4": f"10.96.{number >> 8}.{number & 255}", "IPv6": f"fd00:96::{number:x}"}
    cluster_ips = [ips[family] for family in families]
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    meta = {"namespace": "default", "name": f"service-{number}"}
    return {"metadata": meta, "spec": {"type": "ClusterIP", "clusterIPs": cluster_ips, "ports": ports}}


def endpoint_slice(number: int, count: int, family: str, salt: int = 0) -> dict[str, Any]:
    """One slice; another `salt` gives it other endpoints."""
    at = "10.{}.{}.{}" if family == "IPv4" else "fd00:{:x}:{:x}::{:x}"
    addresses = [at.format(128 + salt + which, number >> 8, number & 255) for which in range(count)]
    return {
        "metadata": {
            "namespace": "default",
            "name": f"service-{number}-{family.lower()}",
            "labels": {"kubernetes.io/service-name": f"service-{number}"},
        },
        "addressType": family,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "nodeName": f"node-{which}", "conditions": {"ready": True}}
            for which, address in enumerate(addresses)
        ],
    }


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    started = CLOCK.monotonic()
    work()
    return (CLOCK.monotonic() - started) * 1000


class Bench:
    def __init__(self, options: argparse.Namespace, open_nftables: Callable[[], Nftables]) -> None:
        self.options, self.open, self.families = options, open_nftables, FAMILIES[options.ip_family]
        self.config = ProxyConfig(node="node-0", families=self.families, local_pods=("10.128.0.0/16",))
        self.around: Surroundings = surroundings(self.config, None, RANGES)
        self.inputs = [
            (f"default/service-{number}", service(number, self.families), self.slices(number))
            for number in range(options.services)
        ]

    def slices(self, number: int, salt: int = 0) -> list[dict[str, Any]]:
        return [endpoint_slice(number, self.options.endpoints, family, salt) for family in self.families]

    def fill(self, compiler: Compiler, writer: Writer) -> str:
        """Milliseconds of all, and of the parts."""
        compiling = timed(lambda: self.compile(compiler))
        writing = timed(lambda: writer.write(compiler.desired, {}))
        return f"{compiling + writing:8.1f} ms ({compiling:.0f} to compile, {writing:.0f} to compare and write)"

    def compile(self, compiler: Compiler) -> None:
        compiler.put_surroundings(self.around)
        for key, one, slices in self.inputs:
            compiler.put(key, one, slices, self.around.place)

    def change(self, compiler: Compiler, writer: Writer, number: int) -> None:
        key, one, _ = self.inputs[number % len(self.inputs)]
        touched = compiler.put(key, one, self.slices(number, salt=20), self.around.place)
        writer.write(compiler.desired, touched)

    def run(self) -> None:
        compiler, writer = Compiler(self.config), Writer(self.config, self.open)
        print(f"{len(self.inputs)} Services with {self.options.endpoints} endpoints, {', '.join(self.families)}")
        print(f"all at once           {self.fill(compiler, writer)}")
        changes = [timed(partial(self.change, compiler, writer, number)) for number in range(self.options.changes)]
        print(f"one change            {statistics.median(changes):8.1f} ms (most {max(changes):.1f})")
        print(f"tidying up after them {timed(lambda: writer.sweep(compiler.desired)):8.1f} ms")
        writer.close()
        for number in range(self.options.changes):
            self.inputs[number] = (*self.inputs[number][:2], self.slices(number, salt=20))
        compiler, writer = Compiler(self.config), Writer(self.config, self.open)
        print(f"a new process         {self.fill(compiler, writer)}")
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=3)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--ip-family", choices=FAMILIES, default="ipv4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        namespace = Path(directory, "netns")
        netns.persist(namespace)
        try:
            Bench(options, lambda: Nftables(lambda work: netns.inside(str(namespace), work))).run()
        finally:
            netns.drop(namespace)


if __name__ == "__main__":
    main()
