"""Bring a cluster up, stop it, look at it: what the commands do, without their printing.

Everything here may be run again at any time: `up` starts what does not run, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tiphys.base import outside
from tiphys.base.errors import Permanent
from tiphys.cluster import config as configs
from tiphys.cluster import kubeconfig, kubelet_settings, paths, processes, stores
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.cluster.locks import locked
from tiphys.cluster.processes import CONTROL_PLANE, GATEWAY

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
    kubelet_config: Path | None = None
    node_size: str = ""
    overcommit: bool = False
    keep_context: bool = False
    publish: Sequence[str] = ()
    listen: str = ""
    overlay: str = ""
    ip_family: str = ""
    """One of `ranges.IP_FAMILIES`."""
    balancing: str = ""
    cni: str = ""
    cni_bin_dirs: str = ""
    """Of a new cluster: see `ClusterConfig`."""


@dataclass(frozen=True, slots=True)
class UpResult:
    config: ClusterConfig
    kubeconfig: Path
    started: tuple[str, ...]
    """Components that were started now; empty when all ran already."""


def up(options: UpOptions, progress: Progress) -> UpResult:
    """Start the cluster and return when every node is Ready. Raises Permanent with the reason if it cannot."""
    require_root("up")
    kubeconfig.check(options.kubeconfig)
    check_files(options.images)
    settings = kubelet_settings.check(options.kubelet_config)
    with changing(options.name, progress):
        config = _configure(options)
        kubelet_settings.keep(config, settings)
        _make_certificates(config)
        with ThreadPoolExecutor(1) as beside, starting(config, progress) as children:
            loading = beside.submit(load_images, options.images, progress)
            wait_ready(config, children, progress)
            loading.result()
        _tell_published(config, progress)
        _tell_missing(progress)
        changed = merge_kubeconfig(config, options.kubeconfig, not options.keep_context)
        progress(f"context {config.context} in {changed}")
        return UpResult(config, changed, tuple(child.component for child in children))


def down(name: str, grace: float, progress: Progress) -> ClusterConfig:
    """Stop the processes and containers of a cluster; its objects and files stay."""
    from tiphys.cluster import closing, teardown

    require_root("down")
    with changing(name, progress):
        config = configs.existing(name)
        stop_processes(config, progress)
        teardown.stop_containers(config, grace)
        for thing in closing.close(config):
            progress(f"not removed: {thing}")
        return config


def add_node(name: str, node: str, progress: Progress) -> NodeConfig:
    """One node more on a running cluster; returns when it is Ready."""
    require_root("node add")
    with changing(name, progress):
        config = _running(name).with_node(node)
        _check_shares(config)
        config.save()
        _make_certificates(config)
        with starting(config, progress) as children:
            wait_ready(config, children, progress)
        return config.nodes[-1]


def remove_node(name: str, node: str, progress: Progress) -> list[str]:
    """Take a node out of a cluster with everything on it; returns what could not be removed."""
    from tiphys.cluster import teardown

    require_root("node remove")
    with changing(name, progress):
        config = _running(name)
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
    with changing(name, progress):
        config = configs.deletable(name)
        stop_processes(config, progress)
        left = _forget_context(config, kubeconfig_file)
        remaining = teardown.remove_cluster(config)
        if not remaining:
            paths.pointer(name).unlink(missing_ok=True)
    return left + remaining


def sweep() -> None:
    """Remove what clusters shared, if there are none any more."""
    from tiphys.cluster import teardown

    if outside.agent() and not configs.names():
        from tiphys.cluster import rootless

        rootless.leave()
    teardown.remove_shared_if_last()


@contextmanager
def starting(config: ClusterConfig, progress: Progress) -> Iterator[list[processes.Child]]:
    """Start what does not run. If the block fails, what was started is ended."""
    children: list[processes.Child] = []
    try:
        start_missing(config, children)
        yield children
    except BaseException:
        processes.abandon(children, STOP_GRACE)
        raise


def start_missing(config: ClusterConfig, children: list[processes.Child]) -> None:
    """Start the control plane and every node that does not run; they are added to `children`."""
    for component in (CONTROL_PLANE, *(node.name for node in config.nodes)):
        lock = config.paths.lock(component)
        if processes.pid_of(lock):
            continue
        verb = ["run", "control-plane"] if component == CONTROL_PLANE else ["run", "node", "--node", component]
        children.append(processes.start(component, [*verb, "--name", config.name], lock, config.paths.log(component)))


def stop_processes(config: ClusterConfig, progress: Progress) -> None:
    """Nodes first, so that their last words reach the API server; the gateway last: while the control plane lives, it
    would start it again."""
    for component in (*(node.name for node in config.nodes), CONTROL_PLANE, GATEWAY):
        if processes.stop(config.paths.lock(component), STOP_GRACE):
            progress(f"{component} stopped")
    config.paths.lock(GATEWAY).unlink(missing_ok=True)


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
    """Raises Permanent unless this process is root, of the machine or of the user's own namespaces."""
    if os.geteuid() != 0:
        from tiphys.cluster import rootless

        rootless.enter(verb)


