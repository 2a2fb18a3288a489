"""One registered plugin: the connection to it, what it can do, and since when it is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.types import RpcError
from tiphys.kubelet.devices import protocol
from tiphys.kubelet.devices.pool import AllocationError, Device


class Endpoint:
    """Calls to the plugin of `resource`, which listens at the socket `path`."""

    def __init__(self, resource: str, path: str) -> None:
        self.resource = resource
        self.path = path
        self.options: Mapping[str, Any] = {}
        self.stopped = False
        self._channel = Channel(path)

    async def connect(self) -> None:
        """Raises AllocationError."""
        try:
            self.options = await self._channel.call(protocol.GET_OPTIONS, {}, timeout=10.0)
        except RpcError as error:
            self.close()
            raise AllocationError(f"failed to get device plugin options: {error}") from error

    async def follow(self, take: Callable[[list[Device]], None]) -> None:
        """Hand each list that the plugin sends to `take`, until it ends. Raises RpcError."""
        await self._channel.follow(
            protocol.LIST_AND_WATCH, {}, lambda reply: take([_device(entry) for entry in reply["devices"]])
        )

    async def allocate(self, ids: Sequence[str]) -> dict[str, Any]:
        """What the container is to get. Raises AllocationError, RpcError."""
        self._check()
        request = {"container_requests": [{"devices_ids": list(ids)}]}
        reply = await self._channel.call(protocol.ALLOCATE, request)
        if not reply["container_responses"]:
            raise AllocationError("no containers return in allocation response &AllocateResponse{}")
        answer: dict[str, Any] = reply["container_responses"][0]
        return answer

    async def prefer(self, available: Sequence[str], included: Sequence[str], size: int) -> list[str]:
        """Of `available` the best `size` devices, or fewer. Raises AllocationError."""
        if not self.options.get("get_preferred_allocation_available"):
            return []
        request = {
            "available_deviceIDs": list(available),
            "must_include_deviceIDs": list(included),
            "allocation_size": size,
        }
        try:
            self._check()
            reply = await self._channel.call(protocol.PREFER, {"container_requests": [request]})
        except (RpcError, AllocationError) as error:
            raise AllocationError(f"device plugin GetPreferredAllocation rpc failed with err: {error}") from error
        return [id for one in reply["container_responses"][:1] for id in one["deviceIDs"]]

    async def pre_start(self, ids: Sequence[str]) -> None:
        """Raises AllocationError."""
        try:
            self._check()
            timeout = protocol.PRE_START_TIMEOUT
            await self._channel.call(protocol.PRE_START, {"devices_ids": list(ids)}, timeout=timeout)
        except (RpcError, AllocationError) as error:
            raise AllocationError(f"device plugin PreStartContainer rpc failed with err: {error}") from error

    def _check(self) -> None:
        if self.stopped:
            raise AllocationError(f"endpoint {self.resource} has been stopped")

    def close(self) -> None:
        self.stopped = True
        self._channel.close()


def _device(entry: Mapping[str, Any]) -> Device:
    nodes = tuple(node["ID"] for node in (entry["topology"] or {"nodes": ()})["nodes"])
    return Device(entry["ID"], entry["health"] == protocol.HEALTHY, nodes)
