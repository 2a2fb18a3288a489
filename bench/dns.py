"""Questions a second that the cluster's name server answers on one core.

    python bench/dns.py [--seconds 3] [--services 1000] [--endpoints 3] [--against ADDRESS:PORT --pid PID]

The server has one core for itself, the load generator another; each question goes by UDP over loopback, 64 are under
way. What counts is the server's: the processor time (user and system) that its process uses for one answer, and how
many answers a second that makes for a core that does nothing else. `answered` is what the generator, in Python as
well, really got in a second. With --against another server that runs already is asked the same for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from tiphys.base.clock import SystemClock
from tiphys.dns.clients import Clients
from tiphys.dns.forward import Forwarder
from tiphys.dns.index import Index
from tiphys.dns.metrics import Metrics
from tiphys.dns.responder import Responder
from tiphys.dns.sockets import HostSockets
from tiphys.dns.udp import UdpServer
from tiphys.dns.upstreams import Server, Upstreams
from tiphys.dns.zone import Zone

CLOCK = SystemClock()
WINDOW = 64
BATCH = 32
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Options:
    seconds: float
    services: int
    endpoints: int


def index_of(options: Options) -> Index:
    """ClusterIP Services svc-N and headless ones set-N, with endpoints."""
    index = Index()
    ports = [{"name": "http", "protocol": "TCP", "port": 80}]
    for number in range(options.services):
        address = f"10.96.{number >> 8}.{number & 255}"
        for name, ip in ((f"svc-{number}", address), (f"set-{number}", "None")):
            named = {"name": name, "namespace": "default"}
            index.service_changed(None, {"metadata": named, "spec": {"clusterIPs": [ip], "ports": ports}}, 0)
        endpoints = [
            {"addresses": [f"10.244.{number & 255}.{place + 1}"], "hostname": f"set-{number}-{place}"}
            for place in range(options.endpoints)
        ]
        labels = {"kubernetes.io/service-name": f"set-{number}"}
        metadata = {"name": f"set-{number}", "namespace": "default", "labels": labels}
        index.slice_changed(None, {"metadata": metadata, "endpoints": endpoints, "ports": ports}, 0)
    return index


def serve(options: Options, upstream: int, ready: Connection) -> None:
    """The server's process."""
    import uvloop

    os.sched_setaffinity(0, {0})

    async def main() -> None:
        index = index_of(options)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        async with asyncio.TaskGroup() as tasks:
            servers = Upstreams([Server("127.0.0.1", upstream)])
            forwarder = Forwarder(servers, HostSockets(), CLOCK, tasks)
            responder = Responder(Zone("cluster.local", index), index, forwarder, CLOCK, Metrics())
            responder.ready = True
            ready.send(sock.getsockname()[1])
            await UdpServer(sock, responder, tasks, Clients()).run()

    uvloop.run(main())


def upstream(ready: Connection) -> None:
    """A name server that says 192.0.2.1 to everything, for a minute."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    ready.send(sock.getsockname()[1])
    while True:
        packet, peer = sock.recvfrom(4096)
        end = packet.index(b"\0", 12) + 5
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
        sock.sendto(packet[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + packet[12:end] + answer, peer)


def question(name: str, kind: int) -> bytes:
    wire = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack("!5H", 0x0100, 1, 0, 0, 0) + wire + struct.pack("!BHH", 0, kind, 1)


def some_case(name: str) -> str:
    """As resolvers write it that mix capitals in (0x20): every question in other words."""
    return "".join(random.choice((c, c.upper())) for c in name)  # noqa: S311 - nothing is kept secret by it


DOMAIN = "default.svc.cluster.local"


def kinds(options: Options) -> Iterator[tuple[str, Callable[[int], bytes]]]:
    """What is asked, by number."""
    count = options.services
    yield "a Service's address", lambda n: question(f"svc-{n % count}.{DOMAIN}", 1)
    yield f"a headless Service's {options.endpoints}", lambda n: question(f"set-{n % count}.{DOMAIN}", 1)
    yield "a pod of a StatefulSet", lambda n: question(f"set-{n % count}-0.set-{n % count}.{DOMAIN}", 1)
    yield "SRV of a headless Service", lambda n: question(f"_http._tcp.set-{n % count}.{DOMAIN}", 33)
    yield "AAAA where there is none", lambda n: question(f"svc-{n % count}.{DOMAIN}", 28)
    yield "www.example.com in a search path", lambda n: question(f"www-{n % 100}.example.com.{DOMAIN}", 1)
    yield "a Service, in capitals of every kind", lambda n: question(some_case(f"svc-{n % count}.{DOMAIN}"), 1)
    yield "a name outside, remembered", lambda n: question(f"www-{n % 100}.example.com", 1)
    yield "a name outside, never asked before", lambda n: question(f"w{n}-{random.getrandbits(40)}.example.com", 1)


@dataclass(frozen=True)
class Result:
    answered: float
    """In a second."""
    cost: float
    """Seconds of the server's processor for one."""


def measure(port: tuple[str, int], pid: int, packets: list[bytes], seconds: float) -> Result:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(port)
    sock.settimeout(1.0)
    before, begun = used(pid), CLOCK.monotonic()
    sent = got = 0
    while CLOCK.monotonic() - begun < seconds:
        while sent - got < WINDOW:
            for _ in range(BATCH):
                sock.send(sent.to_bytes(4, "big")[2:] + packets[sent % len(packets)])
                sent += 1
        try:
            for _ in range(BATCH):
                sock.recv(4096)
                got += 1
        except TimeoutError:
            sent = got  # what is lost is asked anew
    passed = CLOCK.monotonic() - begun
    return Result(got / passed, (used(pid) - before) / max(1, got))


def used(pid: int) -> float:
    """Seconds of processor time of a process, to the microsecond where the kernel tells them so."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def started(work: Callable[..., None], *arguments: Any) -> tuple[multiprocessing.Process, int]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=work, args=(*arguments, there), daemon=True)
    process.start()
    return process, here.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each kind of question (%(default)s)")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=3)
    parser.add_argument("--against", metavar="ADDRESS:PORT", help="another server that knows such names")
    parser.add_argument("--pid", type=int, help="its process")
    given = parser.parse_args()
    options = Options(given.seconds, given.services, given.endpoints)
    if given.against:
        host, _, port = given.against.partition(":")
        place, pid = (host, int(port)), given.pid
    else:
        _, outside = started(upstream)
        process, own = started(serve, options, outside)
        place, pid = ("127.0.0.1", own), process.pid
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{'':42}{'us each':>9}{'a second on one core':>22}{'answered':>10}")
    for name, make in kinds(options):
        packets = [make(number) for number in range(20_000)]
        measure(place, pid, packets, 0.5)
        found = measure(place, pid, packets, options.seconds)
        print(f"{name:42}{found.cost * 1e6:9.1f}{1 / found.cost:22,.0f}{found.answered:10,.0f}")


if __name__ == "__main__":
    main()
