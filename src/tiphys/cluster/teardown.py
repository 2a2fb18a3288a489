"""Stop and remove what a cluster has on this machine, and look whether anything is left."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from tiphys.base.clock import SystemClock
from tiphys.cluster import config as configs
from tiphys.cluster import images, network, node, paths, pki
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.kubelet.logdirs import remove_logs
from tiphys.runtime.cleanup import purge
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.node import teardown_cluster_network
from tiphys.runtime.types import State


def stop_containers(config: ClusterConfig, grace: float) -> None:
    """Stop every container of the cluster, `grace` seconds at most; files and records stay."""
    asyncio.run(_stop(config, grace))


def remove_node(config: ClusterConfig, gone: NodeConfig) -> list[str]:
    """Everything of one node, its Node object included; returns what could not be removed."""
    left = _remove_node_files(config, gone)
    if not left:
        pki.forget_node(config, gone)
        asyncio.run(_forget(config, gone))
    return left


def remove_cluster(config: ClusterConfig) -> list[str]:
    """Everything of a cluster whose processes have ended; returns what could not be removed."""
    left = [thing for each in config.nodes for thing in _remove_node_files(config, each)]
    left += teardown_cluster_network(network.of_cluster(config))
    if left:
        return left
    for directory in (config.paths.data, config.paths.run):
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            left.append(f"directory {directory}")
    return left


def remove_shared_if_last() -> None:
    """With the last cluster go the images and the directories that all clusters shared."""
    if configs.names():
        return
    for directory in (paths.images_dir(), paths.home() / "clusters", paths.home() / "data"):
        shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(paths.run_root(), ignore_errors=True)
    _remove_if_empty(paths.home())


def _remove_node_files(config: ClusterConfig, gone: NodeConfig) -> list[str]:
    directory = config.paths.node(gone.name)
    remove_logs(directory / "kubelet", *node.log_directories())
    left = purge(directory / "runtime", f"{config.name}/{gone.name}")
    left += network.of_node(config, gone).teardown()
    if not left:
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            left.append(f"directory {directory}")
    return left


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


async def _forget(config: ClusterConfig, gone: NodeConfig) -> None:
    """Delete the Node object, so that its pods are found to be gone."""
    from tiphys.base.errors import NotFound
    from tiphys.client.config import ClientConfig
    from tiphys.client.https import HttpsClient
    from tiphys.client.resources import NODES

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
        await client.delete(NODES, gone.name)
    except (NotFound, OSError):
        return
    finally:
        await client.close()
