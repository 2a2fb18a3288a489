"""/healthz, /livez and /readyz: named checks, each with a path of its own, in upstream's wording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from tiphys.base.errors import TiphysError
from tiphys.base.http.types import Request, Response

Check = Callable[[], Awaitable[str]]
"""What is wrong, "" when all is well."""

ENDPOINTS = ("healthz", "livez", "readyz")
METRICS = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


HOOK = "poststarthook/"
CACHED = (
    f"{HOOK}start-apiserver-admission-initializer",
    f"{HOOK}generic-apiserver-start-informers",
    f"{HOOK}priority-and-fairness-config-consumer",
    f"{HOOK}priority-and-fairness-filter",
    f"{HOOK}storage-object-count-tracker-hook",
)
"""Steps of the start by upstream's names and in its order: the caches show the store."""
EXTENDED = (
    f"{HOOK}start-apiextensions-informers",
    f"{HOOK}start-apiextensions-controllers",
    f"{HOOK}crd-informer-synced",
)
"""Custom resources are served."""
BOOTSTRAPPED = (
    f"{HOOK}start-system-namespaces-controller",
    f"{HOOK}peer-endpoint-reconciler-controller",
    f"{HOOK}start-cluster-authentication-info-controller",
    f"{HOOK}start-kube-apiserver-identity-lease-controller",
    f"{HOOK}start-kube-apiserver-identity-lease-garbage-collector",
    f"{HOOK}storage-readiness",
    f"{HOOK}start-legacy-token-tracking-controller",
    f"{HOOK}start-service-ip-repair-controllers",
    f"{HOOK}rbac/bootstrap-roles",
    f"{HOOK}scheduling/bootstrap-system-priority-classes",
    f"{HOOK}priority-and-fairness-config-producer",
    f"{HOOK}bootstrap-controller",
    f"{HOOK}start-kubernetes-service-cidr-controller",
    f"{HOOK}start-kube-aggregator-informers",
    f"{HOOK}apiservice-status-local-available-controller",
    f"{HOOK}apiservice-status-remote-available-controller",
    f"{HOOK}apiservice-registration-controller",
    f"{HOOK}apiservice-wait-for-first-sync",
    f"{HOOK}apiservice-discovery-controller",
    f"{HOOK}kube-apiserver-autoregistration",
    "autoregister-completion",
    f"{HOOK}apiservice-openapi-controller",
    f"{HOOK}apiservice-openapiv3-controller",
)
"""The objects that a cluster starts with are there, and what they stand for is served."""
GAUGE = "kubernetes_healthcheck"
TOTAL = "kubernetes_healthchecks_total"


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
        self._results: dict[tuple[str, str], bool] = {}
        self._counts: Counter[tuple[str, str, str]] = Counter()

    @property
    def paths(self) -> list[str]:
        """The paths of all checks."""
        return [f"/{endpoint}/{name}" for endpoint, checks in self._checks.items() for name in checks]

    async def slis(self, request: Request) -> Response:
        """/metrics/slis: how each check went the last time, and how often each way; one never asked for runs now."""
        for endpoint, checks in self._checks.items():
            for name, check in checks.items():
                if (name, endpoint) not in self._results:
                    await self._run(endpoint, name, check)
        lines = [f"# HELP {GAUGE} [STABLE] This metric records the result of a single healthcheck."]
        lines.append(f"# TYPE {GAUGE} gauge")
        for (name, endpoint), well in sorted(self._results.items()):
            lines.append(f'{GAUGE}{{name="{name}",type="{endpoint}"}} {int(well)}')
        lines.append(f"# HELP {TOTAL} [STABLE] This metric records the results of all healthcheck.")
        lines.append(f"# TYPE {TOTAL} counter")
        for (name, result, endpoint), count in sorted(self._counts.items()):
            lines.append(f'{TOTAL}{{name="{name}",status="{result}",type="{endpoint}"}} {count}')
        return Response(200, {"Content-Type": METRICS}, ("\n".join(lines) + "\n").encode())

    async def handle(self, request: Request) -> Response:
        """One of the endpoints, or one check of it."""
        endpoint, _, one = request.path.strip("/").partition("/")
        checks = self._checks[endpoint]
        if one:
            if one not in checks:
                return Response(404, dict(TEXT), b"404 page not found\n")
            problem = await self._run(endpoint, one, checks[one])
            text = f"internal server error: {problem}\n" if problem else "ok"
            headers = dict(TEXT) if problem else {"Content-Type": TEXT["Content-Type"]}
            return Response(500 if problem else 200, headers, text.encode())
        return await self._all(request, endpoint, checks)

    async def _all(self, request: Request, endpoint: str, checks: dict[str, Check]) -> Response:
        excluded = set(request.query.get("exclude", []))
        lines, failed = [], False
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = await self._run(endpoint, name, check)
            failed = failed or bool(problem)
            lines.append(f"[-]{name} failed: reason withheld" if problem else f"[+]{name} ok")
        if failed:
            lines.append(f"{endpoint} check failed")
            return Response(500, dict(TEXT), ("\n".join(lines) + "\n").encode())
        if "verbose" not in request.query:
            return Response(200, dict(TEXT), b"ok")
        lines.append(f"{endpoint} check passed")
        return Response(200, dict(TEXT), ("\n".join(lines) + "\n").encode())

    async def _run(self, endpoint: str, name: str, check: Check) -> str:
        try:
            problem = await check()
        except TiphysError as error:
            problem = str(error) or "failed"
        self._results[name, endpoint] = not problem
        self._counts[name, "error" if problem else "success", endpoint] += 1
        return problem
