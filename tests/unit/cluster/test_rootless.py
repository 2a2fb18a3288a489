"""Rootless mode: ranges of IDs, and sockets that an agent makes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tiphys.base import outside
from tiphys.base.errors import Permanent
from tiphys.cluster import agent, paths, rootless

T = TypeVar("T")
SUBUID = "root:1:2\nann:100000:65536\n1001:200000:65536\nbad:x:y\n"


@pytest.mark.parametrize(
    ("user", "found"), [("ann", (100000, 65536)), ("1001", (200000, 65536)), ("bad", None), ("bob", None)]
)
def test_ranges_of_ids_are_found_by_name_or_number(user: str, found: tuple[int, int] | None) -> None:
    assert rootless.id_ranges(user, SUBUID) == found


def test_a_user_has_places_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TIPHYS_HOME", "TIPHYS_RUN", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert paths.home() == tmp_path / ".local" / "share" / "tiphys"
    assert paths.run_root() == Path("/tmp/tiphys-1001")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1001")
    assert paths.run_root() == Path("/run/user/1001/tiphys")


def test_places_of_somebody_else_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIPHYS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIPHYS_RUN", str(tmp_path / "run"))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Permanent, match="belongs to somebody else"):
        rootless.enter("up")


def asked(path: Path, work: Callable[[], T]) -> T:
    """The result of `work`, done beside an agent."""

    async def main() -> T:
        with agent.listening(path) as server:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(agent.run(server))
                (result,) = await asyncio.gather(asyncio.to_thread(work), return_exceptions=True)
                serving.cancel()
        if isinstance(result, BaseException):
            raise result
        return result

    return asyncio.run(main())


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    made = tmp_path / "agent.sock"
    monkeypatch.setenv(outside.AGENT, str(made))
    return made


def test_an_agent_binds(path: Path) -> None:
    with asked(path, lambda: outside.listener("127.0.0.1", 0)) as bound:
        bound.listen()
        with socket.create_connection(bound.getsockname()):
            pass
        taken = bound.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            asked(path, lambda: outside.listener("127.0.0.1", taken))


def test_an_agent_connects(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with asked(path, lambda: asyncio.run(outside.connection("localhost", port))) as made:
            assert made.getpeername()[1] == port
    with pytest.raises(OSError, match="refused"):
        asked(path, lambda: asyncio.run(outside.connection("127.0.0.1", port)))


def test_an_agent_outlives_nonsense(path: Path) -> None:
    def work() -> tuple[bytes, int]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.connect(str(path))
            channel.send(b'{"bind": 3}')
            answer = channel.recv(1000)
        with outside.listener("127.0.0.1", 0) as bound:
            return answer, int(bound.getsockname()[1])

    answer, port = asked(path, work)
    assert answer.startswith(b"[5, ")
    assert port


def test_only_the_user_may_ask_an_agent(path: Path) -> None:
    with agent.listening(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_agent_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(OSError, match="the agent of rootless mode does not run"):
        outside.listener("127.0.0.1", 0)


def test_a_connection_that_takes_too_long_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(agent, "CONNECT_TIMEOUT", 0.01)
    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", slow)
    with pytest.raises(OSError, match="timed out"):
        asked(path, lambda: asyncio.run(outside.connection("127.0.0.1", 9)))
