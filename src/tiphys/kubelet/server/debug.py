"""/debug/pprof and /debug/flags/v: what a Python process can tell where upstream shows what Go's profiler saw."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import sys
import threading
import traceback
from collections import Counter

from tiphys.base.errors import BadRequest, MethodNotAllowed, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.kubelet.server.answers import text
from tiphys.kubelet.server.settings import ServerSettings

_VERBOSE = 4
"""klog's verbosity from which debug messages are logged."""


class Debug:
    """Answers below /debug."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings

    async def handle(self, request: Request, rest: list[str]) -> Response:
        """/debug/..."""
        if rest[:1] == ["pprof"]:
            if not self._settings.profiling:
                raise MethodNotAllowed("profiling endpoint is disabled.\n")
            return _profile(rest[1] if len(rest) > 1 else "")
        if rest == ["flags", "v"]:
            if not self._settings.debug_flags:
                raise MethodNotAllowed("flags endpoint is disabled.\n")
            return _verbosity(request)
        raise NotFound("404 page not found")


def _profile(name: str) -> Response:
    if name == "cmdline":
        return text("\0".join(sys.argv))
    if name in ("goroutine", "threadcreate"):
        return text(_stacks())
    if name in ("heap", "allocs"):
        counts = Counter(type(one).__name__ for one in gc.get_objects())
        return text("".join(f"{count}\t{kind}\n" for kind, count in counts.most_common(200)))
    if name in ("profile", "trace", "symbol", "block", "mutex"):
        return text(f"{name}: not supported: this kubelet is a Python program\n", 501)
    if name:
        return text("Unknown profile\n", 404)
    return text("goroutine\tstacks of tasks and threads\nheap\tobjects by type\ncmdline\n")


def _stacks() -> str:
    out = io.StringIO()
    for task in asyncio.all_tasks():
        out.write(f"task {task.get_name()}:\n")
        task.print_stack(file=out)
    frames = sys._current_frames()
    for thread in threading.enumerate():
        out.write(f"\nthread {thread.name}:\n")
        frame = frames.get(thread.ident or 0)
        out.writelines(traceback.format_stack(frame) if frame is not None else ())
    return out.getvalue()


def _verbosity(request: Request) -> Response:
    if request.method != "PUT":
        return text("unrecognized http method\n", 405)
    try:
        wanted = int(request.body)
    except ValueError as error:
        raise BadRequest(
            f"failed set klog.logging.verbosity {request.body.decode(errors='replace')}: {error}"
        ) from error
    logging.getLogger("tiphys").setLevel(logging.DEBUG if wanted >= _VERBOSE else logging.INFO)
    return text(f"successfully set klog.logging.verbosity to {wanted}")
