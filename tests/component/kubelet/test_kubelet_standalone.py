"""A kubelet that has no API server runs its static pods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiphys.kubelet.standalone import NoApi

WEB = """apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: main, image: busybox, imagePullPolicy: IfNotPresent}]
"""


def test_static_pods_start_restart_and_end_without_any_api(node: Any, tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(WEB)
    node.config = replace(node.config, static_pod_path=file)
    node.api = NoApi()

    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: "start main" in node.runtime.log)
            node.runtime.exit("main", 1)
            await node.until(lambda: node.runtime.log.count("start main") == 2)
            file.unlink()
            await node.until(lambda: not node.runtime.boxes)
            await node.until(lambda: not node.kubelet.workers)

    node.clock.run(scenario())
