"""Another machine, simulated: a network namespace with an address on a bridge of the test's, and a /run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from e2e.commands import CLOCK
from tiphys.base.netlink import Netlink
from tiphys.runtime import netns

BRIDGE = "tiphys-test"
NETWORK = "192.168.77"
HERE = f"{NETWORK}.1"
HOLD = "mount -t tmpfs none /run && echo ready && exec sleep infinity"


def join_machines() -> None:
    """A bridge that stands for the link between machines; this one has the first address."""
    part_machines()
    with Netlink() as link:
        link.add_bridge(BRIDGE)
        device = link.index(BRIDGE)
        link.add_address(device, f"{HERE}/24")
        link.set_up(device)


def part_machines() -> None:
    with Netlink() as link, suppress(OSError):
        link.delete_link(BRIDGE)


class Machine:
    """`number` decides its address. Commands run in its network, with its /run."""

    def __init__(self, number: int, home: Path) -> None:
        self.address = f"{NETWORK}.{number}"
        self.home = home
        self._path = Path(f"/run/tiphys-machine-{os.getpid()}-{number}")
        netns.persist(self._path)
        self._connect(number)
        enter = ["nsenter", f"--net={self._path}", "unshare", "--mount", "--propagation", "private"]
        self._holder = subprocess.Popen([*enter, "sh", "-c", HOLD], stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.environment: Mapping[str, str] = {
            **os.environ,
            "TIPHYS_HOME": str(home / "tiphys"),
            "TIPHYS_RUN": str(home / "run"),
            "PYTHONPATH": os.pathsep.join(os.path.abspath(each) for each in sys.path if each),
        }

    def _connect(self, number: int) -> None:
        name = f"{BRIDGE}{number}"
        handle = os.open(self._path, os.O_RDONLY)
        with Netlink() as host, netns.netlink_in(str(self._path)) as there:
            with suppress(OSError):
                host.delete_link(name)  # of a test that was killed
            host.add_veth(name, "eth0", handle)
            host.set_up(host.index(name), host.index(BRIDGE))
            there.set_up(1)
            device = there.index("eth0")
            there.add_address(device, f"{self.address}/24")
            there.set_up(device)
            there.add_route("default", HERE)
        os.close(handle)

    def _words(self, words: tuple[str, ...]) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "--mount", "--net", *words]

    def run(self, *words: str, check: bool = True) -> str:
        """What the command prints."""
        done = subprocess.run(
            self._words(words), env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def tiphys(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "tiphys", *words)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """`tiphys WORDS` in the foreground; its log is HOME/log."""
        with open(self.home / "log", "ab") as log:
            command = self._words((sys.executable, "-m", "tiphys", *words))
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def links(self) -> list[str]:
        """The names of its devices."""
        with netns.netlink_in(str(self._path)) as there:
            return sorted(there.links())

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        end = CLOCK.monotonic() + 10
        while netns.is_namespace(self._path) and CLOCK.monotonic() < end:
            netns.drop(self._path)
            threading.Event().wait(0.05)
