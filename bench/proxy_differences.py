"""Where this project's Service proxy and upstream's (nftables mode) differ: the same Services in two worlds alike,
packets from everywhere to everything, and what differs of who answers, from which source, or how it is refused.

    python bench/proxy_differences.py --against KUBE_PROXY [--only NAME ...] [--verbose]

Needs root, and `nft` for upstream's. Nothing leaves the namespaces that it makes; about a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from proxy_services import L1, L3, NS, PODS, R1, Case, cases, nodes, ready
from proxy_worlds import ASKING, EDGE, NODE, World, ipv6, relayed, started, until
from servers import CLOCK, Target, tiphys, unverified

TRIES = 24
"""Packets of one kind: with three endpoints one stays unseen once in a few thousand times."""
SETTLING = 3.0
"""Seconds for a proxy to take everything over; upstream's waits for a second between two syncs."""
SOURCES = {"client": "client", "node": "node", "pod": L3, "endpoint": L1, "other pod": "third"}
RANGES_IPV6 = ["--service-cluster-ip-range=fd00:96::/112", "--advertise-address=fd00::1"]
Probe = tuple[str, str, int, str]
"""(source, address, port, protocol)."""


class Api:
    """An administrator's requests to the API server."""

    def __init__(self, target: Target, translate: Callable[[str], str] = str) -> None:
        self._target, self._translate = target, translate

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._target.token}", "Content-Type": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        data = self._translate(json.dumps(body)).encode() if body is not None else None
        request = urllib.request.Request(self._target.url + path, data, headers, method=method)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, context=unverified()) as answer:  # noqa: S310 - as above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.read().decode()}") from None

    def create(self, case: Case) -> dict[str, Any]:
        made = self.call("POST", f"/api/v1/namespaces/{NS}/services", case.service())
        if case.endpoints:
            self.call("POST", f"/apis/discovery.k8s.io/v1/namespaces/{NS}/endpointslices", case.slice())
        if case.balancers:
            status = {"status": {"loadBalancer": {"ingress": list(case.balancers)}}}
            made = self.call("PATCH", f"/api/v1/namespaces/{NS}/services/{case.name}/status", status)
        return dict(made)


def kubeconfig(folder: Path, target: Target) -> str:
    cluster = {"server": target.url, "insecure-skip-tls-verify": True}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": target.token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(content))
    return str(path)


def command(program: Sequence[str], config: str, translate: Callable[[str], str] = str) -> list[str]:
    flags = ["--proxy-mode=nftables", "--hostname-override=n1", f"--kubeconfig={config}", "--conntrack-max-per-core=0"]
    return [*program, *flags, translate("--cluster-cidr=10.244.0.0/16"), "--healthz-bind-address=127.0.0.1:10256"]


def probes(service: dict[str, Any]) -> Iterator[Probe]:
    """Everything that a Service could answer at, and a port that it does not have."""
    spec, name = service["spec"], service["metadata"]["name"]
    status = (service.get("status") or {}).get("loadBalancer") or {}
    outside = [*spec.get("externalIPs", ()), *(each["ip"] for each in status.get("ingress", ()) if "ip" in each)]
    for source in SOURCES:
        for port in spec["ports"]:
            for address in (spec["clusterIP"], *outside):
                yield source, address, port["port"], port["protocol"]
            if port.get("nodePort"):
                for address in (NODE, EDGE, "127.0.0.1"):
                    yield source, address, port["nodePort"], port["protocol"]
        if name == "cluster":
            yield source, spec["clusterIP"], 81, "TCP"
            yield source, spec["clusterIP"], 81, "UDP"
            yield source, "10.96.200.200", 80, "TCP"
            yield source, "10.96.200.200", 80, "UDP"


def ask(world: World, probe: Probe) -> tuple[str, ...]:
    """All that is met, in order."""
    source, address, port, protocol = probe
    found: set[str] = set()
    lost = 0
    for _ in range(TRIES):
        answer = _ask(world, source, address, port, protocol)
        found.add(answer)
        lost += answer in ("lost", "refused") or " " not in answer
        if lost == 2:
            break
    return tuple(sorted(found))


def _ask(world: World, source: str, address: str, port: int, protocol: str) -> str:
    place = SOURCES[source]
    if source != "other pod":
        return world.ask(place, address, port, protocol)
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with world.opened(place, kind) as bound:
        world.bind(bound, ASKING)
        return world.ask(place, address, port, protocol, bound)


