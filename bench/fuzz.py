"""Sends bad requests to an API server and says what it made of them: `python bench/fuzz.py [COUNT] [SEED]`.

Bodies in every form, patches, custom resources, paths, headers, query strings, upgrades, truncated and slow
connections, bad TLS. None of them may be answered by a 5xx,
hang, or leave memory behind. The same seed sends the same requests. A server of another make can be named by
`--url URL --token TOKEN --pid PID`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import random
import re
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bad_requests import Server
from worse_requests import WorseRequests, prepare

from tiphys.base.clock import SystemClock

PATIENCE = 20.0
"""Seconds after which a request counts as hanging."""
WORKERS = 16


@dataclass
class Outcome:
    """What came of it."""

    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, bytes, str]] = field(default_factory=list)
    """Sort, request, and what was wrong with the answer."""


class Sender:
    """Sends one request after the other; keeps its connection as long as both sides may."""

    def __init__(self, server: Server, outcome: Outcome, odds: random.Random) -> None:
        self._server, self._outcome, self._odds = server, outcome, odds
        self._context = unverified()
        self._kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, sort: str, data: bytes) -> None:
        """One request in ten asks more of the connection, too: no TLS, a pause in the middle, an early end."""
        odd = self._odds.random()
        try:
            async with asyncio.timeout(PATIENCE):
                if sort in ("framing", "garbage", "connecting") or odd < 0.1:
                    status = await self._alone(sort, data, odd)
                else:
                    status = await self._along(data)
        except TimeoutError:
            self._outcome.failures.append((sort, data, "hangs"))
            self.close()
            return
        except (OSError, ssl.SSLError, EOFError):
            status = "refused"
            self.close()
        self._outcome.statuses[status] += 1
        if status.startswith("5") and not (sort == "connecting" and status in ("502", "503")):
            self._outcome.failures.append((sort, data, status))

    def close(self) -> None:
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    async def _open(self, *, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self._context if tls else None
        return await asyncio.open_connection(self._server.host, self._server.port, ssl=context)

    async def _along(self, data: bytes) -> str:
        """On the connection that is kept."""
        if self._kept is None or self._kept[0].at_eof() or self._kept[1].is_closing():
            self.close()
            self._kept = await self._open()
        reader, writer = self._kept
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        if length is None or b"connection: close" in head or not data.startswith((b"GET", b"POST", b"PUT", b"PATCH")):
            self.close()
        else:
            await reader.readexactly(int(length[1]))
        return head.split(b" ")[1].decode()

    async def _alone(self, sort: str, data: bytes, odd: float) -> str:
        reader, writer = await self._open(tls=odd >= 0.01 or sort == "framing")
        try:
            half = len(data) // 2 if odd < 0.03 else len(data)
            writer.write(data[:half])
            await writer.drain()
            if odd > 0.09:
                writer.transport.abort()
                return "aborted"
            await SystemClock().sleep(0.01)
            writer.write(data[half:])
            line = await _first_line(reader)
        finally:
            writer.close()
        return line.split(b" ")[1].decode() if line.startswith(b"HTTP/1.1 ") else "closed"


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    """The server may rightly wait for the rest of a request; that is no hang."""
    try:
        async with asyncio.timeout(0.3):
            return await reader.readline()
    except TimeoutError:
        return b""


async def attack(server: Server, count: int, seed: int) -> Outcome:
    """Send `count` requests, a few at a time."""
    outcome, requests, odds = Outcome(), iter(WorseRequests(server, seed)), random.Random(seed)  # noqa: S311 - keeps no secret
    left = count

    async def worker() -> None:
        nonlocal left
        sender = Sender(server, outcome, odds)
        while left > 0:
            left -= 1
            await sender.send(*next(requests))
        sender.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(worker())
    return outcome


def unverified() -> ssl.SSLContext:
    """The certificate is not what is tested here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def discover(server: Server) -> None:
    """Fill in what the server serves."""
    connection = http.client.HTTPSConnection(server.host, server.port, context=unverified())

    def get(path: str) -> Any:
        connection.request("GET", path, headers={"Authorization": f"Bearer {server.token}"})
        return json.load(connection.getresponse())

    groups = [f"/apis/{version['groupVersion']}" for group in get("/apis")["groups"] for version in group["versions"]]
    for prefix in ("/api/v1", *groups):
        for one in get(prefix)["resources"]:
            if "/" not in one["name"] or one["name"].endswith(("/status", "/scale")):
                name = one["name"].partition("/")[0]
                server.resources.append((prefix, name, one["kind"], one["namespaced"]))


def memory(pid: int) -> int:
    """Resident memory in MB. Raises SystemExit when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise SystemExit(f"the server (pid {pid}) died")


@contextlib.contextmanager
def own_server() -> Iterator[tuple[Server, int]]:
    """An API server of this checkout, and its pid."""
    with tempfile.TemporaryDirectory() as directory:
        tokens = Path(directory) / "tokens"
        tokens.write_text('secret,admin,1,"system:masters"\n')
        command = [sys.executable, "-m", "tiphys", "apiserver", "--data-dir", directory + "/data", "--secure-port", "0"]
        command += ["--bind-address", "127.0.0.1", "--token-auth-file", str(tokens)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                line = next(line for line in process.stderr if "serving on" in line)
                url = urlsplit(line.split()[-1].strip('"'))
                with subprocess.Popen(["cat"], stdin=process.stderr, stdout=sys.stderr) as drain:
                    yield Server(url.hostname or "", url.port or 0, "secret"), process.pid
                    drain.kill()
            finally:
                process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=100_000)
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument("--url", default="")
    parser.add_argument("--token", default="")
    parser.add_argument("--pid", type=int, default=0)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if options.url:
            url, pid = urlsplit(options.url), options.pid
            server = Server(url.hostname or "", url.port or 443, options.token)
        else:
            server, pid = stack.enter_context(own_server())
        prepare(server)
        discover(server)
        return report(server, pid, options.count, options.seed)


def report(server: Server, pid: int, count: int, seed: int) -> int:
    """Attack in ten parts and print what came of each; 1 if anything failed."""
    failed: list[tuple[str, bytes, str]] = []
    for part in range(10):
        outcome = asyncio.run(attack(server, count // 10, seed * 1000 + part))
        failed += outcome.failures
        print(
            f"{(part + 1) * count // 10:7} requests, {memory(pid) if pid else 0} MB:",
            dict(sorted(outcome.statuses.items())),
            flush=True,
        )
    for sort, data, problem in failed[:20]:
        print(problem, sort, data[:600])
    print(f"{len(failed)} of {count} requests failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
