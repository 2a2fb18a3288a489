"""What the doctor asks for whom is not root: whether rootless mode can be had, and what it lacks (docs/rootless.md)."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tiphys.cluster.findings import Finding
from tiphys.cluster.rootless import id_ranges
from tiphys.runtime import syscalls

ETC = Path("/etc")
_ALLOW = (
    "sysctl user.max_user_namespaces=10000; Debian's older kernels: kernel.unprivileged_userns_clone=1; "
    "Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0; or run tiphys as root (sudo)"
)


def apart(work: Callable[[], object]) -> None:
    """`work()` as root of a user namespace in a process of its own. Raises OSError."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os._exit(_try(work, write_end))
    os.close(write_end)
    with open(read_end, "rb") as told:
        text = told.read().decode()
    os.waitpid(child, 0)
    if text:
        raise OSError(0, text)


def _try(work: Callable[[], object], answer: int) -> int:
    try:
        own = {"uid": os.getuid(), "gid": os.getgid()}
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        for kind, number in own.items():
            Path(f"/proc/self/{kind}_map").write_text(f"0 {number} 1")
        work()
    except OSError as error:
        os.write(answer, (error.strerror or str(error)).encode())
        return 1
    return 0


def _root() -> Finding:
    return Finding(
        "root",
        False,
        f"uid {os.geteuid()}: rootless mode",
        "run tiphys as root (sudo)",
        False,
        "containers are not held to their limits, pods do not reach other machines, hostUsers: false is refused",
    )


def _capabilities() -> Finding:
    try:
        apart(lambda: None)
    except OSError as error:
        return Finding("capabilities", False, f"no user namespace: {error.strerror}", _ALLOW)
    return Finding("capabilities", True, "all, in a user namespace of one's own")


def _cgroups() -> Finding:
    return Finding(
        "cgroups",
        False,
        "the machine's, not used",
        "run tiphys as root (sudo)",
        False,
        "requests and limits count for the scheduler only; usage is not measured",
    )


def _forwarding() -> Finding:
    return Finding("IPv4 forwarding", True, "in a network of one's own")


def _ids() -> Finding:
    """More IDs than the user's own, for containers with several users."""
    names = (pwd.getpwuid(os.getuid()).pw_name if _has_account() else "", str(os.getuid()))
    lacking = [program for program in ("newuidmap", "newgidmap") if shutil.which(program) is None]
    for file in ("subuid", "subgid"):
        try:
            text = (ETC / file).read_text()
        except OSError:
            text = ""
        if not any(id_ranges(name, text) for name in names if name):
            lacking.append(f"a range in /etc/{file}")
    return Finding(
        "user's IDs",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else "a range for containers",
        "apt-get install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        False,
        "containers have one user, root: pods with another runAsUser, fsGroup or supplementalGroups are refused",
    )


def _has_account() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


CHECKS: Mapping[str, Callable[[], Finding]] = {
    "root": _root,
    "capabilities": _capabilities,
    "cgroups": _cgroups,
    "IPv4 forwarding": _forwarding,
    "user's IDs": _ids,
}
"""In place of those that root's machine is asked for."""
