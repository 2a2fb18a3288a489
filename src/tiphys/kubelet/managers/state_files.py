"""What the CPU and memory managers keep on disk: ROOT_DIR/cpu_manager_state and memory_manager_state.

Field names are upstream's. A file of another policy is not taken over: pods that run under it must go first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiphys.base.files import write_atomic
from tiphys.kubelet.cpusets import format_cpus, parse_cpus
from tiphys.kubelet.managers.cpus import StaticCpus, WrongState
from tiphys.kubelet.managers.memory import Block, StaticMemory

CPUS, MEMORY = "cpu_manager_state", "memory_manager_state"


def save_cpus(path: Path, policy: str, cpus: StaticCpus | None) -> None:
    """Durably."""
    content: dict[str, Any] = {"policyName": policy, "defaultCpuSet": ""}
    if cpus is not None:
        content["defaultCpuSet"] = format_cpus(cpus.shared)
        content["entries"] = {
            uid: {name: format_cpus(held) for name, held in containers.items()}
            for uid, containers in cpus.entries.items()
        }
    _save(path, content)


def load_cpus(path: Path, policy: str, cpus: StaticCpus) -> None:
    """Take over what was kept. Raises WrongState."""
    content = _load(path, policy)
    try:
        cpus.shared = parse_cpus(str(content.get("defaultCpuSet") or ""))
        for uid, containers in (content.get("entries") or {}).items():
            cpus.entries[uid] = {name: parse_cpus(text) for name, text in containers.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise WrongState(f"{path}: {error}") from error


def save_memory(path: Path, policy: str, memory: StaticMemory | None) -> None:
    """Durably."""
    content: dict[str, Any] = {"policyName": policy}
    if memory is not None:
        content["entries"] = {
            uid: {name: [_plain(block) for block in blocks] for name, blocks in containers.items()}
            for uid, containers in memory.entries.items()
        }
    _save(path, content)


def _plain(block: Block) -> dict[str, Any]:
    return {"numaAffinity": sorted(block.nodes), "type": block.resource, "size": block.size}


def load_memory(path: Path, policy: str, memory: StaticMemory) -> None:
    """Take over what was kept. Raises WrongState."""
    try:
        for uid, containers in (_load(path, policy).get("entries") or {}).items():
            memory.entries[uid] = {
                name: tuple(Block(one["type"], int(one["size"]), frozenset(one["numaAffinity"])) for one in blocks)
                for name, blocks in containers.items()
            }
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise WrongState(f"{path}: {error}") from error


def _save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content).encode())


def _load(path: Path, policy: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise WrongState(f"{path}: {error}") from error
    if content.get("policyName") != policy:
        found = content.get("policyName")
        raise WrongState(f'{path}: configured policy "{policy}" differs from state checkpoint policy "{found}"')
    return content
