"""The runtime: sandboxes, containers, images and networks of one machine. This page is the whole seam.

It knows Linux, not Kubernetes: specs are plain data in OCI's terms. `kubelet` and the Docker engine drive it;
each can be used without the other. `tiphys.runtime.linux.LinuxRuntime` does it for real,
`tiphys.testing.runtime.FakeRuntime` in memory on the virtual clock; both pass the same tests.

A sandbox is a set of namespaces (net, ipc, uts, and pid when shared) held by a pause process. Containers join
it. Every container has a shim of its own that outlives the process that asked for it: it keeps the log, the exit
code and a socket for attach and exec. After a restart, `sandboxes()` and `containers()` tell everything again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tiphys.base.errors import Permanent, TiphysError
from tiphys.base.http.types import Duplex
from tiphys.runtime.connectivity import NO_LIMITS, Bandwidth, PortMapping
from tiphys.runtime.measures import DiskUsage, Processes, SandboxUsage, Usage


class RuntimeFailure(TiphysError):
    """The kernel or the machine refused; the message names the step, the path and the errno."""


class NoSuchContainer(RuntimeFailure): ...


class NoSuchImage(RuntimeFailure): ...


class ImageInUse(RuntimeFailure):
    """A container of any node of the machine needs it."""


class InvalidSpec(RuntimeFailure, Permanent):
    """The spec asks for something impossible; the message names the field and the value."""


class State(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount of `source` (a host path), or a tmpfs when `source` is "" (`size` in bytes, 0: no limit); with
    `image` what `source` names in that image ("" for all of it), which nobody can change."""

    target: str
    source: str = ""
    readonly: bool = False
    propagation: str = "private"
    """private, rslave or rshared."""
    size: int = 0
    recursive_readonly: bool = False
    options: tuple[str, ...] = ()
    source_resolved: bool = False
    """`source` has no symlinks; if it has got one since it was looked at, refuse it."""
    image: str = ""
    """An image ID (sha256:...), already present."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of the host, made inside the container."""

    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class Resources:
    """Cgroup limits; 0 or "" leaves the kernel's default. Works on cgroup v1, v2 and hybrid layouts."""

    cpu_shares: int = 0
    """Relative weight, 2 to 262144; 1024 is one core's worth."""
    cpu_weight: int = 0
    """On v2 instead of what follows from the shares, 1 to 10000."""
    cpu_quota: int = 0
    """Microseconds of CPU time in each period; -1 for none."""
    cpu_period: int = 100_000
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    """CPUs and memory nodes as lists, e.g. "0-2,7"."""
    memory_limit: int = 0
    """Bytes; -1 for none."""
    memory_swap: int | None = None
    """Bytes that may be swapped out beyond the memory limit; -1 for no limit, None leaves it alone."""
    pids_limit: int = 0
    hugepages: tuple[tuple[str, int], ...] = ()
    """(page size as the kernel names it, e.g. 2MB; bytes at most)."""
    unified: tuple[tuple[str, str], ...] = ()
    """Files of v2 and their values, e.g. ("memory.high", "1048576"); they mean nothing on v1."""
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class Security:
    """What a process may do. Defaults are those of a Docker container."""

    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    """Names without CAP_, or ALL."""
    drop_capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = "default"
    """default, unconfined, or the path of an OCI seccomp profile (JSON)."""
    apparmor: str = ""
    """"" (the default profile where the host has AppArmor), default, unconfined, or the name of a loaded profile."""
    readonly_rootfs: bool = False
    masked_paths: tuple[str, ...] | None = None
    """None: the default list."""
    readonly_paths: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """`id` is the caller's, unique on the machine, [a-z0-9-]{1,64}."""

    id: str
    hostname: str = ""
    network: str = ""
    """Name of a `Network` to attach to; "host" for the node's own namespace, "none" for loopback only."""
    share_pid: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    cgroup_parent: str = ""
    """Relative cgroup path, e.g. tiphys/NAME/NODE/kubepods/burstable/podUID. Made if absent, removed with it."""
    cgroup_resources: Resources = field(default_factory=Resources)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Kept and returned unchanged; how callers find their own again."""
    handler: str = ""
    """Who runs its containers: "" for this runtime, else an OCI runtime by the name that it was configured with."""
    user_namespace: tuple[int, int] | None = None
    """(first, length): a user namespace of its own, whose IDs from 0 on are the host's from `first` on."""
    privileged: bool = False
    """Whether containers in it may be privileged: other runtimes want to know beforehand."""
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = NO_LIMITS
    """Both mean nothing in the host's network."""


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    spec: SandboxSpec
    state: State
    ips: tuple[str, ...] = ()
    created_at: float = 0
    """Seconds since the epoch, here and below; 0 for "not yet"."""
    pid: int = 0
    network_namespace: str = ""
    """A path that setns can open, e.g. /proc/PID/ns/net."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One process tree in a sandbox. `argv` is complete: the caller merged the image's entrypoint and command."""

    id: str
    sandbox: str
    image: str
    """An image ID (sha256:...), already present."""
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    """"" (the image's), a name, UID, or UID:GID; names are looked up in the image's /etc/passwd and /etc/group."""
    supplemental_groups: tuple[int, ...] = ()
    strict_groups: bool = False
    """Leave out the groups that the image's /etc/group adds the user to."""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    log_path: str = ""
    """Where the shim appends lines in the CRI format; "" keeps no log."""
    log_max_bytes: int = 10 * 1024 * 1024
    """Rotated to log_path.1 ... at this size, `log_max_files` kept."""
    log_max_files: int = 5
    stop_signal: str = ""
    """"" is the image's, else SIGTERM."""
    labels: Mapping[str, str] = field(default_factory=dict)
    cgroup_name: str = ""
    """Leaf under the sandbox's cgroup_parent; "" uses `id`."""
    pid_of: str = ""
    """ID of a running container of the same sandbox whose PID namespace this one joins."""
    rlimits: tuple[tuple[str, int, int], ...] = ()
    """(name without RLIMIT_, soft, hard), e.g. ("NOFILE", 1024, 4096); others are the runtime's own."""


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    spec: ContainerSpec
    state: State
    created_at: float = 0
    started_at: float = 0
    finished_at: float = 0
    exit_code: int = 0
    signal: int = 0
    oom_killed: bool = False
    error: str = ""
    """Why it could not start (state EXITED, exit code 127 or 128), for the user."""
    pid: int = 0
    """The host's pid of the container's first process; 0 unless running."""
    identity: tuple[int, int, tuple[int, ...]] | None = None
    """uid, gid and supplementary groups that the first process started with; None when it ended too soon to tell."""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """A container (or a sandbox: `container` is "") changed state."""

    sandbox: str
    container: str
    state: State
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class ExecResult:
    exit_code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False


