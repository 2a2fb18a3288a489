"""The API server is killed a hundred times while sixteen clients write: what it acknowledged is there, all of it, and
what it did not acknowledge is there whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

KILLS, WRITERS = 100, 16
MAPS = "/api/v1/namespaces/default/configmaps"
State = dict[str, str] | None
"""What an object's data is; None: there is no such object."""


class Lost(Exception):
    """The connection ended before the answer was there."""


class Connection:
    """One client's HTTPS connection: requests one after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = b"" if body is None else orjson.dumps(body)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        try:
            self._writer.write(head.encode() + data)
            answer = await self._reader.readuntil(b"\r\n\r\n")
            lines = answer.decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            return int(lines[0].split()[1]), orjson.loads(await self._reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, EOFError) as error:
            raise Lost from error


class Ledger:
    """What clients know: the last acknowledged state and version of each object, and what was on its way."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[State, int]] = {}
        self.sent: dict[str, State] = {}
        self.newest = 0
        self.acknowledged = 0

    def acknowledge(self, name: str, state: State, version: int) -> None:
        self.known[name] = (state, version)
        self.sent.pop(name, None)
        self.newest = max(self.newest, version)
        self.acknowledged += 1

    def check(self, listed: dict[str, Any]) -> None:
        """Compare with what the server has after a restart, and go on from there."""
        assert int(listed["metadata"]["resourceVersion"]) >= self.newest, "revisions went back"
        found = {item["metadata"]["name"]: item for item in listed["items"] if item["metadata"]["name"][0] == "w"}
        for name in self.known.keys() | self.sent.keys() | found.keys():
            state = found[name]["data"] if name in found else None
            version = int(found[name]["metadata"]["resourceVersion"]) if name in found else 0
            last, at = self.known.get(name, (None, 0))
            if state == last and (last is None or version == at):
                continue
            assert name in self.sent, f"{name} was {last} at {at}, is {state} at {version}, and nobody wrote it"
            assert state == self.sent[name], f"{name} is {state}, acknowledged was {last}, sent was {self.sent[name]}"
            self.known[name] = (state, version)
        self.sent.clear()


async def write(connection: Connection, ledger: Ledger, number: int, life: int) -> None:
    """Create, change and delete own objects until the connection ends."""
    mine = [name for name, (state, _) in ledger.known.items() if state and name.startswith(f"w{number}-")]
    for step in range(10**9):
        text = f"{life}-{step}" * 50
        state: State = {"first": text, "last": text}
        if step % 4 == 3 and len(mine) > 3:
            name, method, state = mine.pop(0), "DELETE", None
        elif step % 2 and mine:
            name, method = mine[-1], "PUT"
        else:
            name, method = f"w{number}-{life}-{step}", "POST"
            mine.append(name)
        ledger.sent[name] = state
        body = {"metadata": {"name": name}, "data": state} if state else None
        status, answer = await connection.call(method, MAPS if method == "POST" else f"{MAPS}/{name}", body)
        assert status in (200, 201), answer
        ledger.acknowledge(name, state, int(answer.get("metadata", {}).get("resourceVersion") or 0))


async def load(port: int, ledger: Ledger, life: int, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Check what is there, write at it, kill it."""

    async def client(number: int) -> None:
        with contextlib.suppress(Lost, OSError):
            async with Connection(port) as connection:
                await write(connection, ledger, number, life)

    async with Connection(port) as connection:
        ledger.check((await connection.call("GET", MAPS))[1])
    async with asyncio.TaskGroup() as group:
        for number in range(WRITERS):
            group.create_task(client(number))
        asyncio.get_running_loop().call_later(seconds, process.send_signal, signal.SIGKILL)


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A server process that answers."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tiphys", "apiserver", "--secure-port", str(port), "--bind-address", "127.0.0.1",
             "--data-dir", str(folder / "data"), "--token-auth-file", str(folder / "tokens")],
            stdout=log, stderr=log,
        )  # fmt: skip
    end = time.monotonic() + 60  # noqa: TID251 - a real process
    while time.monotonic() < end:  # noqa: TID251
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.01)  # noqa: TID251
    raise AssertionError("the server did not start")


def lives(folder: Path, count: int, seed: int) -> int:
    """Let a server live and be killed `count` times; returns how many writes it acknowledged."""
    chance, ledger = random.Random(seed), Ledger()
    folder.mkdir()
    (folder / "tokens").write_text('secret,admin,1,"system:masters"\n')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for life in range(count + 1):  # in the last one there is nothing but the check
        process = start(folder, port)
        try:
            asyncio.run(load(port, ledger, life, process, chance.uniform(0.05, 0.2) if life < count else 0.0))
        finally:
            process.kill()
            process.wait()
    return ledger.acknowledged


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_killed_server_has_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:  # a server a processor
        halves = [pool.submit(lives, tmp_path / str(number), KILLS // 2, number) for number in range(2)]
        acknowledged = [half.result() for half in halves]
    assert min(acknowledged) > 10 * KILLS
