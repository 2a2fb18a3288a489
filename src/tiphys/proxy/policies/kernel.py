"""The table `policies` of a network namespace: what is in it as far as is known, and how it is changed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from tiphys.base.nftables import Nftables, NftablesError
from tiphys.proxy.policies import diff
from tiphys.proxy.policies.adopt import adopted, is_founded
from tiphys.proxy.policies.diff import Transaction
from tiphys.proxy.policies.ruleset import Ruleset

TABLE = "tiphys-policies"


class Kernel:
    """`connect` opens the namespace's nftables. `read` and `carry_out` block and may run in a thread, one at a time.

    What was there before this process is taken over: nothing that is right is touched."""

    def __init__(self, connect: Callable[[], Nftables]) -> None:
        self._connect = connect
        self._nft: Nftables | None = None
        self._applied: Ruleset | None = None
        self._there = self._founded = False

    @property
    def known(self) -> bool:
        """Whether it has been read, and all went well since."""
        return self._applied is not None

    def read(self) -> None:
        """Find out what is there. Raises NftablesError."""
        nft = self._nft = self._nft or self._connect()
        try:
            entries = nft.list_json(f"list table inet {TABLE}")
        except NftablesError as error:
            if error.errno != errno.ENOENT:
                raise
            self._applied, self._there, self._founded = Ruleset(), False, False
        else:
            self._applied, self._there, self._founded = adopted(entries), True, is_founded(entries)

    def plan(self, wanted: Ruleset, touched: Iterable[str]) -> list[Transaction]:
        """What is to be carried out so that `wanted` is there; of what was known before only `touched` differ.

        It is taken for done: whoever does not carry it out calls `forget`."""
        if self._applied is None:
            raise RuntimeError("the table was not read")
        if wanted.empty:
            there, self._there = self._there, False
            self._applied = Ruleset()
            return [[f"delete table inet {TABLE}"]] if there else []
        found = [] if self._founded and self._there else [diff.foundation(TABLE)]
        transactions = diff.changes(TABLE, self._applied, wanted, touched)
        diff.advance(self._applied, wanted, touched)
        self._there = self._founded = True
        return [*found, *transactions]

    def everything(self, wanted: Ruleset) -> set[str]:
        """Names of all that is there or wanted."""
        return {name for one in (wanted, self._applied or wanted) for name in (*one.chains, *one.sets, *one.maps)}

    def carry_out(self, transactions: Iterable[Transaction]) -> None:
        """Raises NftablesError."""
        nft = self._nft = self._nft or self._connect()
        for lines in transactions:
            nft.run("\n".join(lines))

    def forget(self) -> None:
        """What is there is not known any more: something went wrong."""
        self._applied = None

    def close(self) -> None:
        """Let go; what is in the kernel stays."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None
