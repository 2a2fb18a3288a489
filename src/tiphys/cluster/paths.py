"""Where a cluster keeps things.

HOME (/var/lib/tiphys, or $TIPHYS_HOME)      what all clusters of this machine share
     (~/.local/share/tiphys without root: what all of this user's share)
  images/                                    the content store
  clusters/NAME.json                         where cluster NAME keeps its data
  data/NAME/                                 a cluster's data, unless --data-dir said otherwise
    cluster.json  pki/  store/  logs/  nodes/NODE/
RUN (/run/tiphys, or $TIPHYS_RUN)/NAME/      locks and namespaces: gone after a reboot, like the processes
    ($XDG_RUNTIME_DIR/tiphys without root)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

PRIVATE = 0o700
DEFAULT_HOME = "/var/lib/tiphys"


def home() -> Path:
    return Path(os.environ.get("TIPHYS_HOME") or _default_home()).absolute()


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path(DEFAULT_HOME)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tiphys"


def _own_run() -> Path:
    """For a user who is not root; systemd makes the first, and only its user can enter it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "tiphys" if runtime else Path(f"/tmp/tiphys-{os.geteuid()}")  # noqa: S108 - its owner is checked


def run_root() -> Path:
    """$TIPHYS_RUN; without it one for each home, so that clusters of the same name in two homes do not meet."""
    if told := os.environ.get("TIPHYS_RUN"):
        return Path(told).absolute()
    if os.geteuid() != 0:
        return _own_run()
    if home() == Path(DEFAULT_HOME):
        return Path("/run/tiphys")
    return Path(f"/run/tiphys-{_mark()}")


def cgroup(name: str) -> str:
    """What a cluster's cgroup below tiphys/ is called: as the cluster, with the home's mark if that is another."""
    return name if home() == Path(DEFAULT_HOME) else f"{_mark()}-{name}"


def _mark() -> str:
    return f"{crc32(os.fsencode(home())):08x}"


def images_dir() -> Path:
    return home() / "images"


def runtimes_dir() -> Path:
    """Names the runtimes outside of all clusters that use the images, a file each."""
    return home() / "runtimes"


def pointer(name: str) -> Path:
    """The file that says where the data of cluster `name` is: a copy of its cluster.json."""
    return home() / "clusters" / f"{name}.json"


def create_lock() -> Path:
    """Held while a new cluster takes address ranges and a port."""
    return home() / "create.lock"


def machine_lock() -> Path:
    """Held shared by commands that use what clusters share, exclusively by the one that removes it."""
    return home() / "machine.lock"


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The files of one cluster."""

    name: str
    data: Path

    @property
    def config(self) -> Path:
        return self.data / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def store(self) -> Path:
        return self.data / "store" / "state.db"

    @property
    def kubeconfig(self) -> Path:
        return self.data / "admin.kubeconfig"

    @property
    def kubelet_config(self) -> Path:
        """The KubeletConfiguration of all nodes, if the user gave one."""
        return self.data / "kubelet.yaml"

    @property
    def run(self) -> Path:
        return run_root() / self.name

    def log(self, component: str) -> Path:
        return self.data / "logs" / f"{component}.log"

    def lock(self, component: str) -> Path:
        """Held by the component's process for as long as it lives."""
        return self.run / f"{component}.lock"

    def node(self, node: str) -> Path:
        return self.data / "nodes" / node

    def make(self) -> None:
        """Create the directories, readable by their owner alone."""
        for directory in (self.data, self.pki, self.store.parent, self.data / "logs", self.run):
            directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
