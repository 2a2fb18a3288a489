"""Running without root: commands enter namespaces of the user's own, in which they are root (docs/rootless.md).

    the user's own     the agent (agent.py): makes sockets in the host's network for the others
    user namespace     0 is the user; more IDs if /etc/subuid gives some (newuidmap, newgidmap)
     ├ mounts          a /run that can be written, /var/log in the clusters' home
     └ network         RUN/netns/host: has the place that the host's has with root, with its bridges and links

The namespaces live as long as any process in them: the agent, or a component of a cluster. Whoever enters takes
them from one of these; whichever of them is killed, nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tiphys.base import outside
from tiphys.base.errors import Permanent
from tiphys.cluster import paths, processes
from tiphys.cluster.locks import locked
from tiphys.runtime import netns, syscalls

AGENT = "agent"
START_WITHIN = 20.0
STOP_GRACE = 5.0
UNSHARED = b"1"
FAILED = "!"


def enter(verb: str) -> None:
    """Become root: of the user's namespaces, unless this process is root already. Raises Permanent.

    To be called before this process has threads."""
    if os.geteuid() == 0:
        return
    run = _directories()
    try:
        with locked(run / "rootless.lock"):
            _enter(run)
    except OSError as error:
        raise Permanent(
            f"`tiphys {verb}` makes namespaces, mounts and network devices, and this user may not: {error}; "
            f"`tiphys doctor` tells what is missing, or run it as root (sudo)"
        ) from error


def leave() -> None:
    """Remove what the user's clusters shared, once the last of them is deleted. Harmless for root."""
    if not outside.agent():
        return
    run = paths.run_root()
    processes.stop(run / f"{AGENT}.lock", STOP_GRACE)
    netns.drop(host_namespace(run))
    shutil.rmtree(paths.home() / "log", ignore_errors=True)
    for file in (_log(), run / f"{AGENT}.lock", run / "agent.sock", run / "rootless.lock"):
        file.unlink(missing_ok=True)


def host_namespace(run: Path) -> Path:
    """The network namespace that stands for the host's."""
    return run / "netns" / "host"


def _log() -> Path:
    return paths.home() / "agent.log"


def id_ranges(user: str, text: str) -> tuple[int, int] | None:
    """(first, how many) of the IDs that /etc/subuid's or subgid's `text` gives `user` (name or number)."""
    for line in text.splitlines():
        name, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if name == user and first.isdigit() and count.isdigit():
            return int(first), int(count)
    return None


def _directories() -> Path:
    """The user's own places, told to children, which will seem to be root. Returns RUN."""
    home, run = paths.home(), paths.run_root()
    for directory in (home, run):
        directory.mkdir(mode=paths.PRIVATE, parents=True, exist_ok=True)
        if directory.stat().st_uid != os.geteuid():
            raise Permanent(f"{directory} belongs to somebody else; set TIPHYS_HOME and TIPHYS_RUN")
    os.environ |= {"TIPHYS_HOME": str(home), "TIPHYS_RUN": str(run), outside.AGENT: str(run / "agent.sock")}
    return run


def _enter(run: Path) -> None:
    agent = processes.pid_of(run / f"{AGENT}.lock")
    member = agent or next(_members(run), 0)
    if not member:
        _make(run)
        agent = member = processes.pid_of(run / f"{AGENT}.lock")
    here = os.getcwd()
    _join(f"/proc/{member}/ns/user", f"/proc/{member}/ns/mnt")
    os.chdir(here)
    if not agent:
        _start_agent(run)
    _join(net=str(host_namespace(run)))


def _members(run: Path) -> Iterator[int]:
    """Components that live in the namespaces."""
    return filter(None, map(processes.pid_of, run.glob("*/*.lock")))


def _join(user: str = "", mounts: str = "", net: str = "") -> None:
    wanted = ((user, syscalls.CLONE_NEWUSER), (mounts, syscalls.CLONE_NEWNS), (net, syscalls.CLONE_NEWNET))
    handles = [(os.open(path, os.O_RDONLY | os.O_CLOEXEC), kind) for path, kind in wanted if path]
    for handle, kind in handles:
        syscalls.setns(handle, kind)
        os.close(handle)


