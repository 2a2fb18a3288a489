"""What commands do about published ports: checked at once, kept in the configuration, told to the control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent
from tiphys.cluster import config as configs
from tiphys.cluster import processes
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.ports import desk
from tiphys.cluster.ports.published import PublishedPort, added, found, parse
from tiphys.cluster.ports.reserve import refusal, reserve
from tiphys.cluster.ports.rules import Place
from tiphys.cluster.processes import CONTROL_PLANE

Progress = Callable[[str], None]


def of(config: ClusterConfig) -> tuple[PublishedPort, ...]:
    """The published ports of a cluster."""
    return tuple(map(parse, config.publish))


def place(config: ClusterConfig) -> Place:
    """Where the kernel's rules for them are."""
    return Place(f"{config.bridge}-ports", config.bridge, (*config.node_networks, *config.pod_networks))


def with_ports(config: ClusterConfig, new: Sequence[PublishedPort]) -> ClusterConfig:
    """`config` with these published, too. Raises Permanent if one is not to be had on this machine now.

    Those that it has already are tried also, unless its control plane holds them."""
    ports = added(of(config), new)
    held = of(config) if processes.pid_of(config.paths.lock(CONTROL_PLANE)) else ()
    for port in ports:
        if port not in held:
            check(config, port)
    return replace(config, publish=tuple(map(str, ports)))


def check(config: ClusterConfig, port: PublishedPort) -> None:
    """Raises Permanent if another cluster has the port, or another program."""
    if port.protocol == "tcp" and port.port == config.port and (port.loopback or port.everywhere):
        raise Permanent(f"published port {port}: port {port.port} is that of the cluster's API server")
    for other in filter(None, map(configs.last_known, configs.names())):
        if other.name == config.name:
            continue
        clash = next((one for one in of(other) if one.overlaps(port)), None)
        if clash:
            raise Permanent(f"published port {port}: cluster {other.name} publishes {clash}")
    try:
        for opened in reserve(port, place(config).inside):
            opened.close()
    except OSError as error:
        raise Permanent(refusal(port, error)) from error


def add(name: str, texts: Iterable[str], progress: Progress) -> list[dict[str, Any]]:
    """Publish more ports, at once if the cluster runs; returns the state of these. Raises Permanent."""
    from tiphys.cluster import lifecycle

    new = [parse(text) for text in texts]
    with lifecycle.changing(name, progress):
        config = configs.existing(name)
        changed = with_ports(config, new)
        changed.save()
        state = [one for one in states(changed) if one["port"] in map(str, new)]
        failed = next((one for one in state if one["error"]), None)
        if failed:  # somebody took it since it was tried
            config.save()
            states(config)
            raise Permanent(failed["error"])
    return state


def remove(name: str, texts: Iterable[str], progress: Progress) -> list[str]:
    """Publish these no more; connections that there are go on. Raises Permanent for what is not published."""
    from tiphys.cluster import lifecycle

    with lifecycle.changing(name, progress):
        config = configs.existing(name)
        gone = {port for text in texts for port in found(of(config), text)}
        changed = replace(config, publish=tuple(str(port) for port in of(config) if port not in gone))
        changed.save()
        states(changed)
    return sorted(map(str, gone))


def states(config: ClusterConfig) -> list[dict[str, Any]]:
    """What becomes of each published port, as the control plane tells; without one, what is configured."""
    text = "the cluster does not run"
    if processes.pid_of(config.paths.lock(CONTROL_PLANE)):
        try:
            return desk.ask(_socket(config))
        except OSError as error:
            text = f"the control plane does not answer ({error.strerror or error})"
    return [{"port": str(port), "way": "", "backends": [], "error": "", "waiting": text} for port in of(config)]


def close(config: ClusterConfig) -> list[str]:
    """Nothing of the host leads to the cluster any more. Returns what could not be removed, and why."""
    from tiphys.cluster.ports import kernel

    try:
        kernel.remove(place(config))
    except OSError as error:
        return [f"nftables table {place(config).table}: {error.strerror}"]
    return []


def _socket(config: ClusterConfig) -> Path:
    return config.paths.run / desk.NAME
