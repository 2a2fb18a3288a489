"""The kernel's side: carries changes out, and reads the tables when it cannot be known what is in them.

All of it blocks, so it runs in a thread; calls must not overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from tiphys.base.nftables import Nftables
from tiphys.proxy.services import kernel, layout
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.facts import Family
from tiphys.proxy.services.table import Actual, Desired, Touched, sweep_commands

log = logging.getLogger(__name__)


class Writer:
    """The tables of a network namespace. `open_nftables` makes the connection to it."""

    def __init__(self, config: ProxyConfig, open_nftables: Callable[[], Nftables]) -> None:
        self._config, self._open = config, open_nftables
        self._nft: Nftables | None = None
        self._actual: dict[Family, Actual] = {}

    def close(self) -> None:
        """The tables stay."""
        if self._nft is not None:
            self._nft.close()

    def forget(self) -> None:
        """Look at the tables again before the next change."""
        self._actual.clear()

    def write(self, desired: Mapping[Family, Desired], touched: Mapping[Family, Touched]) -> int:
        """Bring what was touched to the kernel, or everything if its tables are not known; one transaction a family.

        Returns how many commands it took. Raises NftablesError; then nothing is known any more."""
        return sum(self._write(family, desired[family], touched.get(family)) for family in desired)

    def _write(self, family: Family, desired: Desired, touched: Touched | None) -> int:
        nft, lines = self._connection(), []
        actual = self._actual.pop(family, None)
        if actual is None:
            actual = kernel.read(nft, self._config, family)
            if actual is None:
                actual, lines = Actual(), layout.commands(self._config, family)
            touched = desired.everything(actual)
        change = desired.difference(touched or Touched(), actual)
        lines += change.commands(self._table(family))
        if lines:
            nft.run("\n".join(lines))
        actual.note(change)
        self._actual[family] = actual
        return len(lines)

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
