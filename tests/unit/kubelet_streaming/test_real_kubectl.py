"""The real kubectl against our server, by WebSocket (its first choice) and by SPDY."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tiphys.base import tls

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
Serving = Callable[..., AbstractAsyncContextManager[tuple[Any, int]]]
CONFIG = """apiVersion: v1
kind: Config
clusters: [{{name: t, cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: {ca}}}}}]
users: [{{name: t, user: {{token: abc}}}}]
contexts: [{{name: t, context: {{cluster: t, user: t}}}}]
current-context: t
"""


class Kubectl:
    def __init__(self, config: Path, websockets: bool) -> None:
        choice = "true" if websockets else "false"
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(config),
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": choice,
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": choice,
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            "kubectl", *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment
        )

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int | None, bytes, str]:
        process = await self.start(*arguments)
        async with asyncio.timeout(20):
            output, error = await process.communicate(stdin)
        return process.returncode, output, error.decode()


@asynccontextmanager
async def ready(serving: Serving, directory: Path, websockets: bool) -> AsyncIterator[Kubectl]:
    authority = tls.Authority.create("test-ca")
    pair = authority.issue("server", names=["127.0.0.1"], server=True)
    (directory / "ca.crt").write_bytes(authority.certificate)
    async with serving(tls=tls.server_context(pair), grace=0.5) as (_, port):
        (directory / "config").write_text(CONFIG.format(port=port, ca=directory / "ca.crt"))
        yield Kubectl(directory / "config", websockets)


@pytest.mark.parametrize("websockets", [True, False])
def test_exec_and_attach(serving: Serving, tmp_path: Path, websockets: bool) -> None:
    data = os.urandom(4_000_000)

    async def run() -> None:
        async with ready(serving, tmp_path, websockets) as kubectl:
            assert await kubectl("exec", "p", "--", "both") == (0, b"out\n", "err\n")
            code, output, error = await kubectl("exec", "p", "--", "exit", "7")
            assert (code, output, error) == (7, b"", "going\ncommand terminated with exit code 7\n")
            code, output, _ = await kubectl("exec", "p", "--", "count", "6553600")
            assert (code, len(output)) == (0, 6553600)
            assert await kubectl("exec", "-i", "p", "--", "cat", stdin=data) == (0, data, "")
            code, output, _ = await kubectl("exec", "-i", "p", "--", "head", "10", stdin=data)
            assert output == data[:10]
            code, _, error = await kubectl("exec", "p", "--", "missing")
            assert code == 1
            assert "error executing command in container: exec: missing: no such file" in error
            code, output, _ = await kubectl("attach", "-i", "p", stdin=b"attached\n")
            assert (code, output) == (0, b"attached\n")

    asyncio.run(run())


@pytest.mark.parametrize("websockets", [True, False])
def test_port_forward(serving: Serving, tmp_path: Path, websockets: bool) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(-1)).upper())
        await writer.drain()
        writer.close()

    async def talk(port: int, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        answer = await reader.read(-1)
        writer.close()
        return answer

    async def run() -> None:
        target = await asyncio.start_server(shout, "127.0.0.1", 0)
        number = target.sockets[0].getsockname()[1]
        async with target, ready(serving, tmp_path, websockets) as kubectl:
            process = await kubectl.start("port-forward", "p", f":{number}", "--address", "127.0.0.1")
            try:
                assert process.stdout is not None
                line = (await process.stdout.readline()).decode()
                local = int(line.removeprefix("Forwarding from 127.0.0.1:").split()[0])
                async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                    tasks = [group.create_task(talk(local, b"hello%d" % n * 100_000)) for n in range(5)]
                for n, task in enumerate(tasks):
                    assert task.result() == b"HELLO%d" % n * 100_000
                assert await talk(local, b"again") == b"AGAIN"
            finally:
                process.kill()
                await process.wait()

    asyncio.run(run())