class Side:
    """One proxy in a world of its own."""

    def __init__(
        self, name: str, program: Sequence[str], folder: Path, target: Target, translate: Callable[[str], str]
    ) -> None:
        self.name, self.folder = name, folder / name.replace(" ", "-")
        self.folder.mkdir()
        self.world = World(self.folder, PODS, translate)

        self._command = command(program, kubeconfig(self.folder, target), translate)
        self._port = int(target.url.rpartition(":")[2])
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Side:
        self._stack.enter_context(self.world)
        inside = self.world.path("node")
        self._stack.enter_context(relayed(inside, self._port))
        self.process = self._stack.enter_context(started(inside, self._command, self.folder / "log"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ready(self) -> bool:
        """Whether a Service that has an endpoint answers."""
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended: {(self.folder / 'log').read_text()[-2000:]}")
        return self.world.ask("node", self.address, 80, "TCP").startswith(f"{L1} ")

    address = ""
    """A cluster IP to wait for."""


def compare(sides: Sequence[Side], services: Sequence[dict[str, Any]], *, verbose: bool) -> int:
    differences = 0
    for service in services:
        for probe in probes(service):
            answers = [ask(side.world, probe) for side in sides]
            if service["spec"].get("sessionAffinity") == "ClientIP":
                answers = [("one endpoint",) if len(one) == 1 and " " in one[0] else one for one in answers]
            if answers[0] == answers[1] and not verbose:
                continue
            differences += answers[0] != answers[1]
            source, address, port, protocol = probe
            print(f"{service['metadata']['name']}: {source} -> {address}:{port}/{protocol}")
            for side, answer in zip(sides, answers, strict=True):
                print(f"    {side.name:9} {', '.join(answer)}")
    return differences


def run(options: argparse.Namespace, folder: Path) -> int:
    wanted = [case for case in cases() if not options.only or case.name in (*options.only, "single", "moving")]
    ours = [sys.executable, "-m", "tiphys", "proxy"]
    translate, ranges = (ipv6, RANGES_IPV6) if options.ip_family == "ipv6" else (str, [])
    with tiphys(ranges) as target:
        api = Api(target, translate)
        for node in nodes():
            api.call("POST", "/api/v1/nodes", node)
        mine = Side("tiphys", ours, folder, target, translate)
        with mine as one, Side("upstream", [options.against], folder, target, translate) as other:
            services = [api.create(case) for case in wanted]
            single = next(made for made in services if made["metadata"]["name"] == "single")
            for side in (one, other):
                side.address = single["spec"]["clusterIP"]
                if not until(side.ready, 30, CLOCK.pause):
                    raise SystemExit(f"{side.name} does not work: {(side.folder / 'log').read_text()[-2000:]}")
            CLOCK.pause(SETTLING)
            differences = compare((one, other), services, verbose=options.verbose)
            return differences + compare_moves((one, other), api, services, verbose=options.verbose)


def compare_moves(sides: Sequence[Side], api: Api, services: Sequence[dict[str, Any]], *, verbose: bool) -> int:
    """A client goes on sending from one port while the only endpoint is replaced by another: who gets its packets?"""
    spec = next(made["spec"] for made in services if made["metadata"]["name"] == "moving")
    ways = [(source, address, port) for source in SOURCES for address, port in _ways(spec)]
    with contextlib.ExitStack() as stack:
        clients = [[stack.enter_context(_client(side.world, way[0])) for way in ways] for side in sides]

        def asked() -> list[list[str]]:
            return [
                [
                    side.world.ask("", address, port, "UDP", client)
                    for client, (_, address, port) in zip(own, ways, strict=True)
                ]
                for side, own in zip(sides, clients, strict=True)
            ]

        before = asked()
        path = f"/apis/discovery.k8s.io/v1/namespaces/{NS}/endpointslices/moving-1"
        api.call("PATCH", path, {"endpoints": Case("moving", ready(R1)).slice()["endpoints"]})
        CLOCK.pause(SETTLING)
        after = asked()
    differences = 0
    for at, way in enumerate(ways):
        seen = [(before[side][at], after[side][at]) for side in range(len(sides))]
        if seen[0] != seen[1] or verbose:
            differences += seen[0] != seen[1]
            print(f"moving: {way[0]} -> {way[1]}:{way[2]}/UDP, before and after its endpoint moved")
            for side, told in zip(sides, seen, strict=True):
                print(f"    {side.name:9} {told[0]}, {told[1]}")
    return differences


def _ways(spec: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield spec["clusterIP"], 80
    yield spec["externalIPs"][0], 80
    yield NODE, next(port["nodePort"] for port in spec["ports"] if port["protocol"] == "UDP")


def _client(world: World, source: str) -> socket.socket:
    made = world.opened(SOURCES[source], socket.SOCK_DGRAM)
    if source == "other pod":
        world.bind(made, ASKING)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", required=True, metavar="KUBE_PROXY", help="the program")
    parser.add_argument("--ip-family", choices=("ipv4", "ipv6"), default="ipv4")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="of these Services")
    parser.add_argument("--verbose", action="store_true", help="show what is the same, too")
    options = parser.parse_args()
    if shutil.which("nft") is None:
        raise SystemExit("upstream's proxy needs the program nft")
    with tempfile.TemporaryDirectory() as folder:
        differences = run(options, Path(folder))
    print(f"{differences} differences")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
