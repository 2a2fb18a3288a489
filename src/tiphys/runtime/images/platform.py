"""Choose this machine's image from a list of images for several platforms (OCI image index)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from tiphys.runtime.types import InvalidSpec, NoSuchImage

ARCHITECTURES = {"x86_64": ("amd64", ""), "aarch64": ("arm64", "v8")}


class NoSuchPlatform(NoSuchImage):
    """The image is there, but not for this machine."""


def choose(manifests: Sequence[dict[str, Any]]) -> str:
    """The digest of the manifest for Linux on this machine.

    Raises NoSuchImage, naming what there is, and InvalidSpec for a malformed list.
    """
    try:
        fitting = [entry for entry in manifests if entry.get("platform") and fits(entry)]
        if not fitting and len(manifests) == 1 and fits(manifests[0]):
            fitting = list(manifests)
        if fitting:
            return str(fitting[0]["digest"])
        systems = [entry.get("platform") or {} for entry in manifests]
        offered = [f"{system.get('os', '?')}/{system.get('architecture', '?')}" for system in systems]
    except (AttributeError, KeyError, TypeError) as error:
        raise InvalidSpec(f"malformed list of manifests: {error!r}") from error
    only = ", ".join(offered) or "nothing"
    raise NoSuchPlatform(f"no match for platform linux/{_machine()[0]} in manifest, only for {only}: not found")


def fits(entry: dict[str, Any]) -> bool:
    """Whether an entry of a list is for this machine, as far as it says."""
    system = entry.get("platform")
    if not system:
        return True
    architecture, variant = _machine()
    if system.get("os") != "linux" or system.get("architecture") != architecture:
        return False
    return system.get("variant", variant) in ("", variant)


def _machine() -> tuple[str, str]:
    return ARCHITECTURES.get(platform.machine(), (platform.machine(), ""))
