"""A disk that is full: writes are refused with 503 and a reason, reads go on, and so do writes when there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILL = """
import asyncio, resource, sys
import orjson
from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.clock import SystemClock
from tiphys.base.http.types import Request
from tiphys.base.identity import User
from tiphys.store.sqlite import SqliteStore

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
MAPS = "/api/v1/namespaces/default/configmaps"

async def call(server, method, path, body=None):
    raw = orjson.dumps(body) if body else b""
    headers = {"content-type": "application/json"}
    return await server.handler(Request(method, path, "", headers=headers, body=raw, user=ADMIN, raw_path=path))

async def create(server, number):
    body = {"metadata": {"name": f"c{number}"}, "data": {"x": "x" * 50_000}}
    return await call(server, "POST", MAPS, body)

async def main():
    store = SqliteStore.open(sys.argv[1])
    async with ApiServer(ApiServerConfig(), store, SystemClock()) as server:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, limit[1]))
        answers = []
        for start in range(0, 200, 20):
            answers += await asyncio.gather(*(create(server, n) for n in range(start, start + 20)))
        refused = [answer for answer in answers if answer.status != 201]
        assert refused and len(refused) < 200
        status = orjson.loads(refused[0].body)
        assert refused[0].status == 503 and refused[0].headers["Retry-After"] == "1", status
        listed = orjson.loads((await call(server, "GET", MAPS)).body)["items"]
        made = sum(answer.status == 201 for answer in answers)
        assert sum(item["metadata"]["name"][0] == "c" for item in listed) == made
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert (await create(server, 1000)).status == 201
    await store.close()
    print(status["reason"], status["message"])

asyncio.run(main())
"""


def test_a_full_disk_is_told_and_got_over(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "store.db")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"ServiceUnavailable store {tmp_path}/store.db: ")
    assert "disk" in done.stdout
