"""User and group lookup in a container's own /etc/passwd and /etc/group, by the rules of Docker's --user."""

from __future__ import annotations

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


def lookup(user: str, accounts_file: str = "/etc/passwd", groups_file: str = "/etc/group") -> Identity:
    """Resolve `name`, `UID`, `name:group`, `UID:GID`; "" is root. Raises ValueError naming what is unknown."""
    name, _, group_name = user.partition(":")
    accounts = _records(accounts_file, 7)
    entry = _find(name or "0", accounts)
    if entry is not None:
        uid, gid, home = int(entry[2]), int(entry[3]), entry[5]
        account = entry[0]
    elif name.isdigit():
        uid, gid, home, account = _number(name), 0, "", ""
    else:
        if name:
            raise ValueError(f"unable to find user {name}: no matching entries in passwd file")
        uid, gid, home, account = 0, 0, "/root", "root"
    groups = _records(groups_file, 4)
    if group_name:
        return Identity(uid, _group(group_name, groups), [], home or "/")
    extra = [int(record[2]) for record in groups if account and account in record[3].split(",")]
    return Identity(uid, gid, extra, home or "/")


def _records(path: str, width: int) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.strip().split(":") for line in file if line.strip() and not line.startswith("#")]
    except OSError:
        return []
    padded = [row + [""] * (width - len(row)) for row in rows]
    return [row for row in padded if row[2].isdigit() and (width == 4 or row[3].isdigit())]


def _find(name: str, records: list[list[str]]) -> list[str] | None:
    for record in records:
        if record[0] == name:
            return record
    if name.isdigit():
        for record in records:
            if int(record[2]) == int(name):
                return record
    return None


def _group(name: str, records: list[list[str]]) -> int:
    record = _find(name, records)
    if record is not None:
        return int(record[2])
    if name.isdigit():
        return _number(name)
    raise ValueError(f"unable to find group {name}: no matching entries in group file")


def _number(text: str) -> int:
    value = int(text)
    if value > MAX_ID:
        raise ValueError(f"uids and gids must be in range 0-{MAX_ID}, not {text}")
    return value
