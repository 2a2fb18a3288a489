"""gRPC health checks: grpc.health.v1.Health/Check, in plain text, with the words of kubelet's events."""

from __future__ import annotations

from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.messages import ENUM, STRING, Message
from tiphys.base.grpc.types import Code, Method, RpcError
from tiphys.kubelet.probes.dialing import Dial

_CHECK = Method("/grpc.health.v1.Health/Check", Message(service=(1, STRING)), Message(status=(1, ENUM)))
_SERVING = 1
_NAMES = {0: "UNKNOWN", _SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


async def check(host: str, port: int, service: str, timeout: float, dial: Dial | None = None) -> tuple[bool, str]:
    """(healthy, what to tell); `timeout` in seconds."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    channel = Channel(host=host, port=port, dial=dial)
    try:
        await channel.connect(timeout)
    except (OSError, TimeoutError):
        return False, f'timeout: failed to connect service "{address}" within {timeout:g}s: context deadline exceeded'
    try:
        answer = await channel.call(_CHECK, {"service": service}, timeout)
    except RpcError as error:
        return False, _failure(error, timeout)
    finally:
        channel.close()
    if answer["status"] == _SERVING:
        return True, "service healthy"
    return False, f'service unhealthy (responded with "{_NAMES.get(answer["status"], answer["status"])}")'


def _failure(error: RpcError, timeout: float) -> str:
    if error.code is Code.UNIMPLEMENTED:
        known = "grpc.health.v1.Health"
        return f"error: this server does not implement the grpc health protocol ({known}): {error.message}"
    if error.code is Code.DEADLINE_EXCEEDED:
        return f"timeout: health rpc did not complete within {timeout:g}s"
    return f"error: health rpc probe failed: {error}"
