"""Somebody else deletes the tables (`nft flush ruleset`, as firewalls do when they start): they are put back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tiphys.base.nftwatch import TableWatch

log = logging.getLogger(__name__)


class Guard:
    """Tells `lost` when tables of the name may have been deleted, from `start` to `stop`."""

    def __init__(self, table: str, open_watch: Callable[[], TableWatch] | None, lost: Callable[[], None]) -> None:
        self._table, self._open, self._lost = table, open_watch, lost
        self._watch: TableWatch | None = None

    def start(self) -> None:
        """Harmless if it is started. Thousands of rules are better written before: the kernel has to tell of each."""
        if self._open is None or self._watch is not None:
            return
        try:
            self._watch = self._open()
        except OSError as error:
            self._open = None
            log.warning("table %s is not put back if somebody deletes it: %s", self._table, error.strerror)
        else:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._heard)

    def stop(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _heard(self) -> None:
        deleted = self._watch.deleted() if self._watch is not None else set()
        if deleted is None or self._table in deleted:
            self._lost()
