"""The kernel's side: carries changes out, and reads the tables when it cannot be known what is in them.

All of it blocks, so it runs in a thread; calls must not overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from tiphys.base.nftables import Nftables, NftablesError
from tiphys.proxy.services import kernel, layout
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.facts import Family
from tiphys.proxy.services.table import Actual, Change, Desired, Touched, sweep_commands

log = logging.getLogger(__name__)


class Writer:
    """The tables of a network namespace. `open_nftables` makes the connection to it."""

    def __init__(self, config: ProxyConfig, open_nftables: Callable[[], Nftables]) -> None:
        self._config, self._open = config, open_nftables
        self._nft: Nftables | None = None
        self._actual: dict[Family, Actual] = {}
        self._forgotten = False

    def close(self) -> None:
        """The tables stay."""
        if self._nft is not None:
            self._nft.close()

    def forget(self) -> None:
        """Look at the tables again before the next change. May be called while another call runs."""
        self._forgotten = True

    def write(self, desired: Mapping[Family, Desired], touched: Mapping[Family, Touched]) -> int:
        """Bring what was touched to the kernel, or everything if its tables are not known; one transaction a family.

        Returns how many commands it took. A Service that the kernel refuses is left out, aloud. Raises NftablesError
        where the kernel can do nothing of it; then everything is compared the next time."""
        if self._forgotten:
            self._forgotten = False
            self._actual.clear()
        return sum(self._write(family, desired[family], touched.get(family) or Touched()) for family in desired)

    def _write(self, family: Family, desired: Desired, touched: Touched) -> int:
        actual = self._actual.get(family)
        if actual is not None:
            try:
                return self._run(family, desired.difference(touched, actual), actual)
            except NftablesError as error:
                log.info("%s: everything is compared: %s", self._table(family), error.strerror)
        return self._write_all(family, desired)

    def _write_all(self, family: Family, desired: Desired) -> int:
        self._actual.pop(family, None)
        actual, lines = self._read(family)
        change = desired.difference(desired.everything(actual), actual)
        try:
            commands = self._run(family, change, actual, lines)
        except NftablesError as error:
            log.info("%s: one Service after the other: %s", self._table(family), error.strerror)
            commands = self._write_parts(family, desired)
        else:
            self._actual[family] = actual
        return commands

    def _read(self, family: Family) -> tuple[Actual, list[str]]:
        """What is there, and what has to be done first."""
        found = kernel.read(self._connection(), self._config, family)
        return (found, []) if found is not None else (Actual(), layout.commands(self._config, family))

    def _run(self, family: Family, change: Change, actual: Actual, first: Sequence[str] = ()) -> int:
        lines = [*first, *change.commands(self._table(family))]
        if lines:
            self._connection().run("\n".join(lines))
            actual.note(change)
        return len(lines)

    def _write_parts(self, family: Family, desired: Desired) -> int:
        """Some owners at a time: if one cannot be had, or the socket's buffer is too small for all (EMSGSIZE)."""
        actual, lines = self._read(family)
        commands = self._run(family, Change(), actual, lines)
        commands += self._run(family, desired.difference(desired.leftover(actual), actual), actual)
        commands += self._halve(family, desired, desired.owners(), actual)
        self._actual[family] = actual
        return commands

    def _halve(self, family: Family, desired: Desired, owners: Sequence[str], actual: Actual) -> int:
        try:
            return self._run(family, desired.difference(desired.of(owners), actual), actual)
        except NftablesError as error:
            if len(owners) == 1:
                log.error("Service %s cannot be had: %s", owners[0], error.strerror)  # noqa: TRY400 - says it all
                return 0
        middle = len(owners) // 2
        return sum(self._halve(family, desired, part, actual) for part in (owners[:middle], owners[middle:]))

    def untidy(self, desired: Mapping[Family, Desired]) -> bool:
        """Whether there are chains or sets that nobody uses any more."""
        return any(not desired[family].is_tidy(actual) for family, actual in self._actual.items())

    def sweep(self, desired: Mapping[Family, Desired]) -> None:
        """Take away what nobody uses. Raises NftablesError if the kernel still does."""
        for family, actual in self._actual.items():
            stale = desired[family].stale(actual)
            if lines := sweep_commands(stale, self._table(family)):
                self._connection().run("\n".join(lines))
                actual.chains -= stale.chains
                actual.sets -= stale.sets

    def _connection(self) -> Nftables:
        if self._nft is None:
            self._nft = self._open()
        return self._nft

    def _table(self, family: Family) -> str:
        return f"{family.nft} {self._config.table}"
