"""Components that run alone: upstream's flags, a kubeconfig, and nothing of a cluster of this machine.

For clusters over several machines, for service managers, and for trying one component against another API server.
"""

from __future__ import annotations

import argparse
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.base.clock import Clock, SystemClock
from tiphys.base.errors import Permanent
from tiphys.cluster.flag_values import boolean, duration

if TYPE_CHECKING:
    from tiphys.client.config import ClientConfig
    from tiphys.client.https import HttpsClient
    from tiphys.cluster.alone.ground import Ground
    from tiphys.kubelet.config import KubeletConfig
    from tiphys.runtime.linux import LinuxRuntime
    from tiphys.runtime.types import Network, Runtime


def add_client_flags(parser: argparse.ArgumentParser) -> None:
    """How to reach the API server, and whether to take part in an election."""
    add = parser.add_argument
    add("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, or the pod's service account")
    add("--master", metavar="URL", default="", help="the API server, instead of the kubeconfig's")
    add("--leader-elect", type=boolean, nargs="?", const=True, default=False, metavar="BOOL", help="(%(default)s)")
    add("--leader-elect-resource-name", metavar="NAME", default="", help="the lease to hold in kube-system")


SIGNING_FILES = ("kubelet-serving", "kubelet-client", "kube-apiserver-client", "legacy-unknown")


def add_signing_flags(parser: argparse.ArgumentParser) -> None:
    """Who signs approved certificate requests: one authority for all, or one for some signers each."""
    add = parser.add_argument
    for name in ("", *SIGNING_FILES):
        who, flag = name or "all signers", f"--cluster-signing-{name}-" if name else "--cluster-signing-"
        add(f"{flag}cert-file", type=Path, metavar="FILE", help=f"certificate of the authority of {who}, PEM")
        add(f"{flag}key-file", type=Path, metavar="FILE", help="its key, PEM (0600)")
    add("--cluster-signing-duration", type=duration, default=365 * 86400.0, help="longest life of a certificate")
    add(
        "--legacy-service-account-token-clean-up-period",
        type=duration,
        default=365 * 86400.0,
        help="how long unused generated tokens in Secrets stay",
    )


def signing_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The controllers' settings that these flags mean. Raises Permanent, OSError."""
    from tiphys.controllers.csr_rules import SIGNERS

    def pair(name: str) -> tuple[bytes, bytes] | None:
        prefix = "cluster_signing_" + (name.replace("-", "_") + "_" if name else "")
        certificate, key = (getattr(options, f"{prefix}{part}_file") for part in ("cert", "key"))
        if bool(certificate) is not bool(key):
            raise Permanent(f"--{prefix.replace('_', '-')}cert-file and its key-file belong together")
        return (certificate.read_bytes(), key.read_bytes()) if certificate else None

    found = {signer: pair(name) for signer, name in zip(SIGNERS, SIGNING_FILES, strict=True)}
    single, several = pair(""), {signer: each for signer, each in found.items() if each is not None}
    if single and several:
        raise Permanent("cannot specify default and per controller certs at the same time")
    return {
        "cluster-signing": dict.fromkeys(SIGNERS, single) if single else several,
        "cluster-signing-duration": options.cluster_signing_duration,
        "legacy-service-account-token-clean-up-period": options.legacy_service_account_token_clean_up_period,
    }


def add_scheduler_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scheduler-name", default="default-scheduler", help="which pods are this scheduler's")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="KubeSchedulerConfiguration (YAML or JSON); it wins over flags"
    )


def add_kubelet_flags(parser: argparse.ArgumentParser) -> None:
    from tiphys.cluster.alone import flags
    from tiphys.kubelet.serve import add_flags

    add_flags(parser)
    flags.add_flags(parser)


async def run_scheduler(options: argparse.Namespace) -> None:
    """Run the scheduler until cancelled, while it leads when there is an election."""
    from tiphys.client.election import Election, ElectionConfig
    from tiphys.client.events import EventRecorder
    from tiphys.scheduler.app import Scheduler

    if options.config:
        _read_scheduler_config(options)
    clock = SystemClock()
    client = make_client(options, clock, "kube-scheduler")
    try:
        if options.leader_elect:
            lease = options.leader_elect_resource_name or "kube-scheduler"
            recorder = EventRecorder(client, clock, options.scheduler_name)
            election = Election(client, clock, ElectionConfig(lease, identity()), recorder)
            await election.lead(Scheduler(election.fenced(client), clock, options.scheduler_name).run)
        else:
            await Scheduler(client, clock, options.scheduler_name).run()
    finally:
        await client.close()


