"""User and group lookup in a container's own /etc/passwd and /etc/group, by the rules of Docker's --user."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Identity(NamedTuple):
        """Who a process runs as, and the home directory its entry names."""

        uid: int
        gid: int
        groups: list[int]
        home: str
else:
    from collections import namedtuple

    Identity = namedtuple("Identity", "uid gid groups home")

MAX_ID = 2**31 - 1
MAX_BYTES = 4 * 1024 * 1024
"""As much of an account file is read at most."""


def lookup(user: str, accounts_file: str = "/etc/passwd", groups_file: str = "/etc/group") -> Identity:
    """Resolve `name`, `UID`, `name:group`, `UID:GID`; "" is root. Digits are always an ID, never a name: else an
    image could call root 1000. Raises ValueError naming what is unknown."""
    name, _, group_name = user.partition(":")
    accounts = _records(accounts_file, 7)
    entry = _find(name or "0", accounts)
    if entry is not None:
        uid, gid, home = _number(entry[2]), _number(entry[3]), entry[5]
        account = entry[0]
    elif name.isdigit() or not name:
        uid, gid, home, account = _number(name or "0"), 0, "", ""
    else:
        raise ValueError(f"unable to find user {name}: no matching entries in passwd file")
    groups = _records(groups_file, 4)
    if group_name:
        return Identity(uid, _group(group_name, groups), [], home or "/")
    extra = [_number(record[2]) for record in groups if account and account in record[3].split(",")]
    return Identity(uid, gid, extra, home or "/")


def _records(path: str, width: int) -> list[list[str]]:
    lines = _read(path).split("\n")
    rows = [line.strip().split(":") for line in lines if line.strip() and not line.startswith("#")]
    padded = [row + [""] * (width - len(row)) for row in rows]
    return [row for row in padded if row[2].isdigit() and (width == 4 or row[3].isdigit())]


def _read(path: str) -> str:
    """The text of a file of the container's, which may be anything: a pipe, a device, endless."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        return file.read(MAX_BYTES).decode("utf-8", "surrogateescape")


def _find(name: str, records: list[list[str]]) -> list[str] | None:
    for record in records:
        if int(record[2]) == int(name) if name.isdigit() else record[0] == name:
            return record
    return None


def _group(name: str, records: list[list[str]]) -> int:
    record = _find(name, records)
    if record is not None:
        return _number(record[2])
    if name.isdigit():
        return _number(name)
    raise ValueError(f"unable to find group {name}: no matching entries in group file")


def _number(text: str) -> int:
    value = int(text)
    if value > MAX_ID:
        raise ValueError(f"uids and gids must be in range 0-{MAX_ID}, not {text}")
    return value
