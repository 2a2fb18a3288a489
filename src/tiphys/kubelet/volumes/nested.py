"""Mount points inside volumes that containers cannot write: the kubelet makes them where another volume goes. Pure."""

from __future__ import annotations

import os.path

from tiphys.kubelet.podspec import Object, all_containers


def nested_mount_points(pod: Object, volume: str) -> list[str]:
    """Paths relative to the volume where containers mount something else, the outermost of each. Raises ValueError."""
    found: dict[str, None] = {}
    for container in all_containers(pod):
        mounts = [
            (mount["name"], os.path.normpath(mount["mountPath"])) for mount in container.get("volumeMounts") or ()
        ]
        for own in [path for name, path in mounts if name == volume]:
            if own.startswith("../"):
                raise ValueError(f"invalid container mount point {own}")
            found |= dict.fromkeys(_outermost(own, [path for _, path in mounts]))
    return list(found)


def _outermost(own: str, paths: list[str]) -> list[str]:
    """Of the paths below `own` those that no other one contains, relative to it."""
    below: list[str] = []
    for path in sorted(paths):
        if path.startswith(f"{own}/") and not any(path.startswith(f"{other}/") for other in below):
            below.append(path)
    return [path[len(own) + 1 :] for path in below]
