"""An API server that is told to stop: it says so, goes on for a while, lets requests end, ends watches."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
CONTEXT = ssl._create_unverified_context()


@contextlib.contextmanager
def server(data: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process that is ready, and its URL."""
    tokens = data / "tokens"
    tokens.write_text('secret,admin,1,"system:masters"\n')
    command = [sys.executable, "-m", "tiphys", "apiserver", "--data-dir", str(data), "--secure-port", "0"]
    command += ["--bind-address", "127.0.0.1", "--token-auth-file", str(tokens), *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stderr is not None
            yield process, next(line for line in process.stderr if "serving on" in line).split()[-1].strip('"')
        finally:
            process.kill()


def get(url: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": "Bearer secret"})
    try:
        with urllib.request.urlopen(request, context=CONTEXT, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_server_that_stops_is_not_ready_but_still_answers(tmp_path: Path) -> None:
    with server(tmp_path, "--shutdown-delay-duration", "2s") as (process, url):
        assert get(f"{url}/readyz") == (200, "ok")
        watch = urllib.request.Request(f"{url}/api/v1/namespaces?watch=1", headers={"Authorization": "Bearer secret"})
        with urllib.request.urlopen(watch, context=CONTEXT, timeout=20) as events:
            json.loads(events.readline())
            process.send_signal(signal.SIGTERM)
            while get(f"{url}/readyz")[0] == 200:
                pass
            assert "[-]shutdown failed" in get(f"{url}/readyz?verbose")[1]
            assert get(f"{url}/livez")[0] == 200
            assert get(f"{url}/api/v1/namespaces")[0] == 200
            assert b'"type":"ERROR"' not in events.read()
        assert process.wait(timeout=20) == 0
