"""Lifecycle hooks: exec, httpGet and sleep (core/v1 LifecycleHandler)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.kubelet.podspec import Object, full_name
from tiphys.kubelet.probes import http
from tiphys.kubelet.probes.dialing import Dial
from tiphys.runtime.types import Runtime


class HookFailed(TiphysError):
    """The message is for the container's status."""


class Hooks:
    """Runs hooks."""

    def __init__(self, runtime: Runtime, clock: Clock, dial: Dial | None = None) -> None:
        self._runtime = runtime
        self._dial = dial
        self._clock = clock

    async def run(self, pod: Object, container: Object, id: str, hook: Mapping[str, Any], pod_ip: str) -> str:
        """Returns when it is over, with what is to be said about it (LifecycleHTTPFallback). Raises HookFailed.

        The caller limits its time."""
        where = f'for Container "{container["name"]}" in Pod "{full_name(pod)}" failed'
        if (action := hook.get("exec")) is not None:
            await self._exec(id, [str(word) for word in action.get("command") or ()], where)
        elif (action := hook.get("httpGet")) is not None:
            try:
                return await self._http(http.target(action, container, pod_ip, "lifecycle"))
            except (http.RequestFailed, ValueError) as error:
                raise HookFailed(f"HTTP lifecycle hook ({action.get('path', '')}) {where} - error: {error}") from error
        elif (action := hook.get("sleep")) is not None:
            await self._clock.sleep(float(action.get("seconds") or 0))
        else:
            raise HookFailed(f"Cannot run handler: invalid handler: {', '.join(hook) or 'none'}")
        return ""

    async def _http(self, request: http.Get) -> str:
        """Any answer will do; a server that does not speak TLS is asked without."""
        try:
            await http.get(request, None, self._dial)
        except http.PlainAnswer:
            plain = replace(
                request,
                url="http" + request.url.removeprefix("https"),
                headers=[one for one in request.headers if str(one["name"]).lower() != "authorization"],
            )
            await http.get(plain, None, self._dial)
            host = urlsplit(request.url).netloc
            return f"request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
        return ""

    async def _exec(self, id: str, argv: list[str], where: str) -> None:
        shown = " ".join(argv)
        try:
            done = await self._runtime.exec_sync(id, argv, 0)
        except TiphysError as error:
            raise HookFailed(f"Exec lifecycle hook ([{shown}]) {where} - error: {error}") from error
        if done.exit_code != 0:
            text = (done.stdout + done.stderr).decode(errors="replace")
            why = f"command '{shown}' exited with {done.exit_code}: {text}, message: \"{text}\""
            raise HookFailed(f"Exec lifecycle hook ([{shown}]) {where} - error: {why}")