class Session(Protocol):
    """A running exec or an attachment. `output` yields (1, stdout) and (2, stderr) chunks until both end."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]: ...

    async def write(self, data: bytes) -> None:
        """To the process's stdin; waits while it is full."""
        ...

    async def close_stdin(self) -> None: ...

    async def detach(self) -> None:
        """No more input; an attachment ends once what was written has arrived, and the container goes on."""
        ...

    async def resize(self, width: int, height: int) -> None:
        """Of the terminal, in characters."""
        ...

    async def wait(self) -> int:
        """The exit code (exec), or 0 when the container ended or detached (attach)."""
        ...

    async def close(self) -> None:
        """Let go. An exec'd process is killed, an attached container goes on."""
        ...


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The parts of the OCI image configuration that matter for running it."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    """sha256 of the configuration."""
    tags: tuple[str, ...]
    """Full references, e.g. docker.io/library/nginx:latest."""
    digests: tuple[str, ...]
    """Full references by digest, e.g. docker.io/library/nginx@sha256:..."""
    size: int
    """Bytes of all layers, unpacked."""
    config: ImageConfig
    pinned: bool = False
    """Loaded from a file by the user: pulls of its tags are answered from here (see images.py)."""


@dataclass(frozen=True, slots=True)
class Credential:
    username: str = ""
    password: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeHandler:
    """What a sandbox may name as its handler, and what that can do."""

    name: str
    recursive_readonly_mounts: bool = True
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    name: str
    version: str
    handlers: tuple[RuntimeHandler, ...] = ()
    problems: tuple[str, ...] = ()
    """Why it could not run a sandbox now: "network: ..."; empty when it could."""


class ImageStore(Protocol):
    """Images of this machine: one content store for all nodes and the Docker engine."""

    async def load(self, path: str) -> Sequence[Image]:
        """From a docker-archive or OCI layout tar (plain, gzip, zstd where Python has it). Raises InvalidSpec."""
        ...

    async def pull(self, reference: str, credentials: Sequence[Credential] = ()) -> Image:
        """From its registry or mirrors, digests checked; as each of `credentials` in turn, as nobody without any.
        Raises NoSuchImage, Retry, Permanent."""
        ...

    async def get(self, reference: str) -> Image | None:
        """By name, tag, digest, ID or ID prefix (12 or more characters)."""
        ...

    async def list(self) -> Sequence[Image]: ...

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever images came or went, whichever process did it. Told, never polled."""
        ...

    async def remove(self, reference: str) -> None:
        """The tag; the image with its last tag, unless a container uses it (raises ImageInUse)."""
        ...


