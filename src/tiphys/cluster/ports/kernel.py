"""Published ports in the host's kernel: the table, and the setting by which the loopback's connections may leave it."""

from __future__ import annotations

from pathlib import Path

from tiphys.base.nftables import Nftables
from tiphys.cluster.ports import rules
from tiphys.runtime import nft


def apply(place: rules.Place, transaction: str, localnet: bool) -> None:
    """Carry the transaction out. Raises OSError.

    The guard against nodes is there before the bridge may carry the loopback's addresses, and goes after that."""
    if not localnet:
        _route_localnet(place.bridge, on=False)
    with Nftables() as nftables:
        nftables.run(transaction)
    if localnet:
        _route_localnet(place.bridge, on=True)


def remove(place: rules.Place) -> None:
    """As if nothing had been published. Raises OSError."""
    _route_localnet(place.bridge, on=False)
    nft.delete_tables(place.table)


def _route_localnet(bridge: str, *, on: bool) -> None:
    """127.0.0.0/8 may leave and come by the bridge; harmless if it is gone."""
    setting, wanted = Path(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet"), "1" if on else "0"
    if setting.exists() and setting.read_text().strip() != wanted:
        setting.write_text(wanted)
