"""Images for runtimes of others: a docker-archive with one layer."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def archive_of(layer: Path, target: Path, tag: str = "b:1", config: Mapping[str, Any] | None = None) -> Path:
    """Write it. `config` is the image's own (Entrypoint, Env ...)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(layer, arcname=".")
    digest = "sha256:" + hashlib.sha256(packed.getvalue()).hexdigest()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    whole = {"os": "linux", "architecture": machine, "config": dict(config or {"Env": ["PATH=/bin"]})}
    files = {
        "layer.tar": packed.getvalue(),
        "config.json": json.dumps({**whole, "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode(),
        "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode(),
    }
    with tarfile.open(target, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target
