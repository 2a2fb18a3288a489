"""CniNetwork: third-party plugins give sandboxes their interfaces, in the place of PodNetwork.

What was done for a sandbox is kept in a file, so that it can be undone after a restart, and when the configuration has
changed meanwhile; its network namespace is kept by a mount until then, so that plugins find it when the sandbox died.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tiphys.base.files import write_json
from tiphys.runtime import netns, syscalls
from tiphys.runtime.cni import conf, plugins, results
from tiphys.runtime.cni.conf import CniError, NetworkConfig
from tiphys.runtime.cni.plugins import Attachment, Place
from tiphys.runtime.types import SandboxSpec, SandboxStatus, State

log = logging.getLogger(__name__)

CONF_DIR = Path("/etc/cni/net.d")
BIN_DIRS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
INTERFACE = "eth0"
NOT_READY = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"
_BURST_TIME, _LEAST_BURST = 100, 16 * 1024 * 8
"""A burst is a hundredth of a second, in bits."""

Arguments = Callable[[SandboxSpec], Mapping[str, str]]
"""CNI_ARGS of a sandbox: plugins for Kubernetes want to know the pod."""


class CniNetwork:
    """The Network (runtime.types) of one node.

    `conf_dir` may change at any time. `state_dir` keeps what was done. `subnets` are told to plugins that want to know
    (the capability ipRanges).
    """

    def __init__(
        self, place: Place, conf_dir: Path, state_dir: Path, subnets: Sequence[str], arguments: Arguments
    ) -> None:
        self._place, self._conf_dir, self._state_dir = place, conf_dir, state_dir
        self._subnets, self._arguments = tuple(subnets), arguments

    @property
    def namespace(self) -> str:
        """The node's own network namespace."""
        return self._place.namespace

    async def problems(self) -> tuple[str, ...]:
        """Why no sandbox can be attached now: no configuration, a plugin is missing or says that it is not ready."""
        return await asyncio.to_thread(self._problems)

    async def attach(self, sandbox: SandboxSpec, namespace: str) -> tuple[str, ...]:
        """Have the plugins set up eth0; what a former try has left is undone first."""
        return await asyncio.to_thread(self._attach, sandbox, namespace)

    async def detach(self, sandbox: str) -> None:
        """Have the plugins undo it. Harmless if done already."""
        await asyncio.to_thread(self._detach, sandbox)

    async def keep(self, sandboxes: Sequence[SandboxStatus]) -> None:
        """Undo what was done for others than these, and have plugins do likewise (GC)."""
        await asyncio.to_thread(self._keep, sandboxes)

    def undo_all(self) -> None:
        """Undo everything that was done for anybody. What fails is logged."""
        self._keep([])

    def _problems(self) -> tuple[str, ...]:
        try:
            config = conf.load(self._conf_dir)
            plugins.check_versions(self._place, config)
            if config.since("1.1.0"):
                for plugin in config.plugins:
                    plugins.call(self._place, "STATUS", conf.execution(config, plugin), Attachment())
        except CniError as error:
            return (f"{NOT_READY} message:Network plugin returns error: {error}",)
        return ()

    def _attach(self, sandbox: SandboxSpec, namespace: str) -> tuple[str, ...]:
        try:
            self._detach(sandbox.id)
            config = conf.load(self._conf_dir)
            plugins.check_versions(self._place, config)
            netns.loopback_up(namespace)
            kept = self._keep_namespace(sandbox.id, namespace)
            arguments = {"IgnoreUnknown": "1", **self._arguments(sandbox)}
            about = Attachment(sandbox.id, str(kept), INTERFACE, arguments)
            capabilities = capabilities_of(sandbox, self._subnets)
            record: dict[str, Any] = {
                "config": {"name": config.name, "version": config.version, "plugins": list(config.plugins)},
                "disable_check": config.disable_check,
                "arguments": arguments,
                "capabilities": capabilities,
                "result": None,
            }
            # Before anything is done: whoever is killed now leaves a note of what is to be undone.
            write_json(self._record(sandbox.id), record)
            result = self._add(config, about, capabilities)
            write_json(self._record(sandbox.id), {**record, "result": result})
        except CniError as error:
            with contextlib.suppress(CniError):
                self._detach(sandbox.id)
            raise CniError(f'failed to setup network for sandbox "{sandbox.id}": {error}') from error
        return results.addresses(result, INTERFACE)

    def _add(self, config: NetworkConfig, about: Attachment, capabilities: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] | None = None
        for plugin in config.plugins:
            told = conf.execution(config, plugin, capabilities=capabilities, previous=result)
            result = results.parse(str(plugin["type"]), plugins.call(self._place, "ADD", told, about))
        if not results.addresses(result or {}, INTERFACE):
            raise CniError(f"{config.source}: the plugins gave {INTERFACE} no address")
        return result or {}

    def _detach(self, sandbox: str) -> None:
        found = self._load(sandbox)
        if found is not None:
            config, record = found
            space = self._namespace_of(sandbox)
            named = str(space) if netns.is_namespace(space) else ""
            about = Attachment(sandbox, named, INTERFACE, record["arguments"])
            result = record["result"] if config.since("0.4.0") else None
            for plugin in reversed(config.plugins):
                told = conf.execution(config, plugin, capabilities=record["capabilities"], previous=result)
                plugins.call(self._place, "DEL", told, about)
        netns.drop(self._namespace_of(sandbox))
        self._record(sandbox).unlink(missing_ok=True)

    def _keep(self, sandboxes: Sequence[SandboxStatus]) -> None:
        known = {each.spec.id for each in sandboxes}
        for file in sorted(self._state_dir.glob("*.json")):
            if file.stem not in known:
                try:
                    self._detach(file.stem)
                except CniError as error:
                    log.warning("what sandbox %s has left cannot be undone: %s", file.stem, error)
        for each in sandboxes:
            if each.state is State.RUNNING:
                self._check(each.spec.id)
        self._collect(known)

    def _check(self, sandbox: str) -> None:
        """Have the plugins look whether all is still there; what is not is told, the sandbox goes on."""
        found = self._load(sandbox)
        if found is None or not found[0].since("0.4.0") or found[0].disable_check:
            return
        config, record = found
        about = Attachment(sandbox, str(self._namespace_of(sandbox)), INTERFACE, record["arguments"])
        try:
            for plugin in config.plugins:
                told = conf.execution(
                    config, plugin, capabilities=record["capabilities"], previous=record["result"] or {}
                )
                plugins.call(self._place, "CHECK", told, about)
        except CniError as error:
            log.warning("the network of sandbox %s is not as it was: %s", sandbox, error)

    def _collect(self, known: set[str]) -> None:
        try:
            config = conf.load(self._conf_dir)
        except CniError:
            return
        if not config.since("1.1.0") or config.disable_gc:
            return
        valid = [{"containerID": id, "ifname": INTERFACE} for id in sorted(known) if self._record(id).exists()]
        for plugin in config.plugins:
            try:
                plugins.call(self._place, "GC", conf.execution(config, plugin, valid=valid), Attachment())
            except CniError as error:
                log.warning("%s", error)

    def _record(self, sandbox: str) -> Path:
        return self._state_dir / f"{sandbox}.json"

    def _namespace_of(self, sandbox: str) -> Path:
        return self._state_dir / "netns" / sandbox

    def _keep_namespace(self, sandbox: str, namespace: str) -> Path:
        path = self._namespace_of(sandbox)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        syscalls.mount(namespace, str(path), None, syscalls.MS_BIND)
        return path

    def _load(self, sandbox: str) -> tuple[NetworkConfig, dict[str, Any]] | None:
        """What was done for a sandbox; None when nothing was, or nothing that can be read."""
        try:
            record = json.loads(self._record(sandbox).read_bytes())
            kept = record["config"]
            config = NetworkConfig(kept["name"], kept["version"], tuple(kept["plugins"]), record["disable_check"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read, its network is not undone: %s", self._record(sandbox), error)
            return None
        return config, record


def capabilities_of(sandbox: SandboxSpec, subnets: Sequence[str]) -> dict[str, Any]:
    """runtimeConfig by the names of the CNI conventions."""
    found: dict[str, Any] = {"ipRanges": [[{"subnet": str(ip_network(subnet))}] for subnet in subnets]}
    if sandbox.ports:
        found["portMappings"] = [
            {"hostPort": each.host_port, "containerPort": each.port, "protocol": each.protocol}
            | ({"hostIP": each.host_address} if each.host_address else {})
            for each in sandbox.ports
        ]
    rates = {"ingress": sandbox.bandwidth.ingress, "egress": sandbox.bandwidth.egress}
    bandwidth: dict[str, int] = {}
    for name, rate in rates.items():
        if rate:
            bandwidth |= {f"{name}Rate": rate, f"{name}Burst": min(max(rate // _BURST_TIME, _LEAST_BURST), 0x7FFFFFFF)}
    return found | ({"bandwidth": bandwidth} if bandwidth else {})
