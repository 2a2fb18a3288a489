"""User namespaces of pods (`hostUsers: false`, KEP-127): which of the host's IDs each one gets.

Every pod has a range of its own, a multiple of 65536 long and never containing the host's 0, so that no two pods, of
whichever node of this machine, share an ID. The pod's directory keeps it (file `userns`, upstream's format); a link
in a directory of the machine claims it, and is void once the pod's file is gone. So nothing is held in memory, nothing
needs to be released, and a kubelet may be killed at any moment.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiphys.base.errors import Permanent, TiphysError
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.podspec import Object, uid_of
from tiphys.runtime.userns import is_initial

UNIT = 65536
USER = "kubelet"
"""Whose subordinate IDs pods get, where that user exists (subuid(5))."""
LEAST_KERNEL = (6, 3)
"""Since then tmpfs, too, can be mounted with translated IDs."""
Range = tuple[int, int]
"""(first ID of the host, how many)."""


def supported() -> bool:
    """Whether this kernel can run pods in user namespaces. Only the machine's root can have mounts translate IDs."""
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    try:
        allowed = int(Path("/proc/sys/user/max_user_namespaces").read_text()) > 0
    except (OSError, ValueError):
        return False
    return allowed and release >= LEAST_KERNEL and is_initial()


def mapping(config: KubeletConfig, pod: Object) -> Range | None:
    """The pod's range, the same at every call; None for a pod in the host's user namespace. Raises Permanent, or
    TiphysError when no range is free."""
    if pod["spec"].get("hostUsers") is not False:
        return None
    if not supported():
        raise Permanent("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
    first, length = node_range(config)
    directory = config.pod_dir(uid_of(pod))
    directory.mkdir(parents=True, exist_ok=True)
    with _claims(config.userns_claims) as claims:
        return _kept(config, directory, claims) or _new(config, directory, claims, (first, length))


def release(config: KubeletConfig, uid: str) -> None:
    """Give back the range of a pod that is over. Harmless if it has none."""
    file = config.pod_dir(uid) / "userns"
    try:
        links = _links(config.userns_claims, parse(file.read_text()))
    except (OSError, Permanent):  # it has none
        return
    for link in links:
        if link.is_symlink() and link.readlink() == file:
            link.unlink(missing_ok=True)


def node_range(config: KubeletConfig) -> Range:
    """All IDs that pods may get: those of the user `kubelet`, if it has any, else all from the length of one pod's
    on. Raises Permanent, in upstream's words, when they do not fit."""
    unit = config.userns_ids_per_pod
    first, length = _subordinate() or (unit, 2**32 - unit)
    if unit % UNIT:
        raise Permanent(f"kubelet user namespace length {unit} is not a multiple of {UNIT}")
    if first % unit:
        raise Permanent(f"kubelet user assigned ID {first} is not a multiple of {unit}")
    if first < unit:
        raise Permanent(f"kubelet user assigned ID {first} must be greater or equal to {unit}")
    if length % unit:
        raise Permanent(f"kubelet user assigned IDs length {length} is not a multiple of {unit}")
    if length // unit < config.max_pods:
        raise Permanent(f"kubelet user assigned IDs are not enough to support {config.max_pods} pods")
    return first, length


def _subordinate(etc: Path = Path("/etc")) -> Range | None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return None
    users, groups = (subordinate_ids(_read(etc / name)) for name in ("subuid", "subgid"))
    if users != groups:
        raise Permanent(f'mismatched subuids and subgids for user "{USER}"')
    return users


def subordinate_ids(text: str) -> Range | None:
    """The user's range in the text of /etc/subuid or /etc/subgid; None for none. Raises Permanent for several."""
    lines = [line for line in text.splitlines() if line.startswith(f"{USER}:")]
    if not lines:
        return None
    fields = lines[0].split(":")
    if len(lines) > 1 or len(fields) != 3 or not all(field.isdigit() for field in fields[1:]):
        raise Permanent(f'subordinate IDs of user "{USER}" must be one line like {USER}:65536:7208960')
    return int(fields[1]), int(fields[2])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@contextmanager
def _claims(directory: Path) -> Iterator[Path]:
    """The machine's claims, while nobody else changes them."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _kept(config: KubeletConfig, directory: Path, claims: Path) -> Range | None:
    """What the pod's file says, claimed again if that was lost with a restart of the machine; None when there is no
    file, or when its range was given away since: then nothing runs in it."""
    content = _read(directory / "userns")
    if not content:
        return None
    found = parse(content)
    if found[1] != config.userns_ids_per_pod:
        raise Permanent(f"user namespace: wrong user namespace length {found[1]}")
    return found if _claim(claims, found, directory) else None


def parse(content: str) -> Range:
    """The range in a pod's file. Raises Permanent, in upstream's words."""
    try:
        document = json.loads(content)
        users, groups = document["uidMappings"], document["gidMappings"]
        first, inside, length = (int(users[0][name]) for name in ("hostId", "containerId", "length"))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Permanent(f"user namespace: invalid user namespace mappings file: {error}") from error
    if len(users) != 1:
        raise Permanent("user namespace: invalid user namespace configuration: no more than one mapping allowed.")
    if users != groups:
        text = "GID and UID mapping should be identical"
        raise Permanent(f"user namespace: invalid user namespace configuration: {text}")
    if inside != 0:
        raise Permanent("user namespace: invalid user namespace configuration: UID 0 must be mapped")
    return first, length


def _new(config: KubeletConfig, directory: Path, claims: Path, node: Range) -> Range:
    """The lowest free range, written down."""
    unit = config.userns_ids_per_pod
    for first in range(node[0], sum(node), unit):
        if _claim(claims, (first, unit), directory):
            _write(directory / "userns", (first, unit))
            return first, unit
    raise TiphysError("create user namespace: could not find an empty slot to allocate a user namespace")


def _claim(claims: Path, found: Range, directory: Path) -> bool:
    """Take the range, or see that it is this pod's already. False when another pod has something of it."""
    goal = directory / "userns"
    links = _links(claims, found)
    if any(link.exists() and link.readlink() != goal for link in links):
        return False
    for link in links:
        link.unlink(missing_ok=True)
        link.symlink_to(goal)
    return True


def _links(claims: Path, found: Range) -> list[Path]:
    """One for each 65536 IDs: nodes of one machine may give ranges of different lengths."""
    return [claims / str(first) for first in range(found[0], sum(found), UNIT)]


def _write(path: Path, found: Range) -> None:
    """Durably: whoever finds the range's files later must know whose they are."""
    entry = [{"hostId": found[0], "containerId": 0, "length": found[1]}]
    temporary = path.with_name("userns.new")
    with open(temporary, "w") as file:
        json.dump({"uidMappings": entry, "gidMappings": entry}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
