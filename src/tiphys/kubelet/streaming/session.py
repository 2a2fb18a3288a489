"""One exec or attach, whatever it is carried by: pumps between a runtime `Session` and the client's channels.

The carriers (`channels.py` for WebSocket, `streams.py` for SPDY) implement `Front`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tiphys.base.errors import TiphysError
from tiphys.runtime.types import Session

_log = logging.getLogger(__name__)

OpenSession = Callable[[], Awaitable[Session]]
Status = dict[str, Any]
"""A meta/v1 Status: how the command ended."""


@dataclass(frozen=True, slots=True)
class Options:
    """Which streams the client asked for."""

    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool
    verb: str
    """What is being done, for the message when it fails: "executing command in", "attaching to"."""
    detaches: bool = False
    """Whether the end of the client's input ends the session: attached to a container whose input goes on."""


def success() -> Status:
    return {"metadata": {}, "status": "Success"}


def exited(code: int) -> Status:
    """What kubectl turns into its own exit code; success for 0."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(message: str) -> Status:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "code": 500,
    }


def encode_status(status: Status, version: int) -> bytes:
    """Since version 4 the error channel carries JSON; before, a text, and nothing for success."""
    if version >= 4:
        return json.dumps(status, separators=(",", ":")).encode()
    return str(status.get("message", "")).encode()


class Input:
    """What comes from the client, on its way to the session."""

    def __init__(self, session: Session, options: Options) -> None:
        self._session = session
        self._open, self._detaches = options.stdin, options.detaches

    async def stdin(self, data: bytes) -> None:
        if self._open and data:
            try:
                await self._session.write(data)
            except OSError:  # the process closed its stdin; the rest is dropped, as a shell's pipe would
                self._open = False

    async def stdin_end(self) -> None:
        if self._open:
            self._open = False
            await (self._session.detach() if self._detaches else self._session.close_stdin())

    async def resize(self, message: bytes) -> None:
        """`message` is JSON: {"Width": columns, "Height": rows}."""
        try:
            size = json.loads(message)
            width, height = int(size["Width"]), int(size["Height"])
        except (ValueError, KeyError, TypeError):
            return
        if 0 < width < 65536 and 0 < height < 65536:
            await self._session.resize(width, height)


class Front(Protocol):
    """The client's side of a session."""

    async def feed(self, target: Input) -> None:
        """Hand on what the client sends; returns when the client has gone."""
        ...

    async def output(self, descriptor: int, data: bytes) -> None:
        """Send output (1 or 2). Raises ConnectionError when the client has gone."""
        ...

    async def finish(self, status: Status) -> None:
        """End the output and tell how the command ended."""
        ...


async def run(front: Front, open_session: OpenSession, options: Options) -> None:
    """Open the session and carry it to its end, or to the client's."""
    try:
        session = await open_session()
    except (TiphysError, OSError) as error:
        await front.finish(failed(f"error {options.verb} container: {error}"))
        return
    try:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(_feed(front, Input(session, options)))
            await front.finish(await _output(front, session, options))
            feeding.cancel()
    except* (OSError, _ClientGone) as gone:
        _log.debug("session ended by its client: %s", gone.exceptions[0])
    finally:
        await session.close()


class _ClientGone(Exception):
    """Ends the group."""


async def _feed(front: Front, target: Input) -> None:
    await front.feed(target)
    raise _ClientGone("the connection was closed")


async def _output(front: Front, session: Session, options: Options) -> Status:
    wanted = {1: options.stdout, 2: options.stderr and not options.tty}
    try:
        async for descriptor, data in session.output():
            if wanted.get(descriptor):
                await front.output(descriptor, data)
        return exited(await session.wait())
    except TiphysError as error:
        return failed(f"error {options.verb} container: {error}")
