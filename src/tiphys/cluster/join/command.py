"""What `tiphys node token` does: asks the cluster, as its administrator, for a token."""

from __future__ import annotations

import asyncio
from typing import Any

from tiphys.base.clock import SystemClock
from tiphys.client.config import ClientConfig
from tiphys.client.https import HttpsClient
from tiphys.cluster import config as configs
from tiphys.cluster.join import token


def make(name: str, lifetime: float) -> dict[str, Any]:
    """The file for a node that joins the cluster within `lifetime` seconds. Raises Permanent, ApiError, OSError."""
    config = configs.existing(name)
    token.check(config)
    return asyncio.run(_make(config, lifetime))


async def _make(config: configs.ClusterConfig, lifetime: float) -> dict[str, Any]:
    pki = config.paths.pki
    access = ClientConfig(
        server=config.server,
        ca=(pki / "ca.crt").read_bytes(),
        certificate=(pki / "admin.crt").read_bytes(),
        key=(pki / "admin.key").read_bytes(),
    )
    client = HttpsClient(access)
    try:
        return await token.make(config, client, SystemClock(), lifetime)
    finally:
        await client.close()
