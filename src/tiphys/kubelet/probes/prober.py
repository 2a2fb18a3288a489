"""Asks a container once: exec, httpGet, tcpSocket or grpc, with the texts that events show."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.base.errors import TiphysError
from tiphys.kubelet.expansion import expand
from tiphys.kubelet.probes import grpc, http
from tiphys.kubelet.probes.dialing import Dial, open_streams
from tiphys.runtime.types import Runtime

_OUTPUT_LIMIT = 10 * 1024


class ProbeError(TiphysError):
    """The probe could not be made; that says nothing about the container's health."""


@dataclass(frozen=True, slots=True)
class Result:
    healthy: bool
    output: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """The container to be asked."""

    id: str
    container: Mapping[str, Any]
    pod_ip: str


class Prober:
    """Makes probes from this node, by `dial` if there is one."""

    def __init__(self, runtime: Runtime, dial: Dial | None = None) -> None:
        self._runtime = runtime
        self._dial = dial

    async def probe(self, probe: Mapping[str, Any], target: Target) -> Result:
        """One result. Raises ProbeError."""
        timeout = float(probe.get("timeoutSeconds") or 1)
        if action := probe.get("exec"):
            return await self._exec(action, target, timeout)
        try:
            if (action := probe.get("httpGet")) is not None:
                return await _http(http.target(action, target.container, target.pod_ip, "probe"), timeout, self._dial)
            if (action := probe.get("tcpSocket")) is not None:
                port = http.resolve_port(action["port"], target.container)
                return await _tcp(str(action.get("host") or target.pod_ip), port, timeout, self._dial)
        except ValueError as error:
            raise ProbeError(str(error)) from error
        if (action := probe.get("grpc")) is not None:
            service = str(action.get("service") or "")
            healthy, text = await grpc.check(target.pod_ip, int(action["port"]), service, timeout, self._dial)
            return Result(healthy, text)
        raise ProbeError("missing probe handler")

    async def _exec(self, action: Mapping[str, Any], target: Target, timeout: float) -> Result:
        known = {one["name"]: str(one.get("value") or "") for one in target.container.get("env") or ()}
        argv = [expand(str(word), known) for word in action.get("command") or ()]
        try:
            done = await self._runtime.exec_sync(target.id, argv, timeout)
        except TiphysError as error:
            raise ProbeError(str(error)) from error
        if done.timed_out:
            return Result(False, f'command timed out: "{" ".join(argv)}" timed out after {timeout:g}s')
        output = (done.stdout + done.stderr)[:_OUTPUT_LIMIT].decode(errors="replace")
        return Result(done.exit_code == 0, output)


async def _http(request: http.Get, timeout: float, dial: Dial | None) -> Result:
    try:
        answer = await http.get(request, timeout, dial)
    except http.RequestFailed as error:
        return Result(False, str(error))
    if answer.redirected_away:
        return Result(True, f"Probe terminated redirects, Response body: {answer.body}", warning=True)
    if 200 <= answer.status < 400:
        return Result(True, answer.body)
    return Result(False, f"HTTP probe failed with statuscode: {answer.status}")


async def _tcp(host: str, port: int, timeout: float, dial: Dial | None) -> Result:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            _, writer = await open_streams(dial, host, port)
        writer.transport.abort()
    except TimeoutError:
        return Result(False, f"dial tcp {address}: i/o timeout")
    except OSError as error:
        return Result(False, f"dial tcp {address}: connect: {http.reason(error)}")
    return Result(True)
