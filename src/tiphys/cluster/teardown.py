"""Stop and remove what a cluster has on this machine, and look whether anything is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from tiphys.base.clock import SystemClock
from tiphys.base.errors import NotFound, TiphysError
from tiphys.base.files import remove_tree
from tiphys.cluster import closing, images, network, paths, pki, pod_networks, stores
from tiphys.cluster import config as configs
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.cluster.locks import locked
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.logdirs import remove_logs
from tiphys.runtime import cgroups
from tiphys.runtime.cleanup import purge, unmount_below
from tiphys.runtime.images import destroy
from tiphys.runtime.inventory import images_in_use
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.node import teardown_cluster_network
from tiphys.runtime.types import State


def stop_containers(config: ClusterConfig, grace: float) -> None:
    """Stop every container of the cluster, `grace` seconds at most, and its pods' sandboxes; files and records stay."""
    asyncio.run(_stop(config, grace))


def remove_node(config: ClusterConfig, gone: NodeConfig) -> list[str]:
    """Everything of one node, its Node object included; returns what could not be removed."""
    left = _remove_node_files(config, gone)
    if left:
        return left
    try:
        asyncio.run(_forget(config, gone))
    except (TiphysError, OSError) as error:
        return [f"Node object {gone.name}: {error}"]
    pki.forget_node(config, gone)
    return []


def remove_cluster(config: ClusterConfig) -> list[str]:
    """Everything of a cluster whose processes have ended; returns what could not be removed."""
    left = [thing for each in config.nodes for thing in _remove_node_files(config, each)]
    left += closing.close(config)
    left += teardown_cluster_network(network.of_cluster(config))
    for root in cgroups.detect().all_roots():
        _remove_if_empty(Path(root, "tiphys", paths.cgroup(config.name)))
        _remove_if_empty(Path(root, "tiphys"))
    if left:
        return left
    left += _remove_directory(config.paths.run)
    # The configuration goes last: whoever is interrupted here can delete once more.
    for entry in config.paths.data.iterdir() if config.paths.data.is_dir() else ():
        if entry != config.paths.config:
            left += _remove_directory(entry) if entry.is_dir() and not entry.is_symlink() else _remove_file(entry)
    for file in stores.files(config.store):
        left += _remove_file(file)
    return left or _remove_directory(config.paths.data)


def remove_shared_if_last() -> None:
    """With the last cluster go the images and the directories that all clusters shared, and nothing else in there."""
    if configs.names():
        return
    with locked(paths.machine_lock()):
        if not configs.names():
            if not any(map(images_in_use, images.alone())):
                destroy(paths.images_dir())
                for file in paths.runtimes_dir().glob("*"):
                    file.unlink(missing_ok=True)
            for lock in (paths.home() / "clusters").glob("*.lock"):
                lock.unlink(missing_ok=True)
            for file in (paths.create_lock(), paths.machine_lock()):
                file.unlink(missing_ok=True)
            for directory in ("clusters", "data", "runtimes", ""):
                _remove_if_empty(paths.home() / directory)
            for directory in ("netns", ""):
                _remove_if_empty(paths.run_root() / directory)


def _remove_node_files(config: ClusterConfig, gone: NodeConfig) -> list[str]:
    directory = config.paths.node(gone.name)
    remove_logs(directory / "kubelet", *_log_directories())
    left = purge(directory / "runtime", f"{paths.cgroup(config.name)}/{gone.name}")
    namespace = network.of_node(config, gone)
    pod_networks.undo(config, gone, namespace)
    left += unmount_below(directory)  # volumes in memory
    left += namespace.teardown()
    if not left:
        for file in (config.paths.lock(gone.name), config.paths.log(gone.name)):
            file.unlink(missing_ok=True)
        left += _remove_directory(directory)
    return left


def _remove_directory(directory: Path) -> list[str]:
    """With all that is in it; an empty mount point may stay. Returns what could not be removed, and why."""
    try:
        remove_tree(directory)
    except OSError as error:
        if any(directory.iterdir()):
            return [f"{directory}: {error.strerror}"]
    return []


def _remove_file(file: Path) -> list[str]:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        return [f"{file}: {error.strerror}"]
    return []


def _log_directories() -> tuple[Path, Path]:
    """Where pods' logs are on every node: real files, and the links that log shippers follow."""
    defaults = KubeletConfig(node_name="", root_dir=Path())
    return defaults.log_dir, defaults.container_log_dir or Path("/var/log/containers")


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return


async def _stop(config: ClusterConfig, grace: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in config.nodes:
            root = config.paths.node(each.name) / "runtime"
            if root.is_dir():
                tasks.create_task(_stop_node(root, grace))


async def _stop_node(root: Path, grace: float) -> None:
    async with LinuxRuntime(root, images.store(), {}, SystemClock()) as runtime:
        containers = [one for one in await runtime.containers() if one.state is State.RUNNING]
        async with asyncio.TaskGroup() as tasks:
            for container in containers:
                tasks.create_task(runtime.stop_container(container.spec.id, grace))
        for sandbox in await runtime.sandboxes():
            if sandbox.pid:
                os.kill(sandbox.pid, signal.SIGKILL)  # its pause process: what is left is as after a reboot


async def _forget(config: ClusterConfig, gone: NodeConfig) -> None:
    """Delete the Node object and its pods, whose containers are gone: their owners replace them at once."""
    from tiphys.client.config import ClientConfig
    from tiphys.client.https import HttpsClient
    from tiphys.client.resources import NODES, PODS

    directory = config.paths.pki
    client = HttpsClient(
        ClientConfig(
            server=config.server,
            ca=(directory / "ca.crt").read_bytes(),
            certificate=(directory / "admin.crt").read_bytes(),
            key=(directory / "admin.key").read_bytes(),
        )
    )
    try:
        with contextlib.suppress(NotFound):
            await client.delete(NODES, gone.name)
        listing = await client.list(PODS, fields=f"spec.nodeName={gone.name}")
        for metadata in [pod["metadata"] for pod in listing.items]:
            with contextlib.suppress(NotFound):
                await client.delete(PODS, metadata["name"], metadata["namespace"], grace_seconds=0)
    finally:
        await client.close()