def check_files(files: Sequence[Path]) -> None:
    """Raises Permanent for an image file that is not there: before anything is started for it."""
    for file in files:
        if not file.is_file():
            raise Permanent(f"--image {file}: {'not a file' if file.exists() else 'no such file'}")


@contextmanager
def changing(name: str, progress: Progress) -> Iterator[None]:
    """One command at a time changes a cluster; the others wait. The lock of one that is gone goes with it: also
    when whoever deleted it was killed in between."""
    configs.check_name("cluster name", name)

    def waiting() -> None:
        progress(f"waiting for another command that changes cluster {name}")

    with locked(paths.machine_lock(), shared=True), locked(_lock_of(name), waiting=waiting):
        try:
            yield
        finally:
            if not paths.pointer(name).exists():
                _lock_of(name).unlink(missing_ok=True)


def _lock_of(name: str) -> Path:
    return paths.pointer(name).with_suffix(".lock")


def _running(name: str) -> ClusterConfig:
    config = configs.existing(name)
    if not processes.pid_of(config.paths.lock(CONTROL_PLANE)):
        raise Permanent(f"cluster {name} is not running; `tiphys up {name}` starts it")
    return config


def wait_ready(config: ClusterConfig, children: list[processes.Child], progress: Progress) -> None:
    """Return when all components are ready."""
    processes.wait_ready(children, CONTROL_PLANE, READY_WITHIN, lambda name: progress(f"{name} is ready"))
    # Those that ran already may still be on their way: an `up` before this one was killed.
    mine = {child.component for child in children}
    for component in (CONTROL_PLANE, *(node.name for node in config.nodes)):
        if component not in mine and not processes.wait_started(config.paths.lock(component), READY_WITHIN):
            raise Permanent(f"{component} stopped; `tiphys logs {component} --name {config.name}` tells why")


def _forget_context(config: ClusterConfig, kubeconfig_file: str) -> list[str]:
    """Take the context out of the kubeconfig; returns what could not be done."""
    try:
        kubeconfig.remove(config.context, kubeconfig_file)
    except (Permanent, OSError) as error:
        return [f"context {config.context}: {error}"]
    return []


def _configure(options: UpOptions) -> ClusterConfig:
    stores.check(options.store)
    config = configs.load(options.name)
    sized = partial(_sized, options=options, size=_size(options.node_size))
    planned = config or ClusterConfig(options.name, 0, 0, str(paths.home()))
    _check_shares(sized(planned).with_nodes(max(1, options.nodes)))
    if config is None:
        _published(replace(planned, port=options.port), options)
        from tiphys.cluster import network, pod_networks

        pod_networks.check(options.cni, options.cni_bin_dirs)
        with network.choosing_ranges():
            family = options.ip_family or "ipv4"
            config = configs.create(options.name, options.port, options.data_dir, options.store, family)
            if options.cni:
                config = pod_networks.chosen(config, options.cni, options.cni_bin_dirs)
            network.setup_host(config)
    config.paths.make()
    wanted = sized(_changed(config, options))
    if not processes.pid_of(wanted.paths.lock(CONTROL_PLANE)):
        configs.check_port(wanted.name, wanted.port)
    wanted = _reachable(wanted, options)
    wanted = _published(wanted.with_nodes(max(1, options.nodes)), options)
    if wanted != config or not config.paths.config.exists():
        wanted.save()
    return wanted