async def run_kubelet(options: argparse.Namespace) -> None:
    """Run a node until cancelled, in this machine's own network."""
    from tiphys.cluster.alone import cleanup, flags
    from tiphys.cluster.alone.ground import Ground
    from tiphys.cluster.alone.node import NodeAlone
    from tiphys.kubelet import serve

    if options.cleanup:
        cleanup.run(options)
        return
    flags.settle(options)
    clock = SystemClock()
    ground = Ground(Path(options.root_dir), _plugins(options))

    async def make_runtime(config: KubeletConfig, clock: Clock) -> Runtime:
        if config.container_runtime_endpoint:
            from tiphys.runtime.cri.client import open_cri

            return await open_cri(config.container_runtime_endpoint, clock, config.image_service_endpoint)
        if not options.kubeconfig:
            await ground.standalone(options.pod_cidr)
        return _runtime(config, ground, clock)

    await serve.run(options, make_runtime, clock, NodeAlone(options, ground, clock).begin)


def _plugins(options: argparse.Namespace) -> Network | None:
    """Third-party network plugins, where they are to connect pods."""
    if not options.cni_conf_dir:
        return None
    from tiphys.cluster.alone.ground import NAMESPACE
    from tiphys.cluster.pod_networks import plugins

    ranges = tuple(filter(None, options.pod_cidr.split(",")))
    state = Path(options.root_dir, "cni").absolute()
    return plugins(Path(options.cni_conf_dir), options.cni_bin_dir, state, NAMESPACE, ranges)


def _runtime(config: KubeletConfig, ground: Ground, clock: Clock) -> LinuxRuntime:
    from tiphys.cluster import images
    from tiphys.runtime.handlers import discover
    from tiphys.runtime.linux import LinuxRuntime

    handlers = discover(config.runtime_handlers)
    images.remember((config.root_dir / "runtime").absolute())
    return LinuxRuntime(config.root_dir / "runtime", images.store(), {config.network: ground}, clock, handlers)


def make_client(options: argparse.Namespace, clock: Clock, agent: str) -> HttpsClient:
    from tiphys.client.https import HttpsClient

    return HttpsClient(client_config(options), clock=clock, agent=agent)


def client_config(options: argparse.Namespace) -> ClientConfig:
    """Where the API server is, and who we are there. Raises Permanent."""
    from dataclasses import replace

    from tiphys.client.config import load

    config = load(options.kubeconfig)
    return replace(config, server=options.master) if options.master else config


def identity() -> str:
    return f"{socket.gethostname()}_{uuid.uuid4()}"


def _read_scheduler_config(options: argparse.Namespace) -> None:
    """Take over what a KubeSchedulerConfiguration says. Raises Permanent for what is not supported."""
    import yaml

    document = yaml.safe_load(options.config.read_text()) or {}
    if not isinstance(document, dict) or document.get("kind") != "KubeSchedulerConfiguration":
        raise Permanent(f"--config {options.config}: not a KubeSchedulerConfiguration")
    known = {"apiVersion", "kind", "clientConnection", "leaderElection", "profiles"}
    profiles = document.get("profiles") or [{}]
    unknown = sorted({*document} - known) + sorted({*profiles[0]} - {"schedulerName"})
    if unknown or len(profiles) > 1:
        what = ", ".join(unknown) or "more than one profile"
        raise Permanent(f"--config {options.config}: not supported: {what}")
    election = document.get("leaderElection") or {}
    options.kubeconfig = (document.get("clientConnection") or {}).get("kubeconfig") or options.kubeconfig
    options.leader_elect = election.get("leaderElect", True)
    options.leader_elect_resource_name = election.get("resourceName") or options.leader_elect_resource_name
    options.scheduler_name = profiles[0].get("schedulerName") or options.scheduler_name
