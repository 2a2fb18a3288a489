"""The host's own network is as it was, once a cluster is deleted, whatever was killed in between.

The host is a network namespace of its own here, with an uplink and routes, so that nothing else changes it meanwhile.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import CLOCK, Commands
from tiphys.base.netlink import Netlink
from tiphys.base.nftables import Nftables
from tiphys.runtime import netns

pytestmark = pytest.mark.e2e
NAME = "hostly"
PREPARE = "mount -t tmpfs run /run && echo ready && exec sleep infinity"
VOLATILE = ("nf_conntrack_count", "tcp_fastopen_key", "stable_secret", "flush")
SEED = random.randrange(1 << 32)


class Host:
    """A machine as far as its network goes: namespaces that commands are run in."""

    def __init__(self, home: Path) -> None:
        words = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", PREPARE]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self.namespace = f"/proc/{self._holder.pid}/ns/net"
        self.home = home
        self.environment = Commands(home, Path("/run/tiphys")).environment
        netns.inside(self.namespace, self._uplink)

    def _uplink(self) -> None:
        """A device with addresses and default routes, and settings that are not the kernel's own."""
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        with Netlink() as link, open("/proc/thread-self/ns/net") as here:
            link.set_up(1)
            link.add_veth("uplink", "beyond", here.fileno())
            for name in ("beyond", "uplink"):
                link.set_up(link.index(name))
            for prefix, gateway in (("198.18.0.2/24", "198.18.0.1"), ("2001:db8::2/64", "2001:db8::1")):
                link.add_address(link.index("uplink"), prefix)
                link.add_route("default", gateway, link.index("uplink"))
        for name, value in (("ipv4/conf/all/accept_redirects", "0"), ("ipv4/conf/uplink/rp_filter", "2")):
            Path("/proc/sys/net", name).write_text(value)
        with Nftables() as firewall:
            firewall.run("table inet ours { chain input { type filter hook input priority 0; tcp dport 23 drop; }; }")

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """`tiphys` with these words, in this machine."""
        enter = ["nsenter", "-t", str(self._holder.pid), "-n", "-m"]
        program = [*enter, sys.executable, "-m", "tiphys", *words]
        return subprocess.Popen(program, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def tiphys(self, *words: str) -> None:
        process = self.start(*words)
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said.decode()

    def killed(self, after: float, *words: str, all: bool) -> None:
        """`tiphys` with these words, killed after some seconds; `all`: and every process of the cluster with it."""
        process = self.start(*words)
        end = CLOCK.monotonic() + after
        threading.Event().wait(max(0.0, end - CLOCK.monotonic()))
        process.kill()
        for pid in self.processes() if all else ():
            os.kill(pid, signal.SIGKILL)
        process.communicate()

    def processes(self) -> Iterator[int]:
        """Of clusters here."""
        mark = f"TIPHYS_HOME={self.home}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)
            except OSError:
                continue

    def network(self) -> dict[str, str]:
        """All that one could look at."""
        return netns.inside(self.namespace, _network)

    def close(self) -> None:
        self.tiphys("delete", "--all")
        self._holder.kill()
        self._holder.communicate()


def _network() -> dict[str, str]:
    found = {}
    for words in (("link",), ("addr",), ("rule",), ("-6", "rule"), ("route", "show", "table", "all")):
        found[f"ip {' '.join(words)}"] = _ip(*words)
    found["ip -6 route"] = _ip("-6", "route", "show", "table", "all")
    with Nftables() as firewall:
        found["nft"] = firewall.run("list ruleset")
    for path in Path("/proc/sys/net").rglob("*"):
        if path.is_file() and not path.name.endswith(VOLATILE):
            try:
                found[str(path)] = path.read_text()
            except OSError:
                continue
    return found


def _ip(*words: str) -> str:
    """One thing a line, without how long it lives."""
    listed = subprocess.run(["ip", "-o", *words], capture_output=True, text=True, check=True).stdout
    return "\n".join(sorted(line.partition(" expires")[0] for line in listed.splitlines()))


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Lines that are gone or new: "- ip rule: ..."."""
    old, new = (
        {f"{key}: {line}" for key, text in state.items() for line in text.split("\n")} for state in (before, after)
    )
    return [*(f"- {line}" for line in sorted(old - new)), *(f"+ {line}" for line in sorted(new - old))]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


def test_the_hosts_network_is_as_it_was(host: Host) -> None:
    chance = random.Random(SEED)
    before = host.network()
    ports = ("--publish", "198.18.0.2:8080:80", "--publish", "8081:443")
    up = ("up", NAME, "--ip-family", "dual", *ports, "--listen", "198.18.0.2")

    def is_as_before(what: str) -> None:
        if changed := differences(before, host.network()):
            pytest.fail("\n".join((f"{what}, seed {SEED}", *changed)))

    host.tiphys(*up)
    during = "\n".join(differences(before, host.network()))
    for what in ("ip route", "ip -6 route", "nft", "/proc/sys/net/ipv6/conf/all/forwarding: 1"):
        assert f"+ {what}" in during
    assert "/proc/sys/net/ipv6/conf/uplink/accept_ra: 2" in during, "it goes on learning its route"
    host.killed(chance.uniform(0.1, 1.5), "node", "add", "--name", NAME, all=chance.random() < 0.5)
    host.killed(chance.uniform(0.1, 1.0), "delete", NAME, all=chance.random() < 0.5)
    host.tiphys("delete", "--all")
    is_as_before("a node was added and the cluster deleted")
    for _ in range(3):
        seconds = chance.uniform(0.2, 2.5)
        host.killed(seconds, *up, all=chance.random() < 0.7)
        host.tiphys("delete", "--all")
        is_as_before(f"up was killed after {seconds} s")
