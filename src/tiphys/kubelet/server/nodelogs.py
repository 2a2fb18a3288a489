"""/logs/: files of the node's log directory, and with enableSystemLogQuery its services' logs by name (NodeLogQuery).

A name is looked for in the journal, where the machine has one, and among files: NAME, NAME.log, NAME/NAME.log.
"""

from __future__ import annotations

import asyncio
import html
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tiphys.base.clock import parse_rfc3339
from tiphys.base.errors import BadRequest, MethodNotAllowed, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.kubelet.server.answers import TEXT, text
from tiphys.kubelet.server.settings import ServerSettings

MAX_SERVICES = 4
MAX_TAIL = 100_000
_SERVICE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9@:_.-]*")
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What is asked for: services or one file, and for services how much of their logs."""

    services: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    tail: int | None = None
    pattern: str = ""
    boot: int | None = None

    @property
    def narrowed(self) -> bool:
        return bool(self.since or self.until or self.pattern) or self.tail is not None or self.boot is not None


def parse_query(request: Request) -> LogQuery:
    """Raises BadRequest with the field and what is wrong with it."""
    asked = [one for one in request.query.get("query", []) if one.strip()]
    if "query" in request.query and not asked:
        raise _invalid("unit", request.param("query"), "unit cannot be empty")
    files = tuple(one for one in asked if "/" in one or "\\" in one)
    services = tuple(one for one in asked if one not in files)
    found = LogQuery(
        services=services,
        files=files,
        since=_time(request, "sinceTime"),
        until=_time(request, "untilTime"),
        tail=_whole(request, "tailLines"),
        pattern=request.param("pattern"),
        boot=_whole(request, "boot"),
    )
    _validate(found)
    return found


def _validate(query: LogQuery) -> None:
    for service in query.services:
        if not _SERVICE.fullmatch(service):
            raise _invalid("query", service, "input contains unsupported characters")
    if len(query.services) > MAX_SERVICES:
        raise BadRequest(f"query: Too many: {len(query.services)}: must have at most {MAX_SERVICES} items\n")
    if query.files and query.services:
        raise _invalid("query", f"{list(query.files)}, {list(query.services)}", "cannot specify a file and service")
    if len(query.files) > 1:
        raise _invalid("query", " ".join(query.files), "cannot specify more than one file")
    if query.files and query.narrowed:
        raise _invalid("query", query.files[0], "cannot specify file with options")
    if query.since and query.until and parse_rfc3339(query.since) > parse_rfc3339(query.until):
        raise _invalid("untilTime", query.until, "must be after `sinceTime`")
    if query.boot is not None and query.boot > 0:
        raise _invalid("boot", query.boot, "must be less than 1")
    if query.tail is not None and not 0 <= query.tail <= MAX_TAIL:
        raise _invalid("tailLines", query.tail, f"must be between 0 and {MAX_TAIL}, inclusive")
    try:
        re.compile(query.pattern)
    except re.error as error:
        raise _invalid("pattern", query.pattern, str(error)) from error


def _invalid(field: str, value: object, why: str) -> BadRequest:
    shown = f'"{value}"' if isinstance(value, str) else value
    return BadRequest(f"{field}: Invalid value: {shown}: {why}\n")


def _time(request: Request, name: str) -> str:
    value = request.param(name)
    if value:
        try:
            parse_rfc3339(value)
        except ValueError as error:
            raise _invalid(name, value, "invalid time format") from error
    return value


def _whole(request: Request, name: str) -> int | None:
    value = request.param(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise _invalid(name, value, f'strconv.Atoi: parsing "{value}": invalid syntax') from error


class NodeLogs:
    """Answers /logs/ from `directory`."""

    def __init__(self, settings: ServerSettings, directory: Path = Path("/var/log")) -> None:
        self._settings, self._directory = settings, directory

    async def handle(self, request: Request, rest: list[str]) -> Response:
        """A file, a listing, or what a query asks for."""
        if not self._settings.system_logs:
            raise MethodNotAllowed("logs endpoint is disabled.\n")
        if "query" in request.query and not rest:
            if not self._settings.system_log_query:
                raise MethodNotAllowed("system log query is disabled.\n")
            return Response(200, dict(TEXT), stream=self._answer(parse_query(request)))
        path = self._inside("/".join(rest))
        if path is None or not (path.is_dir() or path.is_file()):
            raise NotFound("404 page not found\n")
        if path.is_dir():
            if not request.path.endswith("/"):
                return Response(301, {"location": f"{request.path.rpartition('/')[2]}/"})
            return _listing(path)
        return Response(200, dict(TEXT), stream=_file(path))

    def _inside(self, name: str) -> Path | None:
        """The path, if it is below the directory when all symlinks are followed."""
        path = (self._directory / name.lstrip("/")).resolve()
        return path if path.is_relative_to(self._directory.resolve()) else None

    async def _answer(self, query: LogQuery) -> AsyncIterator[bytes]:
        if query.files:
            path = self._inside(query.files[0])
            if path is None or not path.is_file():
                yield f"\nlog not found for {query.files[0]}\n".encode()
                return
            async for chunk in _file(path):
                yield chunk
        native = await _journal_units(query.services)
        if native:
            async for chunk in _journal(query, native):
                yield chunk
        for service in query.services:
            if service not in native:
                async for chunk in self._of_service(service):
                    yield chunk

    async def _of_service(self, service: str) -> AsyncIterator[bytes]:
        for name in (service, f"{service}.log", f"{service}/{service}.log"):
            path = self._inside(name)
            if path is not None and path.is_file():
                async for chunk in _file(path):
                    yield chunk
                return
        yield f"\nlog not found for {service}\n".encode()


def _listing(directory: Path) -> Response:
    """As Go's file server shows a directory."""
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in directory.iterdir())
    lines = [f'<a href="{quote(name)}">{html.escape(name)}</a>' for name in names]
    body = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n'
    body += "".join(f"{line}\n" for line in lines) + "</pre>\n"
    answer = text(body)
    answer.headers["content-type"] = "text/html; charset=utf-8"
    return answer


async def _file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _journal_units(services: Sequence[str]) -> list[str]:
    """Those of the services that the journal knows."""
    if not services or shutil.which("journalctl") is None:
        return []
    units = b"".join([chunk async for chunk in _run("journalctl", "--field", "_SYSTEMD_UNIT")]).decode().split()
    return [service for service in services if f"{service}.service" in units]


async def _journal(query: LogQuery, services: Sequence[str]) -> AsyncIterator[bytes]:
    words = ["--utc", "--no-pager", "--output=short-precise"]
    words += [f"--since={_date(query.since)}"] if query.since else []
    words += [f"--until={_date(query.until)}"] if query.until else []
    words += ["--pager-end", f"--lines={query.tail}"] if query.tail is not None else []
    words += [f"--unit={service}" for service in services]
    words += [f"--grep={query.pattern}", "--case-sensitive=false"] if query.pattern else []
    words += ["--boot", str(query.boot)] if query.boot is not None else []
    async for chunk in _run("journalctl", *words):
        yield chunk


def _date(moment: str) -> str:
    """Journalctl's form of an RFC 3339 time, which is in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(parse_rfc3339(moment), UTC).strftime("%Y-%m-%d %H:%M:%S")


async def _run(*words: str) -> AsyncIterator[bytes]:
    """A program's output; the program ends with whoever reads it."""
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        while chunk := await process.stdout.read(_CHUNK):
            yield chunk
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
