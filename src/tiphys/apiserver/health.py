"""/healthz, /livez and /readyz: named checks, each with a path of its own, in upstream's wording."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from tiphys.base.errors import TiphysError
from tiphys.base.http.types import Request, Response

Check = Callable[[], Awaitable[str]]
"""What is wrong, "" when all is well."""

ENDPOINTS = ("healthz", "livez", "readyz")
TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


CACHED = ("poststarthook/generic-apiserver-start-informers", "poststarthook/crd-informer-synced")
"""Steps of the start by upstream's names: the caches show the store."""
EXTENDED = ("poststarthook/start-apiextensions-informers", "poststarthook/start-apiextensions-controllers")
"""Custom resources are served."""
BOOTSTRAPPED = (
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
)
"""The objects that a cluster starts with are there."""


class Lifecycle:
    """How far the server has come: steps that are `done`, and whether it is `stopping`."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.stopping = False

    def checks(self) -> dict[str, Check]:
        """One check a step."""
        return {step: partial(self._finished, step) for step in (*CACHED, *EXTENDED, *BOOTSTRAPPED)}

    async def shutdown(self) -> str:
        """Whether requests should still be sent here."""
        return "process is shutting down" if self.stopping else ""

    async def _finished(self, step: str) -> str:
        return "" if step in self.done else "not finished"


class Health:
    """The checks of each endpoint, by name; a check that raises one of Tiphys' errors has failed."""

    def __init__(self, checks: dict[str, dict[str, Check]]) -> None:
        self._checks = checks

    async def handle(self, request: Request) -> Response:
        """One of the endpoints, or one check of it."""
        endpoint, _, one = request.path.strip("/").partition("/")
        checks = self._checks[endpoint]
        if one:
            if one not in checks:
                return Response(404, dict(TEXT), b"404 page not found\n")
            problem = await self._run(checks[one])
            text = f"internal server error: {problem}\n" if problem else "ok"
            return Response(500 if problem else 200, dict(TEXT), text.encode())
        return await self._all(request, endpoint, checks)

    async def _all(self, request: Request, endpoint: str, checks: dict[str, Check]) -> Response:
        excluded = set(request.query.get("exclude", []))
        lines, failed = [], False
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = await self._run(check)
            failed = failed or bool(problem)
            lines.append(f"[-]{name} failed: reason withheld" if problem else f"[+]{name} ok")
        if failed:
            lines.append(f"{endpoint} check failed")
            return Response(500, dict(TEXT), ("\n".join(lines) + "\n").encode())
        if "verbose" not in request.query:
            return Response(200, dict(TEXT), b"ok")
        lines.append(f"{endpoint} check passed")
        return Response(200, dict(TEXT), ("\n".join(lines) + "\n").encode())

    @staticmethod
    async def _run(check: Check) -> str:
        try:
            return await check()
        except TiphysError as error:
            return str(error)
