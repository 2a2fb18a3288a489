"""Forwarding on the host: switched on while anybody on this machine needs it, and all put back by the last one.

The kernel changes other settings with it: whether redirects are followed, and, for IPv6, whether a device with router
advertisements goes on listening to them. All of them are noted before and written back as they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.base.netlink import Netlink

FORWARDING = "net/ipv4/ip_forward"
FORWARDING_V6 = "net/ipv6/conf/all/forwarding"
USERS = Path("/run/tiphys-forwarding.json")
"""One for the machine, whatever the run directory: clusters of different ones share the setting."""

_SYSCTLS = Path("/proc/sys")
_FIELDS = ("before", "changed")
_SIDE_EFFECTS = {
    FORWARDING: ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/accept_redirects"),
    FORWARDING_V6: ("net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/accept_redirects", "net/ipv6/conf/*/accept_ra"),
}


def hold(user: str, *, ipv6: bool = False) -> None:
    """Switch forwarding on for the user, who is known by the name of a device that it has. Raises OSError."""
    with _ledger() as ledger:
        for name in (FORWARDING, FORWARDING_V6) if ipv6 else (FORWARDING,):
            if _read(name) == "0":
                ledger.note(name)
        ledger.state.setdefault("before", _read(FORWARDING))
        ledger.state[user] = "user"
        # Whoever is killed after the next line has left a note of what to restore.
        ledger.save()
        _write(FORWARDING, "1")
        if ipv6:
            _forward_ipv6()


def release(user: str) -> None:
    """The user needs it no more; neither do those whose devices are gone. Harmless if done already. Raises OSError."""
    with _ledger() as ledger:
        state = ledger.state
        with Netlink() as link:
            gone = [name for name in state if name not in _FIELDS and not link.index(name)]
        for name in {*gone, user}:
            state.pop(name, None)
        if state and not any(name not in _FIELDS for name in state):
            _restore(state)
            state.clear()


@dataclass(slots=True)
class _Ledger:
    """The open, locked file: users by name, what to restore for IPv4's main switch under "before" and for all that
    differs now under "changed"."""

    descriptor: int
    state: dict[str, Any]

    def note(self, name: str) -> None:
        """What is so before `name` is switched on; what was noted first stays."""
        changed = self.state.setdefault("changed", {})
        for pattern in (name, *_SIDE_EFFECTS[name]):
            for path in sorted(_SYSCTLS.glob(pattern)):
                changed.setdefault(str(path.relative_to(_SYSCTLS)), path.read_text().strip())

    def save(self) -> None:
        """At any moment of it the file begins with an old or the new state: one write, then the rest is cut off."""
        content = json.dumps(self.state).encode()
        os.pwrite(self.descriptor, content, 0)
        os.ftruncate(self.descriptor, len(content))


@contextlib.contextmanager
def _ledger() -> Iterator[_Ledger]:
    while True:
        descriptor = os.open(USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_nlink:  # removed while this process waited: there is a new one
                continue
            text = os.pread(descriptor, 1 << 20, 0).decode()
            ledger = _Ledger(descriptor, json.JSONDecoder().raw_decode(text)[0] if text else {})
            yield ledger
            if ledger.state:
                ledger.save()
            else:
                USERS.unlink()
            return
        finally:
            os.close(descriptor)


def _forward_ipv6() -> None:
    """A host that learns its own route from router advertisements goes on doing so (accept_ra 2)."""
    listening = [path for path in _SYSCTLS.glob("net/ipv6/conf/*/accept_ra") if path.read_text().strip() == "1"]
    if _read(FORWARDING_V6) != "1":
        _write(FORWARDING_V6, "1")
        for path in listening:
            if path.parent.name not in ("all", "default"):
                path.write_text("2")


def _restore(state: dict[str, Any]) -> None:
    changed: dict[str, str] = state.get("changed", {})
    if "before" in state:
        changed = {FORWARDING: str(state["before"]), **changed}
    # The main switches first: they change the others.
    for name in sorted(changed, key=lambda name: (name not in _SIDE_EFFECTS, name)):
        with contextlib.suppress(FileNotFoundError):  # a device that is gone
            if _read(name) != changed[name]:
                _write(name, changed[name])


def _read(name: str) -> str:
    return (_SYSCTLS / name).read_text().strip()


def _write(name: str, value: str) -> None:
    (_SYSCTLS / name).write_text(value)
