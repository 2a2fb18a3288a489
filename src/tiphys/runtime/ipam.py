"""Addresses of a subnet, given out one after another and remembered in a file.

The next address after the last one is tried first, so that an address is used again as late as possible.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from tiphys.runtime.types import RuntimeFailure

_EMPTY: dict[str, Any] = {"last": "", "owners": {}}


class AddressPool:
    """The host addresses of `subnet` but the first, which is the gateway's. Safe among processes."""

    def __init__(self, subnet: IPv4Network, directory: Path) -> None:
        self.subnet = subnet
        self._directory = directory
        self._path = directory / "addresses.json"

    @property
    def gateway(self) -> str:
        """The subnet's first address."""
        return str(self.subnet[1])

    def allocate(self, owner: str) -> str:
        """The owner's address; the same again if it has one. Raises RuntimeFailure when none is free."""
        with self._locked() as state:
            owners: dict[str, str] = state["owners"]
            if owner not in owners:
                owners[owner] = self._next(state["last"], set(owners.values()))
                state["last"] = owners[owner]
            return owners[owner]

    def owners(self) -> dict[str, str]:
        """Address by owner."""
        with self._locked() as state:
            return dict(state["owners"])

    def release(self, owner: str) -> None:
        """Harmless if it has none."""
        with self._locked() as state:
            state["owners"].pop(owner, None)

    def _next(self, last: str, taken: set[str]) -> str:
        size = self.subnet.num_addresses
        start = int.from_bytes(bytes(map(int, last.split(".")))) - int(self.subnet.network_address) if last else 1
        for step in range(1, size):
            offset = (start + step) % size
            address = str(self.subnet[offset])
            if 2 <= offset < size - 1 and address not in taken:
                return address
        raise RuntimeFailure(f"no free address in {self.subnet}: {len(taken)} are in use")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with open(self._directory / "addresses.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                before = self._path.read_bytes()
            except FileNotFoundError:
                before = json.dumps(_EMPTY).encode()
            state = _sound(before) or {**_EMPTY, "owners": {}}
            yield state
            after = json.dumps(state).encode()
            if after != before:
                self._save(after)

    def _save(self, content: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(content)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._path.exists():
                raise
            # No room for a second file: what is there has its block. Else a full disk could not be freed of pods.
            temporary.unlink()
            with open(self._path, "r+b") as file:
                file.write(content)
                file.truncate()
            return
        os.replace(temporary, self._path)


def _sound(content: bytes) -> dict[str, Any] | None:
    """The state in a file; None when a crash of the machine has left nonsense: then all its sandboxes have ended."""
    try:
        state = json.loads(content)
    except ValueError:
        return None
    fine = isinstance(state, dict) and isinstance(state.get("owners"), dict) and isinstance(state.get("last"), str)
    return state if fine else None
