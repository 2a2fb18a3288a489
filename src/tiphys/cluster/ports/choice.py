"""Which backend a client of a forwarded port gets; what there is to choose from may change at any time."""

from __future__ import annotations

from zlib import crc32

from tiphys.cluster.ports.backends import Backend, Backends


class Choice:
    """In turn, or by the client's address where the Service wants that."""

    def __init__(self) -> None:
        self._found = Backends()
        self._next = 0

    def offer(self, found: Backends) -> None:
        """From now on choose from these."""
        self._found = found

    def __contains__(self, backend: Backend) -> bool:
        return backend in self._found.backends

    def of(self, client: str) -> Backend | None:
        """The backend for the client of that address; None if there is none."""
        backends = self._found.backends
        if not backends:
            return None
        self._next += 1
        return backends[(crc32(client.encode()) if self._found.sticky else self._next) % len(backends)]