class Network(Protocol):
    """Gives sandboxes their interfaces, addresses, ports and bandwidth. State is on disk: a restart forgets nothing."""

    @property
    def namespace(self) -> str:
        """The network namespace of the node itself (a path for setns): what `network="host"` joins."""
        ...

    async def problems(self) -> Sequence[str]:
        """Why no sandbox can be attached now, in words for the user."""
        ...

    async def attach(self, sandbox: SandboxSpec, namespace: str) -> tuple[str, ...]:
        """Set up lo and eth0 in `namespace` (a path) and return the addresses, the primary one first. Harmless if done
        already."""
        ...

    async def detach(self, sandbox: str) -> None:
        """Release what the sandbox of that ID has; the interface goes with the namespace. Harmless if done already."""
        ...

    async def keep(self, sandboxes: Sequence[SandboxStatus]) -> None:
        """At the start, before anything is attached: these are all that there are. What others left is released."""
        ...


class Cgroups(Protocol):
    """The machine's cgroups by relative path, e.g. tiphys/demo/node1/kubepods, for whoever arranges sandboxes in them.

    Calls are a handful of reads and writes of kernel files and do not wait, `remove` aside."""

    @property
    def version(self) -> int:
        """1 (also for a hybrid layout) or 2."""
        ...

    @property
    def swap(self) -> bool:
        """Whether swap can be limited."""
        ...

    def set(self, path: str, resources: Resources) -> None:
        """Make it and its parents where they are missing, and write its limits. Raises RuntimeFailure."""
        ...

    def get(self, path: str) -> Resources | None:
        """Shares, quota and memory limit as the kernel has them, 0 for no limit; None when there is no such cgroup."""
        ...

    def usage(self, path: str) -> Usage | None:
        """Of everything in it; None when there is no such cgroup."""
        ...

    def children(self, path: str) -> Sequence[str]:
        """Names of the cgroups in it."""
        ...

    def remove(self, path: str) -> None:
        """Kill what is inside and remove it with all below it; waits. Harmless if it is gone."""
        ...


class Runtime(Protocol):
    """See the module's docstring. Methods raise RuntimeFailure unless they say otherwise."""

    images: ImageStore
    cgroups: Cgroups

    async def info(self) -> RuntimeInfo:
        """Who answers, and how it is."""
        ...

    async def create_sandbox(self, spec: SandboxSpec) -> SandboxStatus:
        """Namespaces, pause process, network, cgroup. Harmless if it exists already as asked."""
        ...

    async def sandboxes(self) -> Sequence[SandboxStatus]: ...

    async def remove_sandbox(self, id: str) -> None:
        """Kill all that is in it and release everything. Harmless if it is gone."""
        ...

    async def create_container(self, spec: ContainerSpec) -> None:
        """Prepare its root file system and record it; nothing runs yet. Raises NoSuchImage, InvalidSpec."""
        ...

    async def start_container(self, id: str) -> ContainerStatus:
        """Run it; returns when its program was executed. Raises RuntimeFailure with the reason if it was not."""
        ...

    async def stop_container(self, id: str, grace: float) -> ContainerStatus:
        """Send the stop signal, SIGKILL after `grace` seconds; returns when it has exited. Harmless if it has."""
        ...

    async def signal_container(self, id: str, signal: int) -> None: ...

    async def remove_container(self, id: str) -> None:
        """Its files, not its log. Kills it first. Harmless if it is gone."""
        ...

    async def container(self, id: str) -> ContainerStatus:
        """Raises NoSuchContainer."""
        ...

    async def containers(self) -> Sequence[ContainerStatus]: ...

    def events(self) -> AsyncIterator[ContainerEvent]:
        """Changes from now on, also those that happened while no process watched. Told, never polled."""
        ...

    async def exec(self, id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> Session:
        """Run `argv` beside the container's process, with its user, environment, limits and confinement."""
        ...

    async def exec_sync(self, id: str, argv: Sequence[str], timeout: float) -> ExecResult:
        """Run to the end; killed after `timeout` seconds (0: no limit). Output is cut at 16 MiB."""
        ...

    async def attach(self, id: str) -> Session: ...

    async def dial(self, sandbox: str, port: int) -> Duplex:
        """A TCP connection to localhost:`port` inside the sandbox's network."""
        ...

    async def usage(self, id: str) -> Usage:
        """Of a running container."""
        ...

    async def processes(self, id: str) -> Processes:
        """Of a running container."""
        ...

    async def disk_usage(self, id: str) -> DiskUsage:
        """Of what a container wrote to its root file system, running or not."""
        ...

    async def sandbox_usage(self, id: str) -> SandboxUsage:
        """Of a running sandbox."""
        ...

    async def update(self, id: str, resources: Resources, labels: Mapping[str, str] | None = None) -> None:
        """Change the limits of a running container; 0 or "" leaves one as it is. Its spec has them from now on, with
        `labels` added to its own. Harmless if done already."""
        ...

    async def close(self) -> None:
        """Let go of everything; containers go on."""
        ...
