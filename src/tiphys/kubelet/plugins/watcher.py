"""Plugins that announce themselves by a socket in ROOT_DIR/plugins_registry (pluginregistration v1).

The kernel tells of changes in the directory (inotify); each socket is asked what it is, handed to whoever handles its
type, and told what came of it. A socket that goes is a plugin that goes. Source: the kubelet's plugin registration API.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.messages import BOOL, STRING, Message, Repeated
from tiphys.base.grpc.types import RpcError, methods
from tiphys.base.inotify import DirectoryWatch

log = logging.getLogger(__name__)

INFO = Message(type=(1, STRING), name=(2, STRING), endpoint=(3, STRING), supported_versions=(4, Repeated(STRING)))
_METHODS = methods(
    "pluginregistration.Registration",
    GetInfo=(Message(), INFO),
    NotifyRegistrationStatus=(Message(plugin_registered=(1, BOOL), error=(2, STRING)), Message()),
)
GET_INFO, NOTIFY = _METHODS["GetInfo"], _METHODS["NotifyRegistrationStatus"]
_TIMEOUT = 5.0
_RETRY_FIRST, _RETRY_LIMIT = 0.5, 122.0
_DEEPEST = 5

Socket = tuple[str, int, int]
"""(path, inode, time of its making): another socket at the same path is another plugin."""


class PluginHandler(Protocol):
    """Takes up plugins of one type."""

    def validate(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        """Raises TiphysError for a plugin that cannot be used."""
        ...

    async def register(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        """Raises TiphysError."""
        ...

    def deregister(self, name: str, endpoint: str) -> None: ...


class PluginWatcher:
    """Follows `directory`; `handlers` are by type (DevicePlugin, DRAPlugin)."""

    def __init__(self, directory: Path, clock: Clock, handlers: Mapping[str, PluginHandler]) -> None:
        self._directory = directory
        self._clock = clock
        self._handlers = handlers
        self._changed = asyncio.Event()
        self._watches: dict[Path, DirectoryWatch] = {}
        self._tasks: dict[Socket, asyncio.Task[None]] = {}
        self._registered: dict[Socket, tuple[PluginHandler, str, str]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._follow(group)
                except OSError as error:  # within the group, which would wrap it
                    log.warning("plugins in %s are not looked for: %s", self._directory, error)
                for task in self._tasks.values():
                    task.cancel()
        finally:
            for watch in self._watches.values():
                watch.close()
            self._watches.clear()

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        while True:
            self._changed.clear()
            self._compare(group)
            await self._changed.wait()

    def _compare(self, group: asyncio.TaskGroup) -> None:
        """Take up sockets that came, let go of those that went. Directories are watched before they are read."""
        found: set[Socket] = set()
        known = set(self._watches)
        self._scan(self._directory, found, known, 0)
        for gone in known:
            self._watches.pop(gone).close()
        for socket in set(self._tasks) - found:
            self._tasks.pop(socket).cancel()
            self._forget(socket)
        for socket in found - set(self._tasks):
            self._tasks[socket] = group.create_task(self._insist(socket), name=f"plugin {socket[0]}")

    def _scan(self, directory: Path, found: set[Socket], gone: set[Path], depth: int) -> None:
        gone.discard(directory)
        if directory not in self._watches:
            self._watches[directory] = DirectoryWatch(directory, self._changed.set)
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if entry.name.startswith("."):
                continue
            if stat.S_ISDIR(facts.st_mode) and depth < _DEEPEST:
                self._scan(Path(entry.path), found, gone, depth + 1)
            elif stat.S_ISSOCK(facts.st_mode):
                found.add((entry.path, facts.st_ino, facts.st_ctime_ns))

    def _forget(self, socket: Socket) -> None:
        known = self._registered.pop(socket, None)
        if known is not None:
            handler, name, endpoint = known
            handler.deregister(name, endpoint)

    async def _insist(self, socket: Socket) -> None:
        delay = _RETRY_FIRST
        while True:
            try:
                await self._register(socket)
            except (TiphysError, OSError) as error:
                log.info("plugin at %s: next try in %.1f s: %s", socket[0], delay, error)
                await self._clock.sleep(delay)
                delay = min(delay * 2, _RETRY_LIMIT)
            else:
                return

    async def _register(self, socket: Socket) -> None:
        path = socket[0]
        channel = Channel(path)
        try:
            info = await channel.call(GET_INFO, {}, timeout=_TIMEOUT)
            name, endpoint = info["name"], info["endpoint"] or path
            handler = self._handlers.get(info["type"])
            if handler is None:
                text = f"no handler registered for plugin type: {info['type']} at socket {path}"
                await self._refuse(channel, f"RegisterPlugin error -- {text}")
                return
            try:
                handler.validate(name, endpoint, info["supported_versions"])
            except TiphysError as error:
                await self._refuse(channel, f"RegisterPlugin error -- plugin validation failed with err: {error}")
                raise
            try:
                await handler.register(name, endpoint, info["supported_versions"])
            except TiphysError as error:
                await self._refuse(channel, f"RegisterPlugin error -- plugin registration failed with err: {error}")
                raise
            self._registered[socket] = (handler, name, endpoint)
            await self._tell(channel, socket)
            log.info("plugin %s (%s) registered", name, info["type"])
        finally:
            channel.close()

    async def _refuse(self, channel: Channel, why: str) -> None:
        await channel.call(NOTIFY, {"plugin_registered": False, "error": why}, timeout=_TIMEOUT)

    async def _tell(self, channel: Channel, socket: Socket) -> None:
        try:
            await channel.call(NOTIFY, {"plugin_registered": True}, timeout=_TIMEOUT)
        except RpcError:
            self._forget(socket)
            raise
