"""/healthz, /livez and /readyz: named checks, each with a path of its own, in upstream's wording."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tiphys.base.errors import TiphysError
from tiphys.base.http.types import Request, Response

Check = Callable[[], Awaitable[str]]
"""What is wrong, "" when all is well."""

ENDPOINTS = ("healthz", "livez", "readyz")
TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


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
