"""Two kubelets on one root directory: the second refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.kubelet.sole import LOCK

HOLD = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def holder(node: Any) -> subprocess.Popen[bytes]:
    node.config.root_dir.mkdir(parents=True)
    words = [sys.executable, "-c", HOLD, str(node.config.root_dir / LOCK)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_kubelet_on_one_directory_refuses(node: Any) -> None:
    async def scenario() -> None:
        with pytest.raises(Permanent, match="another kubelet uses the directory"):
            async with asyncio.timeout(60), node.running():
                pass

    with holder(node) as other:
        node.clock.run(scenario())
        other.kill()


def test_a_kubelet_that_was_killed_is_waited_for(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().call_later(1.0, end)
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))

    def end() -> None:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()

    with holder(node) as other:
        node.clock.run(scenario())
