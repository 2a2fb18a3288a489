"""A fenced client reads always and writes only while its owner may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tiphys.base.errors import ServiceUnavailable
from tiphys.client.fence import FencedClient
from tiphys.client.resources import CONFIG_MAPS

BODY = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}


def test_every_way_to_write_is_barred_and_none_to_read(run: Any, client: Any) -> None:
    allowed = True
    fenced = FencedClient(client, lambda: allowed)

    async def scenario() -> None:
        nonlocal allowed
        made = await fenced.create(CONFIG_MAPS, BODY)
        await fenced.update(CONFIG_MAPS, {**made, "data": {"x": "y"}})
        await fenced.patch(CONFIG_MAPS, "a", {"data": {}}, "default")
        allowed = False
        writes: list[Callable[[], Awaitable[Any]]] = [
            lambda: fenced.create(CONFIG_MAPS, BODY),
            lambda: fenced.update(CONFIG_MAPS, made),
            lambda: fenced.patch(CONFIG_MAPS, "a", {}, "default"),
            lambda: fenced.delete(CONFIG_MAPS, "a", "default"),
            lambda: fenced.call("DELETE", "/api/v1/namespaces/default/configmaps"),
        ]
        for write in writes:
            with pytest.raises(ServiceUnavailable, match="not the leader"):
                await write()
        assert (await fenced.get(CONFIG_MAPS, "a", "default"))["metadata"]["name"] == "a"
        assert len((await fenced.list(CONFIG_MAPS, "default")).items) == 1
        assert await fenced.call("GET", "/api/v1/namespaces/default/configmaps")
        events = fenced.watch(CONFIG_MAPS, "default", resource_version="0")
        assert (await anext(events)).type == "ADDED"
        allowed = True
        await fenced.delete(CONFIG_MAPS, "a", "default")
        await fenced.close()

    run(scenario())
