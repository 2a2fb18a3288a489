"""Told by systemd-logind that the machine goes down: an inhibitor lock of mode "delay", and PrepareForShutdown.

Needs jeepney (the extra `systemd`) and the system's D-Bus; without either SIGPWR is the only bell. When logind grants
less time than the configuration asks for, a drop-in in logind.conf.d raises it (InhibitDelayMaxSec), as upstream does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any, Protocol

from tiphys.base.clock import Clock
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.shutdown.groups import total

log = logging.getLogger(__name__)

_RECONNECT = 1.0
_TRIES, _FIRST_PAUSE = 5, 0.1
_DROP_IN = Path("/etc/systemd/logind.conf.d/99-kubelet.conf")
_PATH, _NAME = "/org/freedesktop/login1", "org.freedesktop.login1"
_MANAGER = "org.freedesktop.login1.Manager"


class Told(Protocol):
    """Who is told; see manager.NodeShutdown."""

    async def shut_down(self) -> None: ...

    def cancel(self) -> None: ...


class LogindFailed(Exception):
    """D-Bus or logind refused; the message says what."""


async def follow(shutdown: Told, config: KubeletConfig, clock: Clock) -> None:
    """Until cancelled, or until it turns out that there is no logind."""
    try:
        import jeepney.io.blocking  # noqa: F401 - only to see whether it is there
    except ImportError:
        log.info("jeepney is not installed: the node's shutdown is begun by SIGPWR only")
        return
    first = True
    while True:
        try:
            await _Logind(config, clock).follow(shutdown)
        except (LogindFailed, OSError) as error:
            if first:
                log.info("no word from logind, the node's shutdown is begun by SIGPWR only: %s", error)
                return
            log.warning("logind is lost, asking again: %s", error)
        first = False
        await clock.sleep(_RECONNECT)


class _Logind:
    """One connection to the system bus."""

    def __init__(self, config: KubeletConfig, clock: Clock) -> None:
        self._wanted = float(total(config))
        self._clock = clock
        self._lock: Any = None
        self._bus: Any = None

    async def follow(self, shutdown: Told) -> None:
        from jeepney.io.blocking import open_dbus_connection

        self._bus = await asyncio.to_thread(open_dbus_connection, "SYSTEM", enable_fds=True)
        try:
            await self._make_room()
            await self._inhibit()
            await self._listen(shutdown)
        finally:
            self._release()
            self._bus.close()

    async def _call(self, method: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        from jeepney import DBusAddress, new_method_call

        address = DBusAddress(_PATH, bus_name=_NAME, interface=_MANAGER)
        return await self._send(new_method_call(address, method, signature, body), method)

    async def _send(self, message: Any, what: str) -> tuple[Any, ...]:
        from jeepney import MessageType

        try:
            reply = await asyncio.to_thread(self._bus.send_and_get_reply, message, timeout=10.0)
        except (TimeoutError, ConnectionError, OSError) as error:
            raise LogindFailed(f"{what}: {error or type(error).__name__}") from error
        if reply.header.message_type is MessageType.error:
            raise LogindFailed(f"{what}: {reply.body[0] if reply.body else 'refused'}")
        return tuple(reply.body)

    async def _granted(self) -> float:
        """Seconds that logind waits for those who hold it up."""
        from jeepney import DBusAddress, new_method_call

        address = DBusAddress(_PATH, bus_name=_NAME, interface="org.freedesktop.DBus.Properties")
        message = new_method_call(address, "Get", "ss", (_MANAGER, "InhibitDelayMaxUSec"))
        return float((await self._send(message, "InhibitDelayMaxUSec"))[0][1]) / 1e6

    async def _make_room(self) -> None:
        if await self._granted() >= self._wanted:
            return
        await asyncio.to_thread(_write_drop_in, self._wanted)
        await self._reload()
        pause = _FIRST_PAUSE
        for _ in range(_TRIES):
            if await self._granted() >= self._wanted:
                return
            await self._clock.sleep(pause)
            pause *= 2
        raise LogindFailed(f"logind grants less than the {self._wanted:g} s of shutdownGracePeriod")

    async def _reload(self) -> None:
        """logind reads its configuration anew on SIGHUP; systemd is asked to send it."""
        from jeepney import DBusAddress, new_method_call

        address = DBusAddress(
            "/org/freedesktop/systemd1",
            bus_name="org.freedesktop.systemd1",
            interface="org.freedesktop.systemd1.Manager",
        )
        await self._send(
            new_method_call(address, "KillUnit", "ssi", ("systemd-logind.service", "all", 1)), "reload logind.conf"
        )

    async def _inhibit(self) -> None:
        body = ("shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay")
        held, self._lock = self._lock, (await self._call("Inhibit", "ssss", body))[0]
        if held is not None:
            held.close()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _listen(self, shutdown: Told) -> None:
        """Each signal in turn; ends when the connection does."""
        from jeepney import MatchRule, message_bus

        rule = MatchRule(type="signal", interface=_MANAGER, member="PrepareForShutdown", path=_PATH)
        await self._send(message_bus.AddMatch(rule), "AddMatch")
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._bus.sock, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                for going in self._signals(rule):
                    await self._handle(shutdown, going)
        finally:
            loop.remove_reader(self._bus.sock)

    def _signals(self, rule: Any) -> list[bool]:
        found: list[bool] = []
        while True:
            try:
                message = self._bus.receive(timeout=0)
            except TimeoutError:
                return found
            except (ConnectionError, OSError) as error:
                raise LogindFailed(f"the bus is gone: {error}") from error
            if rule.matches(message):
                found.append(bool(message.body[0]))

    async def _handle(self, shutdown: Told, going: bool) -> None:
        if going:
            try:
                await shutdown.shut_down()
            finally:
                self._release()
        else:
            shutdown.cancel()
            await self._inhibit()


def _write_drop_in(seconds: float) -> None:
    _DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    _DROP_IN.write_text(f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds:.0f}\n")
    os.chmod(_DROP_IN, 0o644)
