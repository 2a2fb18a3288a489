"""Choose this machine's image from a list of images for several platforms (OCI image index)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from tiphys.runtime.types import NoSuchImage

ARCHITECTURES = {"x86_64": ("amd64", ""), "aarch64": ("arm64", "v8")}


def choose(manifests: Sequence[dict[str, Any]]) -> str:
    """The digest of the manifest for Linux on this machine. Raises NoSuchImage, naming what there is."""
    architecture, variant = ARCHITECTURES.get(platform.machine(), (platform.machine(), ""))
    offered = []
    for entry in manifests:
        system = entry.get("platform") or {}
        offered.append(f"{system.get('os', '?')}/{system.get('architecture', '?')}")
        fits = system.get("os") == "linux" and system.get("architecture") == architecture
        if fits and system.get("variant", variant) in ("", variant):
            return str(entry["digest"])
    if len(manifests) == 1 and not manifests[0].get("platform"):
        return str(manifests[0]["digest"])
    raise NoSuchImage(f"no image for linux/{architecture}, only for {', '.join(offered) or 'nothing'}")
