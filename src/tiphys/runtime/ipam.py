"""Addresses of a subnet, given out one after another and remembered in a file.

The next address after the last one is tried first, so that an address is used again as late as possible.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from tiphys.runtime.types import RuntimeFailure

_EMPTY: dict[str, Any] = {"last": "", "owners": {}}


Network = IPv4Network | IPv6Network


class AddressPool:
    """The host addresses of `subnet` but the first, which is the gateway's. Safe among processes.

    Of a node with two IP versions each has a pool of its own, in a file of its own.
    """

    def __init__(self, subnet: Network, directory: Path) -> None:
        self.subnet = subnet
        self._directory = directory
        self._name = "addresses" if subnet.version == 4 else "addresses6"
        self._path = directory / f"{self._name}.json"

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

    def keep(self, owners: Collection[str]) -> None:
        """Release what others than these have."""
        with self._locked() as state:
            state["owners"] = {owner: address for owner, address in state["owners"].items() if owner in owners}

    def _next(self, last: str, taken: set[str]) -> str:
        """The first free one after `last`: no more are looked at than are taken, however large the subnet."""
        size = self.subnet.num_addresses
        start = int(ip_address(last)) - int(self.subnet.network_address) if last else 1
        for step in range(1, size):
            offset = (start + step) % size
            address = str(self.subnet[offset])
            if 2 <= offset < size - 1 and address not in taken:
                return address
        raise RuntimeFailure(f"no free address in {self.subnet}: {len(taken)} are in use")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with open(self._directory / f"{self._name}.lock", "w") as lock:
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


def pools(subnets: Sequence[str], directory: Path) -> tuple[AddressPool, ...]:
    """A pool for each subnet, all kept in one directory."""
    return tuple(AddressPool(ip_network(subnet), directory) for subnet in subnets)
