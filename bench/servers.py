"""Starts the servers that `apiserver.py` compares, each with an empty store in a temporary directory.

`tiphys` is this project's; `upstream` is a kube-apiserver with an etcd of its own, on certificates and a key that are
thrown away. Both get the same token, the same authorization mode and their default admission plugins.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from tiphys.base.clock import SystemClock

CLOCK = SystemClock()
TOKEN = "bench"  # noqa: S105 - of a server that is thrown away
PATIENCE = 60.0
"""Seconds that a server may take until it is ready."""


@dataclass(frozen=True)
class Target:
    """A running server: where it is, the token of an administrator, the processes that make it up."""

    name: str
    url: str
    token: str
    pids: tuple[int, ...] = ()
    ready_seconds: float = 0.0
    """From exec to the first 200 of /readyz; 0 for a server that ran before."""


def unverified() -> ssl.SSLContext:
    """Nobody knows the authority of a certificate that is thrown away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextlib.contextmanager
def tiphys(arguments: list[str], program: Sequence[str] = ("-m", "tiphys", "apiserver")) -> Iterator[Target]:
    """`tiphys apiserver`, run by this interpreter; `arguments` are further ones, `program` another one of its flags."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        port = free_port()
        tokens = _tokens(folder)
        command = [sys.executable, *program, "--secure-port", str(port), "--data-dir", folder]
        # An installation has its modules compiled; the first import in a checkout compiles them.
        subprocess.run(
            [sys.executable, "-c", "import tiphys.cli.apiserver, tiphys.apiserver.serve"], env=environment(), check=True
        )
        with running([*command, "--token-auth-file", tokens, *arguments], folder, "tiphys") as pid:
            yield _ready("tiphys", port, (pid,))


@contextlib.contextmanager
def upstream(kube_apiserver: str, etcd: str, arguments: list[str]) -> Iterator[Target]:
    """A kube-apiserver over an etcd. The time until it is ready does not count that of etcd."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        client, peer, port = (free_port() for _ in range(3))
        key = f"{folder}/sa.key"
        words = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key]
        subprocess.run(words, check=True, capture_output=True)
        store, between = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        store_command = [
            etcd,
            "--data-dir",
            f"{folder}/etcd",
            "--listen-client-urls",
            store,
            "--advertise-client-urls",
            store,
        ]
        store_command += ["--listen-peer-urls", between, "--initial-advertise-peer-urls", between]
        store_command += ["--initial-cluster", f"default={between}"]
        command = [kube_apiserver, "--etcd-servers", store, "--secure-port", str(port), "--cert-dir", folder]
        command += ["--bind-address", "127.0.0.1", "--service-cluster-ip-range", "10.96.0.0/16"]
        command += ["--service-account-issuer", "https://kubernetes.default.svc"]
        command += ["--service-account-key-file", key, "--service-account-signing-key-file", key]
        command += ["--token-auth-file", _tokens(folder), "--authorization-mode", "Node,RBAC", *arguments]
        with running(store_command, folder, "etcd") as store_pid:
            _wait(f"{store}/health")
            with running(command, folder, "kube-apiserver") as pid:
                yield _ready("upstream", port, (pid, store_pid))


@contextlib.contextmanager
def running(command: list[str], folder: str, name: str) -> Iterator[int]:
    with Path(folder, f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def environment() -> dict[str, str]:
    """The environment, but for what keeps Python from compiling modules once."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _ready(name: str, port: int, pids: tuple[int, ...]) -> Target:
    url = f"https://127.0.0.1:{port}"
    return Target(name, url, TOKEN, pids, _wait(f"{url}/readyz"))


def _wait(url: str) -> float:
    """Ask until the answer is 200; returns the seconds that it took."""
    start, parts = CLOCK.monotonic(), urlsplit(url)
    connect = partial(HTTPSConnection, context=unverified()) if parts.scheme == "https" else HTTPConnection
    while CLOCK.monotonic() - start < PATIENCE:
        with contextlib.suppress(OSError, HTTPException), contextlib.closing(connect(parts.netloc, timeout=5)) as one:
            one.request("GET", parts.path, headers={"Authorization": f"Bearer {TOKEN}"})
            if one.getresponse().status == 200:
                return CLOCK.monotonic() - start
        CLOCK.pause(0.005)
    raise SystemExit(f"{url} was not ready within {PATIENCE:.0f} s")


def _tokens(folder: str) -> str:
    path = Path(folder, "tokens")
    path.write_text(f'{TOKEN},admin,1,"system:masters"\n')
    return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