def _make(run: Path) -> None:
    """Make the namespaces in a child: this process must not be in them before its IDs are mapped from outside."""
    news, news_end = os.pipe()
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(news)
        os.close(go)
        _live(run, news_end, wait)
    os.close(news_end)
    os.close(wait)
    try:
        with os.fdopen(news, "rb", buffering=0) as told:
            try:
                if told.read(1) == UNSHARED:
                    _map_ids(child)
                    os.write(go, UNSHARED)
            finally:
                os.close(go)
            failure = told.read().decode()
    finally:
        os.waitpid(child, 0)
    if failure:
        raise OSError(failure.removeprefix(FAILED))


def _live(run: Path, news: int, wait: int) -> NoReturn:
    """The child: enter new namespaces, furnish them, and leave the agent there."""
    code = 1
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        os.write(news, UNSHARED)
        if os.read(wait, 1):
            _furnish(run)
            _start_agent(run)
            code = 0
    except (OSError, Permanent) as error:
        os.write(news, FAILED.encode() + str(error).encode())
    finally:
        os._exit(code)


def _map_ids(child: int) -> None:
    """0 is the user; from 1 on what /etc/subuid and /etc/subgid give, if the programs that may do that are there."""
    ranges = [_range_of(Path(f"/etc/sub{kind}")) for kind in ("uid", "gid")]
    programs = [shutil.which(f"new{kind}map") for kind in ("uid", "gid")]
    own = (os.getuid(), os.getgid())
    if all(ranges) and all(programs):
        for program, mine, given in zip(programs, own, ranges, strict=True):
            words = [str(program), str(child), "0", str(mine), "1", "1", *map(str, given or ())]
            done = subprocess.run(words, check=False, capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"{program}: {done.stderr.strip()}")
        return
    Path(f"/proc/{child}/setgroups").write_text("deny")  # or one could drop a group that is there to forbid something
    for kind, mine in zip(("uid", "gid"), own, strict=True):
        Path(f"/proc/{child}/{kind}_map").write_text(f"0 {mine} 1")


def _range_of(file: Path) -> tuple[int, int] | None:
    names = [str(os.getuid())]
    with contextlib.suppress(KeyError):  # a user without a name
        names.insert(0, pwd.getpwuid(os.getuid()).pw_name)
    try:
        text = file.read_text()
    except OSError:
        return None
    return next(filter(None, (id_ranges(name, text) for name in names)), None)


def _furnish(run: Path) -> None:
    """Mounts of our own where something of the host's cannot be written, and the network that all live in."""
    syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    logs = paths.home() / "log"
    logs.mkdir(mode=paths.PRIVATE, exist_ok=True)
    syscalls.mount(str(logs), "/var/log", None, syscalls.MS_BIND)
    _copy_up(Path("/run"))
    namespace = host_namespace(run)
    netns.persist(namespace)
    netns.loopback_up(str(namespace))


def _copy_up(directory: Path) -> None:
    """A tmpfs over `directory`, in which links lead to what was there, but for what root's clusters keep there."""
    tree = syscalls.open_tree(str(directory), recursive=True)
    syscalls.mount("tmpfs", str(directory), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    below = directory / ".host"
    below.mkdir()
    target = os.open(below, os.O_PATH | os.O_CLOEXEC)
    syscalls.move_mount(tree, target)
    os.close(target)
    os.close(tree)
    for entry in os.listdir(below):
        if not entry.startswith("tiphys"):
            (directory / entry).symlink_to(f".host/{entry}")


def _start_agent(run: Path) -> None:
    lock = run / f"{AGENT}.lock"
    child = processes.start(AGENT, ["run", AGENT], lock, _log())
    processes.wait_ready([child], AGENT, START_WITHIN, lambda _: None)