def _sized(config: ClusterConfig, options: UpOptions, size: Mapping[str, str]) -> ClusterConfig:
    """With what each node is to offer, where that is said."""
    return replace(config, node_size=size or config.node_size, overcommit=options.overcommit or config.overcommit)


def _reachable(config: ClusterConfig, options: UpOptions) -> ClusterConfig:
    """With where nodes of other machines may join, if that is said."""
    if not options.listen and not options.overlay:
        return config
    from tiphys.cluster.join import joining

    running = bool(processes.pid_of(config.paths.lock(CONTROL_PLANE)))
    return joining.changed(config, options.listen, options.overlay, running=running)


def _published(config: ClusterConfig, options: UpOptions) -> ClusterConfig:
    """With its published ports, if they are to be had."""
    if not options.publish and not config.publish:
        return config
    from tiphys.cluster.ports import manage
    from tiphys.cluster.ports.published import parse

    return manage.with_ports(config, [parse(text) for text in options.publish])


def _tell_missing(progress: Progress) -> None:
    from tiphys.cluster import firewall

    if missing := firewall.warning():
        progress(missing)


def _tell_published(config: ClusterConfig, progress: Progress) -> None:
    """What became of each published port; when this returns, they are."""
    if config.publish:
        from tiphys.cluster.ports import manage

        for one in manage.states(config):
            progress(one["error"] or f"{one['port']} is published")


def _size(text: str) -> dict[str, str]:
    if not text:
        return {}
    from tiphys.cluster import shares

    return shares.parse_size(text)


def _check_shares(config: ClusterConfig) -> None:
    if config.node_size:
        from tiphys.cluster import shares

        shares.check(config, shares.machine_of(config))


def _changed(config: ClusterConfig, options: UpOptions) -> ClusterConfig:
    """Refuses what cannot be changed (on a running cluster)."""
    if options.data_dir and str(options.data_dir.resolve()) != config.data:
        raise Permanent(
            f"--data-dir {options.data_dir}: cluster {config.name} keeps its data in {config.data}; "
            f"delete it first or choose another name"
        )
    if options.store and options.store != config.store:
        raise Permanent(f"--store {options.store}: cluster {config.name} was made with {config.store or 'sqlite'}")
    if options.ip_family and options.ip_family != config.ip_family:
        raise Permanent(
            f"--ip-family {options.ip_family}: cluster {config.name} was made with {config.ip_family}, which cannot be "
            f"changed; delete it first or choose another name"
        )
    if options.balancing and options.balancing != config.balancing:
        if any(processes.pid_of(lock) for lock in config.paths.run.glob("*.lock")):
            raise Permanent(
                f"--balancing {options.balancing}: cluster {config.name} runs with {config.balancing}; "
                f"`tiphys down {config.name}` first, or annotate Services"
            )
        config = replace(config, balancing=options.balancing)
    if options.cni and os.path.abspath(options.cni) != config.cni:
        raise Permanent(f"--cni {options.cni}: cluster {config.name} was made with {config.cni or 'no plugins'}")
    if options.port and options.port != config.port:
        if any(processes.pid_of(lock) for lock in config.paths.run.glob("*.lock")):
            raise Permanent(
                f"--port {options.port}: cluster {config.name} serves on {config.port}; "
                f"`tiphys down {config.name}` first"
            )
        return replace(config, port=options.port)
    return config


def _make_certificates(config: ClusterConfig) -> None:
    from tiphys.cluster import pki

    pki.ensure(config)
