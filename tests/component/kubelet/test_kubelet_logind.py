"""A shutdown that logind announces, over a real message bus with a stand-in for logind on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.clock import SystemClock
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.shutdown import logind

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="there is no dbus-daemon to talk over")
jeepney = pytest.importorskip("jeepney")

CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow eavesdrop="true"/>
  </policy>
</busconfig>
"""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    socket = tmp_path / "bus"
    file = tmp_path / "bus.conf"
    file.write_text(CONFIGURATION.format(socket=socket))
    command = ["dbus-daemon", f"--config-file={file}", "--nofork", "--nopidfile", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={socket}")
        try:
            yield
        finally:
            daemon.terminate()


class FakeLogind:
    """Answers Inhibit and InhibitDelayMaxUSec, and announces shutdowns."""

    def __init__(self, granted: float) -> None:
        from jeepney.bus_messages import message_bus
        from jeepney.io.blocking import open_dbus_connection

        self.bus = open_dbus_connection("SYSTEM", enable_fds=True)
        self.bus.send_and_get_reply(message_bus.RequestName("org.freedesktop.login1"))
        self.granted = granted
        self.inhibited: list[tuple[str, ...]] = []
        self.locks: list[int] = []
        self.reloads = 0

    def serve(self) -> None:
        """What is asked at the moment."""
        while True:
            try:
                message = self.bus.receive(timeout=0)
            except TimeoutError:
                return
            if message.header.message_type is jeepney.MessageType.method_call:
                self._answer(message)

    def _answer(self, message: Any) -> None:
        from jeepney import HeaderFields, new_method_return

        match message.header.fields[HeaderFields.member]:
            case "Inhibit":
                self.inhibited.append(tuple(message.body))
                ours, theirs = os.pipe()
                self.locks.append(ours)
                self.bus.send(new_method_return(message, "h", (theirs,)))
                os.close(theirs)
            case "Get":
                self.bus.send(new_method_return(message, "v", (("t", int(self.granted * 1e6)),)))

    def announce(self, going: bool) -> None:
        from jeepney import DBusAddress, new_signal

        address = DBusAddress("/org/freedesktop/login1", interface="org.freedesktop.login1.Manager")
        self.bus.send(new_signal(address, "PrepareForShutdown", "b", (going,)))

    def is_held(self, number: int) -> bool:
        """Whether a lock is still held: its pipe has a writer."""
        os.set_blocking(self.locks[number], False)
        try:
            return os.read(self.locks[number], 1) != b""
        except BlockingIOError:
            return True


class Shutdown:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def shut_down(self) -> None:
        self.told.append("down")

    def cancel(self) -> None:
        self.told.append("cancelled")


async def until(fake: FakeLogind, condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            fake.serve()
            await SystemClock().sleep(0.01)


def config(seconds: float) -> KubeletConfig:
    return KubeletConfig(node_name="n", root_dir=Path("/nowhere"), shutdown_grace=seconds)


def test_a_lock_is_held_until_pods_have_ended(bus: None) -> None:
    async def scenario() -> None:
        fake, shutdown = FakeLogind(granted=60), Shutdown()
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(logind.follow(shutdown, config(30), SystemClock()))
            await until(fake, lambda: fake.inhibited)
            assert fake.inhibited == [("shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay")]
            await SystemClock().sleep(0.1)
            assert fake.is_held(0)
            fake.announce(True)
            await until(fake, lambda: shutdown.told == ["down"] and not fake.is_held(0))
            fake.announce(False)
            await until(fake, lambda: len(fake.inhibited) == 2)
            assert shutdown.told == ["down", "cancelled"]
            assert fake.is_held(1)
            work.cancel()
        with contextlib.suppress(OSError):
            fake.bus.close()

    asyncio.run(scenario())


def test_without_a_bus_or_logind_it_gives_up_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    caplog.set_level("INFO")
    asyncio.run(asyncio.wait_for(logind.follow(Shutdown(), config(30), SystemClock()), 10))
    assert "SIGPWR only" in caplog.text


def test_a_delay_that_is_too_short_is_raised_by_a_drop_in(
    bus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in = tmp_path / "logind.conf.d" / "99-kubelet.conf"
    monkeypatch.setattr(logind, "_DROP_IN", drop_in)

    async def scenario() -> None:
        fake = FakeLogind(granted=5)
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(logind.follow(Shutdown(), config(30), SystemClock()))
            await until(fake, drop_in.exists)
            assert drop_in.read_text() == "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=30\n"
            work.cancel()
        fake.bus.close()

    asyncio.run(scenario())
