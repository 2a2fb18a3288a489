"""/healthz and its checks, /metrics/slis, /statusz, /flagz, /configz: how the kubelet itself is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiphys import KUBERNETES_VERSION
from tiphys.base.clock import rfc3339
from tiphys.base.errors import NotFound
from tiphys.base.http.types import Request, Response
from tiphys.base.metrics import CONTENT_TYPE, Registry
from tiphys.kubelet.server.answers import text
from tiphys.kubelet.server.own_metrics import started_at

if TYPE_CHECKING:
    from tiphys.kubelet.app import Kubelet

CHECKS = ("ping", "log", "syncloop")
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)


class Health:
    """Answers for one kubelet."""

    def __init__(self, kubelet: Kubelet, paths: list[str]) -> None:
        self._kubelet, self._paths = kubelet, paths
        self._registry = Registry()
        labels = ("name", "type")
        help = "This metric records the result of a single healthcheck."
        self._last = self._registry.gauge("kubernetes_healthcheck", help, labels)
        help = "This metric records the results of all healthcheck."
        self._total = self._registry.counter("kubernetes_healthchecks_total", help, (*labels, "status"))

    async def healthz(self, request: Request, rest: list[str]) -> Response:
        """All checks, or the one that is named."""
        if len(rest) > 1 or (rest and rest[0] not in CHECKS):
            raise NotFound("404 page not found")
        excluded = set(request.query.get("exclude") or ())
        results = [(name, self._check(name)) for name in (rest or CHECKS) if name not in excluded]
        failed = [name for name, good in results if not good]
        if not failed and (rest or "verbose" not in request.query):
            return text("ok")
        lines = [f"[+]{name} ok" if good else f"[-]{name} failed: reason withheld" for name, good in results]
        end = "healthz check failed" if failed else "healthz check passed"
        return text("\n".join([*lines, end]) + "\n", 500 if failed else 200)

    def _check(self, name: str) -> bool:
        good = name != "syncloop" or self._kubelet.started.is_set()
        self._last.set(int(good), name, "healthz")
        self._total.inc(name, "healthz", "success" if good else "error")
        return good

    async def slis(self) -> Response:
        """/metrics/slis: the results of the checks so far."""
        return Response(200, {"content-type": CONTENT_TYPE}, self._registry.render())

    async def statusz(self, request: Request, rest: list[str]) -> Response:
        """When it was started, which version it is, what it serves."""
        now, began = self._kubelet.clock.time(), started_at(self._kubelet.clock)
        seconds = max(0, int(now - began))
        up = f"{seconds // 3600} hr {seconds // 60 % 60:02d} min {seconds % 60:02d} sec"
        version = KUBERNETES_VERSION.removeprefix("v")
        lines = [
            "",
            "kubelet statusz",
            _WARNING,
            "",
            f"Started: {rfc3339(began)}",
            f"Up: {up}",
            f"Python version: {sys.version.split()[0]}",
            f"Binary version: {version}",
            f"Emulation version: {version}",
            f"Paths: {' '.join(self._paths)}",
        ]
        return text("\n".join(lines) + "\n")

    async def flagz(self, request: Request, rest: list[str]) -> Response:
        """What it was told on its command line."""
        lines = ["", "kubelet flagz", _WARNING, ""]
        lines += [f"{name}={value}" for name, value in sorted(flags(sys.argv[1:]).items())]
        return text("\n".join(lines) + "\n")


def flags(words: list[str]) -> Mapping[str, Any]:
    """Flags of a command line by name."""
    found: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else ("true" if following.startswith("--") else following)
    return found
