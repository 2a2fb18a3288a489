"""Whose a pod's log directory is. All nodes of a machine write to /var/log/pods; an extended attribute tells which
node made a directory, so that removing a node removes its logs and no others."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tiphys.kubelet.config import KubeletConfig

OWNER = "trusted.tiphys.node"
"""Its value is the kubelet's root directory."""


def make_log_directory(config: KubeletConfig, directory: Path) -> None:
    """A pod's log directory, marked as this node's. Raises OSError when it cannot be made."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # a file system without attributes: the logs stay when the node goes
        os.setxattr(directory, OWNER, os.fsencode(config.root_dir))


def is_ours(config: KubeletConfig, directory: Path) -> bool:
    """Whether this node made a log directory."""
    return _owner(directory) == os.fsencode(config.root_dir)


def drop_pod_logs(config: KubeletConfig, directory: Path) -> None:
    """Remove a pod's log directory and the links into it."""
    shutil.rmtree(directory, ignore_errors=True)
    namespace, _, rest = directory.name.partition("_")
    name = rest.rpartition("_")[0]
    for link in _links(config, f"{name}_{namespace}_", ".log"):
        with contextlib.suppress(OSError):
            if link.readlink().is_relative_to(directory):  # a pod of the same name may have its own already
                link.unlink()


def drop_log_link(config: KubeletConfig, id: str) -> None:
    """Remove the link to the log of a container that is removed."""
    for link in _links(config, "", f"-{id}.log"):
        link.unlink(missing_ok=True)


def _links(config: KubeletConfig, prefix: str, suffix: str) -> Iterator[Path]:
    """Log links by how their names begin and end: a glob would compile an expression for each pod."""
    directory = config.container_log_dir
    if directory is None:
        return
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(prefix) and name.endswith(suffix):
            yield directory / name


def remove_logs(root_dir: Path, logs: Path, links: Path) -> None:
    """All log directories below `logs` that the kubelet with `root_dir` made, and the links that led to them."""
    for directory in logs.iterdir() if logs.is_dir() else ():
        if _owner(directory) == os.fsencode(root_dir):
            shutil.rmtree(directory, ignore_errors=True)
    for link in links.iterdir() if links.is_dir() else ():
        if link.is_symlink() and not link.exists() and link.readlink().is_relative_to(logs):
            link.unlink(missing_ok=True)
    for directory in (links, logs):
        with contextlib.suppress(OSError):
            directory.rmdir()


def _owner(directory: Path) -> bytes:
    try:
        return os.getxattr(directory, OWNER)
    except OSError:
        return b""
