"""What containers get of volumes: files that the kubelet writes cannot be changed, parts cannot lead elsewhere."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from tiphys.client.types import Resource

CONFIG_MAPS, SECRETS = (Resource("", "v1", name) for name in ("configmaps", "secrets"))
VOLUMES: dict[str, dict[str, Any]] = {
    "configMap": {"configMap": {"name": "conf"}},
    "secret": {"secret": {"secretName": "key"}},
    "downwardAPI": {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    "projected": {"projected": {"sources": [{"configMap": {"name": "conf"}}]}},
    "emptyDir": {"emptyDir": {}},
}


@pytest.mark.parametrize("kind", VOLUMES)
def test_files_of_the_api_are_mounted_read_only(node: Any, pod: Any, kind: str) -> None:
    """Else a container puts symlinks there, and the kubelet writes through them (CVE-2017-1002102)."""

    async def scenario() -> None:
        mount = {"name": "v", "mountPath": "/v", "readOnly": False}
        async with node.running():
            await node.api.create(CONFIG_MAPS, {"metadata": {"name": "conf", "namespace": "default"}}, "default")
            await node.api.create(SECRETS, {"metadata": {"name": "key", "namespace": "default"}}, "default")
            await node.create(pod(containers=[{"volumeMounts": [mount]}], volumes=[{"name": "v", **VOLUMES[kind]}]))
            await node.until(node.is_phase("Running"))
            mounted = next(one for one in node.runtime.by_name("main").spec.mounts if one.target == "/v")
            assert mounted.readonly is (kind != "emptyDir")
            assert node.config.pods_dir.stat().st_mode & 0o007 == 0

    node.clock.run(scenario())


def test_the_runtime_is_told_that_a_sub_path_has_no_symlinks(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        mounts = [{"name": "v", "mountPath": "/v", "subPath": "a/b"}, {"name": "v", "mountPath": "/w"}]
        async with node.running():
            await node.create(
                pod(containers=[{"volumeMounts": mounts}], volumes=[{"name": "v", **VOLUMES["emptyDir"]}])
            )
            await node.until(node.is_phase("Running"))
            made = {one.target: one for one in node.runtime.by_name("main").spec.mounts}
            assert made["/v"].source_resolved
            assert os.path.realpath(made["/v"].source) == made["/v"].source
            assert not made["/w"].source_resolved

    node.clock.run(scenario())


def test_a_pod_with_very_deep_directories_is_removed(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        mount = {"name": "v", "mountPath": "/v"}
        async with node.running():
            await node.create(
                pod(containers=[{"volumeMounts": [mount]}], volumes=[{"name": "v", **VOLUMES["emptyDir"]}])
            )
            await node.until(node.is_phase("Running"))
            root = next(one.source for one in node.runtime.by_name("main").spec.mounts if one.target == "/v")
            handle = os.open(root, os.O_RDONLY)
            for _ in range(1500):
                os.mkdir("d", dir_fd=handle)
                deeper = os.open("d", os.O_RDONLY, dir_fd=handle)
                os.close(handle)
                handle = deeper
            os.close(handle)
            await node.api.delete(Resource("", "v1", "pods"), "web", "default")
            await node.until(node.gone)
            await node.until(lambda: not list(node.config.pods_dir.iterdir()))

    node.clock.run(scenario())


def test_a_probes_header_cannot_end_its_line() -> None:
    from tiphys.kubelet.probes import http

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            smuggled = http.Get(f"http://127.0.0.1:{port}/", ({"name": "X-A", "value": "1\r\n\r\nDELETE / HTTP/1.1"},))
            with pytest.raises(http.RequestFailed, match="invalid header field value"):
                await http.get(smuggled, 5)

    asyncio.run(scenario())
