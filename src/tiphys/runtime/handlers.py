"""OCI runtimes that can run containers in the place of our own: runc, crun, or others that speak their command line.

A sandbox names one by its `handler`; "" and "tiphys" are this runtime itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from tiphys.runtime.types import InvalidSpec

OWN = ("", "tiphys")
KNOWN = ("runc", "crun", "runsc")
"""Looked for on PATH."""
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class OciHandler:
    """The program of an OCI runtime, with options that go before its command."""

    path: str
    options: tuple[str, ...] = ()

    @property
    def apart(self) -> bool:
        """Whether containers have a kernel of their own, so that only the runtime reaches their processes (gVisor)."""
        return os.path.basename(self.path).startswith("runsc")


def discover(configured: Mapping[str, str] | None = None) -> dict[str, OciHandler]:
    """Handlers by name: those on PATH, and `configured` ones (name -> program and options, as in a shell without
    quotes; "" takes a name away). Raises InvalidSpec for a program that is not there."""
    found = {name: OciHandler(path) for name in KNOWN if (path := shutil.which(name, path=_SYSTEM_PATH))}
    for name, line in (configured or {}).items():
        found.pop(name, None)
        if name in OWN:
            raise InvalidSpec(f"runtime handler {name!r} is this runtime itself")
        program, *options = line.split() or [""]
        if program:
            path = shutil.which(program, path=_SYSTEM_PATH)
            if path is None:
                raise InvalidSpec(f"runtime handler {name}: no program {program!r}")
            found[name] = OciHandler(path, tuple(options))
    return found


def drop_cgroups(path: str, *, whole: bool = False, mountinfo: str = "/proc/self/mountinfo") -> None:
    """Remove the cgroup `path` and what is empty above it (`whole`: also all below) from every hierarchy: OCI runtimes
    use them all, also those that this runtime leaves alone. What is in use stays."""
    with open(mountinfo, encoding="utf-8") as file:
        lines = [line.partition(" - ") for line in file]
    for point in {left.split()[4] for left, _, right in lines if right.startswith("cgroup")}:
        parts = path.strip("/").split("/")
        for below, _, _ in os.walk(os.path.join(point, *parts), topdown=False) if whole else ():
            with contextlib.suppress(OSError):
                os.rmdir(below)
        with contextlib.suppress(OSError):
            while parts:
                os.rmdir(os.path.join(point, *parts))
                parts.pop()


def pick(handlers: Mapping[str, OciHandler], name: str) -> OciHandler | None:
    """None for this runtime itself; "runc" is that, too, where there is no runc. Raises InvalidSpec."""
    found = handlers.get(name)
    if found is None and name not in (*OWN, "runc"):
        raise InvalidSpec(f'failed to get sandbox runtime: no runtime for "{name}" is configured')
    return found
