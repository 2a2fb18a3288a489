"""Small worlds to run a Service proxy in: a node in a network namespace of its own, pods, another node, an outsider.

    client 192.0.2.2 ── 192.0.2.1 node n1 10.240.0.1 ── 10.240.0.2 node n2 (10.244.2.0/24, all of it)
                                    │        └── 10.240.0.3 node n3 (its pod 10.244.3.1 only asks)
                          pods 10.244.1.1, .2, ...

All that listens answers with its name and the address that it was asked from. Nothing leaves the namespaces: the API
server is reached through a relay that listens on the node's loopback address.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from tiphys.runtime import netns

CLIENT, EDGE, NODE, OTHER, THIRD = "192.0.2.2", "192.0.2.1", "10.240.0.1", "10.240.0.2", "10.240.0.3"
ASKING = "10.244.3.1"
"""A pod of the third node."""
PORT = 8080
"""On which every pod answers."""

_PREFIXES = {"10.244": "fd00:244", "10.240": "fd00:240", "10.96": "fd00:96", "192.0": "2001:db8"}
_PREFIXES |= {"198.51": "2001:db8", "203.0": "2001:db8", "127.0": "0:0"}


def ipv6(text: str) -> str:
    """A text with its IPv4 addresses and ranges replaced by those of IPv6 that stand for them."""

    def replaced(match: re.Match[str]) -> str:
        first, third, fourth, bits = match[1], int(match[2]), int(match[3]), match[4]
        prefix = _PREFIXES[first]
        if bits in ("/16", "/24"):
            return f"{prefix}::/32" if bits == "/16" else f"{prefix}:{third}::/48"
        if first == "10.96":
            return f"{prefix}::{third * 256 + fourth:x}"
        middle = "" if first == "127.0" else f":{third}" if third else ""
        return f"{ip_address(f'{prefix}{middle}::{fourth:x}')}{'/128' if bits else ''}"

    text = text.replace('"IPv4"', '"IPv6"')
    return re.sub(r"(?<![\d.])(\d+\.\d+)\.(\d+)\.(\d+)(/\d+)?", replaced, text)


class World:
    """`pods` are addresses in 10.244.1.0/24 (on this node) or 10.244.2.0/24 (on the other one)."""

    def __init__(self, folder: Path, pods: list[str], translate: Callable[[str], str] = str) -> None:
        """`translate` makes the addresses of another IP family of those named here."""
        self._folder, self.pods, self._translate = folder, pods, translate
        self._family = socket.AF_INET6 if ":" in translate(NODE) else socket.AF_INET
        self.local = [pod for pod in pods if pod.startswith("10.244.1.")]
        self.places = ("node", "client", "other", "third", *self.local)
        self._stack = contextlib.ExitStack()
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()

    def path(self, place: str) -> str:
        return str(self._folder / place)

    def __enter__(self) -> World:
        try:
            self._make()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _make(self) -> None:
        for place in self.places:
            netns.persist(self._folder / place)
            self._stack.callback(netns.drop, self._folder / place)
            netns.loopback_up(self.path(place))
        netns.write_sysctl(self.path("node"), "net.ipv4.ip_forward", "1")
        netns.write_sysctl(self.path("node"), "net.ipv4.icmp_ratelimit", "0")
        netns.write_sysctl(self.path("node"), "net.ipv6.conf.all.forwarding", "1")
        netns.write_sysctl(self.path("node"), "net.ipv6.icmp.ratelimit", "0")
        self._join("client", EDGE, CLIENT)
        self._join("other", NODE, OTHER)
        self._join("third", NODE, THIRD)
        for pod in self.local:
            self._join(pod, "10.244.1.254", pod)
        with netns.netlink_in(self.path("node")) as link:
            link.add_route(self._translate("10.244.2.0/24"), gateway=self._translate(OTHER))
            link.add_route(self._translate(f"{ASKING}/32"), gateway=self._translate(THIRD))
            link.add_route("default", gateway=self._translate(CLIENT))  # who forwards nothing: what goes astray is lost
        with netns.netlink_in(self.path("third")) as link:
            link.add_address(1, self._translate(f"{ASKING}/32"))
        with netns.netlink_in(self.path("other")) as link:
            for pod in self.pods:
                if pod not in self.local:
                    link.add_address(1, self._translate(f"{pod}/32"))
        self._listen()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for one in self._sockets:
            one.close()
        self._selector.close()
        self._stack.close()

    def _join(self, place: str, here: str, there: str) -> None:
        """A link between the node and a place, whose default route it is."""
        name, gateway = f"v{self.places.index(place)}", self._translate(here)
        here, there = (self._translate(f"{address}/32") for address in (here, there))
        with contextlib.closing(_Handle(self.path(place))) as handle, netns.netlink_in(self.path("node")) as link:
            link.add_veth(name, "eth0", handle.number)
            link.add_address(link.index(name), here)
            link.add_route(there, index=link.index(name))
        with netns.netlink_in(self.path(place)) as link:
            link.set_up(link.index("eth0"))
            link.add_address(link.index("eth0"), there)
            link.add_route(here, index=link.index("eth0"))
            link.add_route("default", gateway=gateway)

    def _listen(self) -> None:
        for pod in self.pods:
            place = pod if pod in self.local else "other"
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                made = self.opened(place, kind)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind((self._translate(pod), PORT))
                if kind == socket.SOCK_STREAM:
                    made.listen(100)
                self._sockets.append(made)
                self._selector.register(made, selectors.EVENT_READ, partial(self._answer_one, made, pod))
        self._thread = threading.Thread(target=self._answer, name="pods")
        self._thread.start()

    def _answer(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.1):
                with contextlib.suppress(OSError):
                    key.data()

    def _answer_one(self, one: socket.socket, pod: str) -> None:
        if one.type == socket.SOCK_DGRAM:
            _, peer = one.recvfrom(100)
            one.sendto(f"{pod} {peer[0]}".encode(), peer)
        else:
            taken, peer = one.accept()
            with taken:
                taken.send(f"{pod} {peer[0]}".encode())

    def opened(self, place: str, kind: int) -> socket.socket:
        return netns.socket_in(self.path(place), self._family, kind)

    def bind(self, one: socket.socket, address: str) -> None:
        one.bind((self._translate(address), 0))

    def ask(self, place: str, address: str, port: int, protocol: str, bound: socket.socket | None = None) -> str:
        """What a packet from a place meets: "POD SOURCE", "refused", "lost" or an error's name."""
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        asking = bound or self.opened(place, kind)
        asking.settimeout(0.25)
        try:
            asking.connect((self._translate(address), port))
            if protocol == "UDP":
                asking.send(b"?")
            return asking.recv(100).decode() or "ended"
        except TimeoutError:
            return "lost"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return str(error.strerror)
        finally:
            if bound is None:
                asking.close()


class _Handle:
    """An open namespace."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
        self.number = self._file.fileno()
        self.close = self._file.close


@contextlib.contextmanager
def relayed(namespace: str, port: int) -> Iterator[None]:
    """A port of the namespace's loopback address leads to the same one of this machine's."""
    listener = netns.socket_in(namespace)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(100)
    ready, loops = threading.Event(), []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    async def main() -> None:
        stopped = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stopped))
        server = await asyncio.start_server(taken, sock=listener)
        ready.set()
        await stopped.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="relay")
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        loop, stopped = loops[0]
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


@contextlib.contextmanager
def started(namespace: str, command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program inside the network namespace. Whoever needs /sys to be the namespace's own gets it by nsenter."""
    with log.open("wb") as out:
        words = ["nsenter", f"--net={namespace}", *command]
        process = subprocess.Popen(words, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def until(done: Callable[[], bool], seconds: float, pause: Callable[[float], None]) -> bool:
    """Whether it came true in time."""
    for _ in range(int(seconds / 0.02)):
        if done():
            return True
        pause(0.02)
    return False
