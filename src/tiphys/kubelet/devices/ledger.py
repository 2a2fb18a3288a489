"""Which container holds which devices, on disk: ROOT_DIR/pods/UID/devices.json, gone with the pod's other files.

It is written before a container that holds them starts, so a kubelet that was killed knows what is taken.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.base.files import write_json

log = logging.getLogger(__name__)

_FILE = "devices.json"


@dataclass(frozen=True, slots=True)
class Held:
    """What one container has of one resource: device IDs with their NUMA nodes, and the plugin's answer."""

    devices: Mapping[str, tuple[int, ...]]
    answer: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
    """All that is held, by pod UID, container name and resource."""

    def __init__(self, pods_dir: Path) -> None:
        self._pods_dir = pods_dir
        self._held: dict[str, dict[str, dict[str, Held]]] = {}
        for file in sorted(pods_dir.glob(f"*/{_FILE}")):
            try:
                self._held[file.parent.name] = _parse(json.loads(file.read_text()))
            except (OSError, ValueError, KeyError, AttributeError) as error:
                log.warning("%s is not understood, its devices count as free: %s", file, error)

    def of(self, uid: str, container: str) -> Mapping[str, Held]:
        """By resource."""
        return self._held.get(uid, {}).get(container, {})

    def pods(self) -> list[str]:
        return list(self._held)

    def has(self, uid: str) -> bool:
        return uid in self._held

    def in_use(self, resource: str) -> frozenset[str]:
        return frozenset(
            id
            for containers in self._held.values()
            for resources in containers.values()
            if resource in resources
            for id in resources[resource].devices
        )

    def resources(self) -> set[str]:
        """All of which anything is held."""
        return {name for uid in self._held for _, name, _ in self.entries(uid)}

    def entries(self, uid: str) -> Iterator[tuple[str, str, Held]]:
        """(container, resource, what is held)"""
        for container, resources in self._held.get(uid, {}).items():
            for resource, held in resources.items():
                yield container, resource, held

    def note(self, uid: str, container: str, resource: str, held: Held) -> None:
        """In memory; `save` makes it durable."""
        self._held.setdefault(uid, {}).setdefault(container, {})[resource] = held

    def save(self, uid: str) -> None:
        """Raises OSError."""
        content = {
            container: {name: {"devices": held.devices, "answer": held.answer} for name, held in resources.items()}
            for container, resources in self._held.get(uid, {}).items()
        }
        directory = self._pods_dir / uid
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / _FILE, content)

    def free(self, uid: str) -> None:
        """The pod has ended, or was refused."""
        if self._held.pop(uid, None) is not None:
            try:
                (self._pods_dir / uid / _FILE).unlink(missing_ok=True)
            except OSError as error:
                log.warning("what pod %s held will count as held by the next kubelet for a moment: %s", uid, error)


def _parse(content: Mapping[str, Any]) -> dict[str, dict[str, Held]]:
    return {
        container: {
            name: Held({id: tuple(nodes) for id, nodes in entry["devices"].items()}, entry["answer"])
            for name, entry in resources.items()
        }
        for container, resources in content.items()
    }
