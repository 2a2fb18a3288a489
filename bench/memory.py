"""Memory of an API server that holds 11,000 pods and 19,000 ConfigMaps, and how fast they were created.

usage: python bench/memory.py [--pods N] [--configmaps N] [--tiphys ARGUMENT ...]
       python bench/memory.py --server https://HOST:PORT --token TOKEN --pid PID[,PID...]

The first form starts `tiphys apiserver` in a temporary directory (with further arguments, such as --store URL); the
second measures any server that runs on this machine, e.g. kube-apiserver and etcd by their process ids.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

CONNECTIONS = 32


def pod(number: int) -> dict[str, object]:
    container = {
        "name": "web",
        "image": "registry.example/team/web:1.2.3",
        "ports": [{"containerPort": 8080}],
        "env": [{"name": f"SETTING_{index}", "value": f"value {number} of {index}"} for index in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
    }
    labels = {"app": f"app-{number % 100}", "tier": "web", "pod-template-hash": f"{number % 977:08x}"}
    meta = {"name": f"pod-{number:05}", "labels": labels}
    spec = {"nodeName": f"node-{number % 500}", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def config_map(number: int) -> dict[str, object]:
    data = {"application.properties": "".join(f"setting.{index}=value {number}\n" for index in range(40))}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"config-{number:05}"}, "data": data}


class Server:
    """Where to send, and as whom."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._token = parts.hostname or "127.0.0.1", parts.port or 443, token
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    async def send(self, requests: Iterator[tuple[str, dict[str, object]]]) -> int:
        """POST all of `requests` over one connection; returns how many were created."""
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        created = 0
        for path, body in requests:
            data = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._token}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(answer.split("content-length:")[1].split("\r\n")[0])
            text = await reader.readexactly(length)
            if answer.split()[1] == "201":
                created += 1
            elif "serviceaccounts" not in path:
                raise SystemExit(text.decode())
        writer.close()
        return created


async def fill(server: Server, plural: str, bodies: Iterator[dict[str, object]]) -> None:
    path = f"/api/v1/namespaces/default/{plural}"
    requests = ((path, body) for body in bodies)
    begin = time.perf_counter()
    done = sum(await asyncio.gather(*(server.send(requests) for _ in range(CONNECTIONS))))
    print(f"{done:,} {plural}: {done / (time.perf_counter() - begin):,.0f}/s")


def memory(pids: list[int]) -> float:
    """Megabytes that the processes take together, shared pages counted once (PSS)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


@contextlib.contextmanager
def started(arguments: list[str]) -> Iterator[tuple[str, int]]:
    """A `tiphys apiserver` of its own: its URL and process id."""
    with tempfile.TemporaryDirectory(dir=".") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        tokens = Path(folder) / "tokens"
        tokens.write_text('bench,admin,1,"system:masters"\n')
        command = ["apiserver", "--secure-port", str(port), "--data-dir", f"{folder}/data", "--token-auth-file"]
        process = subprocess.Popen([sys.executable, "-m", "tiphys", *command, str(tokens), *arguments])
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if process.poll() is not None:
                    raise SystemExit("the server did not start")
                time.sleep(0.02)  # noqa: TID251 - a real process
            yield f"https://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            process.wait()


async def run(options: argparse.Namespace, server: Server, pids: list[int]) -> None:
    print(f"empty: {memory(pids):.0f} MB")
    account: dict[str, object] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await server.send(iter([("/api/v1/namespaces/default/serviceaccounts", account)]))
    await fill(server, "pods", (pod(number) for number in range(options.pods)))
    await fill(server, "configmaps", (config_map(number) for number in range(options.configmaps)))
    print(f"{options.pods:,} pods and {options.configmaps:,} ConfigMaps: {memory(pids):.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=11_000)
    parser.add_argument("--configmaps", type=int, default=19_000)
    parser.add_argument("--server")
    parser.add_argument("--token", default="bench")
    parser.add_argument("--pid", default="")
    parser.add_argument("--tiphys", nargs=argparse.REMAINDER, default=[])
    options = parser.parse_args()
    if options.server:
        asyncio.run(run(options, Server(options.server, options.token), [int(pid) for pid in options.pid.split(",")]))
        return
    with started(options.tiphys) as (url, pid):
        asyncio.run(run(options, Server(url, options.token), [pid]))


if __name__ == "__main__":
    main()
