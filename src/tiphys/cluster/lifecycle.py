"""Bring a cluster up, stop it, look at it: what the commands do, without their printing.

Everything here may be run again at any time: `up` starts what does not run, and nothing else.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tiphys.base.errors import Permanent
from tiphys.cluster import config as configs
from tiphys.cluster import kubeconfig, paths, processes, stores
from tiphys.cluster.config import ClusterConfig, NodeConfig

CONTROL_PLANE = "control-plane"
READY_WITHIN = 60.0
STOP_GRACE = 15.0
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `tiphys up` was asked for; zero values leave what an existing cluster has."""

    name: str = configs.DEFAULT_NAME
    nodes: int = 1
    data_dir: Path | None = None
    kubeconfig: str = ""
    port: int = 0
    images: Sequence[Path] = ()
    store: str = ""
    keep_context: bool = False


@dataclass(frozen=True, slots=True)
class UpResult:
    config: ClusterConfig
    kubeconfig: Path
    started: tuple[str, ...]
    """Components that were started now; empty when all ran already."""


def up(options: UpOptions, progress: Progress) -> UpResult:
    """Start the cluster and return when every node is Ready. Raises Permanent with the reason if it cannot."""
    require_root("up")
    with changing(options.name):
        config = _configure(options)
        _make_certificates(config)
        children = start_missing(config)
        try:
            load_images(options.images, progress)
        finally:
            processes.wait_ready(
                children, CONTROL_PLANE, READY_WITHIN, lambda component: progress(f"{component} is ready")
            )
        changed = merge_kubeconfig(config, options.kubeconfig, not options.keep_context)
        progress(f"context {config.context} in {changed}")
        return UpResult(config, changed, tuple(child.component for child in children))


def down(name: str, grace: float, progress: Progress) -> ClusterConfig:
    """Stop the processes and containers of a cluster; its objects and files stay."""
    from tiphys.cluster import teardown

    require_root("down")
    with changing(name):
        config = configs.existing(name)
        stop_processes(config, progress)
        teardown.stop_containers(config, grace)
        return config


def add_node(name: str, node: str, progress: Progress) -> NodeConfig:
    """One node more on a running cluster; returns when it is Ready."""
    require_root("node add")
    with changing(name):
        config = configs.existing(name)
        if not processes.pid_of(config.paths.lock(CONTROL_PLANE)):
            raise Permanent(f"cluster {name} is not running; `tiphys up {name} --nodes N` starts it with N nodes")
        config = config.with_node(node)
        config.save()
        _make_certificates(config)
        processes.wait_ready(
            start_missing(config), CONTROL_PLANE, READY_WITHIN, lambda component: progress(f"{component} is ready")
        )
        return config.nodes[-1]


def remove_node(name: str, node: str, progress: Progress) -> list[str]:
    """Take a node out of a cluster with everything on it; returns what could not be removed."""
    from tiphys.cluster import teardown

    require_root("node remove")
    with changing(name):
        config = configs.existing(name)
        gone = config.node(node)
        processes.stop(config.paths.lock(node), STOP_GRACE)
        left = teardown.remove_node(config, gone)
        progress(f"node {node} is gone")
        if not left:
            config.without_node(node).save()
        return left


def delete(name: str, kubeconfig_file: str, progress: Progress) -> list[str]:
    """Remove a cluster and everything of it; returns what could not be removed."""
    from tiphys.cluster import teardown

    require_root("delete")
    with changing(name):
        config = configs.existing(name)
        stop_processes(config, progress)
        kubeconfig.remove(config.context, kubeconfig_file)
        left = teardown.remove_cluster(config)
        if not left:
            paths.pointer(name).unlink(missing_ok=True)
    lock = paths.pointer(name).with_suffix(".lock")
    if not left:
        lock.unlink(missing_ok=True)
        teardown.remove_shared_if_last()
    return left


def start_missing(config: ClusterConfig) -> list[processes.Child]:
    """Start the control plane and every node that does not run."""
    children = []
    for component in (CONTROL_PLANE, *(node.name for node in config.nodes)):
        lock = config.paths.lock(component)
        if processes.pid_of(lock):
            continue
        verb = ["run", "control-plane"] if component == CONTROL_PLANE else ["run", "node", "--node", component]
        children.append(processes.start(component, [*verb, "--name", config.name], lock, config.paths.log(component)))
    return children


def stop_processes(config: ClusterConfig, progress: Progress) -> None:
    """Nodes first, so that their last words reach the API server."""
    for component in (*(node.name for node in config.nodes), CONTROL_PLANE):
        if processes.stop(config.paths.lock(component), STOP_GRACE):
            progress(f"{component} stopped")


def load_images(files: Sequence[Path], progress: Progress) -> None:
    if not files:
        return
    from tiphys.cluster import images

    for file in files:
        for image in images.load(file):
            progress(f"image {', '.join(image.tags) or image.id[:19]}")


def merge_kubeconfig(config: ClusterConfig, explicit: str, select: bool) -> Path:
    return kubeconfig.merge(admin_kubeconfig(config), explicit, select)


def admin_kubeconfig(config: ClusterConfig) -> kubeconfig.Config:
    """The administrator's kubeconfig of a cluster."""
    pki = config.paths.pki
    return kubeconfig.entry(
        config.context,
        config.server,
        (pki / "ca.crt").read_bytes(),
        (pki / "admin.crt").read_bytes(),
        (pki / "admin.key").read_bytes(),
    )


def require_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise Permanent(f"`tiphys {verb}` needs root: it makes namespaces, mounts and network devices. Try sudo.")


@contextmanager
def changing(name: str) -> Iterator[None]:
    """One command at a time changes a cluster; the others wait."""
    configs.check_name("cluster name", name)
    lock = paths.pointer(name).with_suffix(".lock")
    lock.parent.mkdir(mode=paths.PRIVATE, parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _configure(options: UpOptions) -> ClusterConfig:
    stores.check(options.store)
    config = configs.load(options.name)
    if config is None:
        config = configs.create(options.name, options.port, options.data_dir, options.store)
    config.paths.make()
    running = processes.pid_of(config.paths.lock(CONTROL_PLANE)) != 0
    wanted = _changed(config, options, running)
    wanted = wanted.with_nodes(max(1, options.nodes))
    if wanted != config or not config.paths.config.exists():
        wanted.save()
    return wanted


def _changed(config: ClusterConfig, options: UpOptions, running: bool) -> ClusterConfig:
    """Refuses what cannot be changed (on a running cluster)."""
    if options.data_dir and str(options.data_dir.resolve()) != config.data:
        raise Permanent(
            f"--data-dir {options.data_dir}: cluster {config.name} keeps its data in {config.data}; "
            f"delete it first or choose another name"
        )
    if options.store and options.store != config.store:
        raise Permanent(f"--store {options.store}: cluster {config.name} was made with {config.store or 'sqlite'}")
    if options.port and options.port != config.port:
        if running:
            raise Permanent(
                f"--port {options.port}: cluster {config.name} serves on {config.port}; "
                f"`tiphys down {config.name}` first"
            )
        return replace(config, port=options.port)
    return config


def _make_certificates(config: ClusterConfig) -> None:
    from tiphys.cluster import pki

    pki.ensure(config)
