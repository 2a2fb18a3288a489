"""Taking away what of the host leads into a cluster: when it goes down, and when it is deleted."""

from __future__ import annotations

from tiphys.base.netlink import Netlink
from tiphys.cluster import network
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.ports import manage
from tiphys.runtime import nft


def close(config: ClusterConfig) -> list[str]:
    """Nothing answers for the cluster any more; also after its processes were killed. Returns what could not be
    removed, and why. Harmless if all of it, by its names, is another cluster's."""
    with Netlink() as link:
        if link.alias(config.bridge) not in ("", network.owner(config)):
            return []
    return [*manage.close(config), *_close_services(f"{config.bridge}-services"), *_close_overlay(config)]


def _close_overlay(config: ClusterConfig) -> list[str]:
    """Also if nodes of other machines may not join any more: they could before."""
    from tiphys.cluster.join import joining
    from tiphys.overlay.app import remove

    return remove(joining.settings(config))


def _close_services(table: str) -> list[str]:
    try:
        nft.delete_tables(table)
    except OSError as error:
        return [f"nftables table {table}: {error.strerror}"]
    return []
