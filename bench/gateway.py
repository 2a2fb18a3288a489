"""The gateway as a reverse proxy, beside nginx on the same machine. Needs wrk and nginx.

    python bench/gateway.py [--seconds S] [--rounds R] [--connections C]

Requests a second and latencies of GETs of 2 KB and 1 MB through each proxy to the same backend (another nginx), over
kept connections and over connections of their own; the median of R rounds, each round asking both in turn. Only the
loopback address is used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tiphys.base.clock import SystemClock
from tiphys.gateway.model import ANY_PATH, Listener, Match, Route, Target
from tiphys.gateway.proxy.fronts import Front
from tiphys.gateway.proxy.server import running

LOOPBACK = "127.0.0.1"
KEY = ("default", "web", "80")
NGINX = """
worker_processes 1; pid {dir}/{name}.pid; error_log {dir}/{name}.err; daemon off;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; proxy_temp_path {dir}/tmp; client_body_temp_path {dir}/body;
  {body}
}}
"""
BACKEND = "server {{ listen 127.0.0.1:{port}; root {dir}/www; }}"
PROXY = """
upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port}; location / {{
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Request-ID $request_id; proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_pass http://backend;
}} }}
"""
CASES = {"GET 2 KB": ("small", ""), "GET 1 MB": ("large", ""), "GET 2 KB, a connection each": ("small", "close")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


@contextlib.contextmanager
def serving(port: int, *words: str) -> Iterator[None]:
    """A process until it answers, ended afterwards."""
    process = subprocess.Popen(words)
    try:
        clock = SystemClock()
        for _ in range(200):
            if answers(port):
                break
            clock.pause(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def nginx(directory: Path, name: str, body: str) -> list[str]:
    config = directory / f"{name}.conf"
    config.write_text(NGINX.format(dir=directory, name=name, body=body))
    return ["nginx", "-c", str(config)]


async def gateway(port: int, backend: int) -> None:
    """Our proxy, as in the gateway's process."""
    gc.set_threshold(50_000, 20, 20)
    async with running(SystemClock()) as proxy:
        front = Front(proxy, port, None)
        front.listen([LOOPBACK], port)
        route = Route(Match(ANY_PATH), (Target(KEY),))
        front.tables = ((Listener(port, routes={"": (route,)}, one_label=True),),)
        proxy.backends.set({KEY: [(LOOPBACK, backend)]})
        gc.freeze()
        await asyncio.get_running_loop().create_future()


def wrk(port: int, path: str, close: str, options: argparse.Namespace) -> tuple[float, float]:
    """(requests a second, median latency in milliseconds)."""
    words = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency", "--timeout", "20s"]
    if close:
        words += ["-H", "Connection: close"]
    text = subprocess.run(
        [*words, f"http://{LOOPBACK}:{port}/{path}"], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in text:
        raise SystemExit(f"not all answers were good:\n{text}")
    rate = re.search(r"Requests/sec:\s*([0-9.]+)", text)
    half = re.search(r"50%\s*([0-9.]+)(us|ms|s)", text)
    assert rate is not None
    assert half is not None
    return float(rate[1]), float(half[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[half[2]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--serve", nargs=2, type=int, metavar=("PORT", "BACKEND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        import uvloop

        uvloop.run(gateway(*options.serve))
        return
    if shutil.which("nginx") is None or shutil.which("wrk") is None:
        raise SystemExit("this needs nginx and wrk")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "www").mkdir()
        (directory / "www" / "small").write_bytes(b"x" * 2048)
        (directory / "www" / "large").write_bytes(b"x" * 1048576)
        compare(directory, options)


def compare(directory: Path, options: argparse.Namespace) -> None:
    backend, theirs = free_port(), free_port()
    ours = free_port()
    back = nginx(directory, "backend", BACKEND.format(port=backend, dir=directory))
    proxy = nginx(directory, "proxy", PROXY.format(port=theirs, backend=backend))
    with (
        serving(backend, *back),
        serving(theirs, *proxy),
        serving(ours, sys.executable, __file__, "--serve", str(ours), str(backend)),
    ):
        for case, (path, close) in CASES.items():
            rounds = [
                (wrk(theirs, path, close, options), wrk(ours, path, close, options)) for _ in range(options.rounds)
            ]
            nginx_rate, own_rate = (statistics.median(one[side][0] for one in rounds) for side in (0, 1))
            nginx_half, own_half = (statistics.median(one[side][1] for one in rounds) for side in (0, 1))
            print(
                f"{case}: gateway {own_rate:,.0f}/s, {own_half:.2f} ms; "
                f"nginx {nginx_rate:,.0f}/s, {nginx_half:.2f} ms; {own_rate / nginx_rate:.0%} of its rate"
            )


if __name__ == "__main__":
    main()
