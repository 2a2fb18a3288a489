"""The controller manager as a component that runs alone, with kube-controller-manager's flags."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.base.clock import SystemClock
from tiphys.cluster.components import (
    add_client_flags,
    add_signing_flags,
    client_config,
    identity,
    make_client,
    signing_settings,
)
from tiphys.cluster.flag_values import boolean, duration, whole
from tiphys.cluster.manager_flags import (
    add_controller_flags,
    add_election_flags,
    controller_settings,
)
from tiphys.cluster.network_flags import add_network_flags, network_settings

if TYPE_CHECKING:
    from tiphys.base.identity import User
    from tiphys.client.https import HttpsClient
    from tiphys.client.types import Client
    from tiphys.cluster.manager_health import HealthConfig
    from tiphys.controllers.base import Connect
    from tiphys.controllers.manager import ManagerConfig


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Everything on upstream's command line that has a meaning here, and what may be there without one."""
    add_client_flags(parser)
    parser.set_defaults(leader_elect=True)
    add_election_flags(parser)
    add = parser.add_argument
    add("--controllers", default="*", help="'*' for all, 'NAME' for one, '-NAME' for not that one; by commas")
    add(
        "--service-account-private-key-file",
        type=Path,
        metavar="FILE",
        help="signs the tokens in Secrets of type kubernetes.io/service-account-token; without it they get none",
    )
    add("--root-ca-file", type=Path, metavar="FILE", help="published to every namespace as kube-root-ca.crt")
    add_signing_flags(parser)
    add_network_flags(parser, boolean, duration)
    add_controller_flags(parser)
    text = "each controller is its own service account, not the kubeconfig's user (false)"
    add("--use-service-account-credentials", type=boolean, nargs="?", const=True, default=False, help=text)
    text = "of /healthz and /metrics; 0: none (10257, if it can be had)"
    add("--secure-port", type=whole, metavar="PORT", help=text)
    add("--bind-address", default="0.0.0.0", metavar="IP", help="where they are served (%(default)s)")  # noqa: S104
    add("--tls-cert-file", type=Path, metavar="FILE", help="their certificate; default: a self-made one")
    add("--tls-private-key-file", type=Path, metavar="FILE", help="its key")


async def run(options: argparse.Namespace) -> None:
    """Run the controllers until cancelled. Raises Permanent, LeadershipLost, OSError."""
    from tiphys.cluster.manager_health import serving
    from tiphys.controllers import manager

    clock = SystemClock()
    config = replace(manager_config(options), settings=_settings(options, clock))
    client = make_client(options, clock, "kube-controller-manager")
    try:
        async with contextlib.AsyncExitStack() as stack:
            if options.use_service_account_credentials:
                config = replace(config, connect=_accounts(options, clock, client, stack))
            await stack.enter_async_context(serving(health_config(options), config.state, client, clock))
            await manager.run(client, clock, options.controllers, config)
    finally:
        await client.close()


def _accounts(
    options: argparse.Namespace, clock: SystemClock, root: HttpsClient, stack: contextlib.AsyncExitStack
) -> Connect:
    """Gives each controller a client that is its own service account; closed with `stack`."""
    from tiphys.client.https import HttpsClient
    from tiphys.cluster.account_clients import AccountClient

    access = replace(client_config(options), certificate=b"", key=b"", token_file=None, username="", password="")

    def connect(user: User) -> Client:
        if not user.name.startswith("system:serviceaccount:"):
            return root
        namespace, _, account = user.name.removeprefix("system:serviceaccount:").partition(":")

        def make(token: str) -> HttpsClient:
            return HttpsClient(replace(access, token=token), clock=clock, agent=account)

        client = AccountClient(root, make, clock, namespace, account)
        stack.push_async_callback(client.close)
        return client

    return connect


def manager_config(options: argparse.Namespace) -> ManagerConfig:
    """How the manager takes part in an election."""
    from tiphys.controllers.manager import ManagerConfig

    return ManagerConfig(
        leader_elect=options.leader_elect,
        identity=identity(),
        lease=options.leader_elect_resource_name or "kube-controller-manager",
        lease_namespace=options.leader_elect_resource_namespace,
        lease_seconds=options.leader_elect_lease_duration,
        renew_seconds=options.leader_elect_renew_deadline,
        retry_seconds=options.leader_elect_retry_period,
    )


def health_config(options: argparse.Namespace) -> HealthConfig:
    """Where the manager's health is served."""
    from tiphys.cluster.manager_health import HealthConfig

    return HealthConfig(options.bind_address, options.secure_port, options.tls_cert_file, options.tls_private_key_file)


def _settings(options: argparse.Namespace, clock: SystemClock) -> dict[str, Any]:
    settings = {**signing_settings(options), **network_settings(options), **controller_settings(options)}
    if options.root_ca_file:
        settings["root-ca"] = options.root_ca_file.read_text()
    if options.service_account_private_key_file:
        from tiphys.apiserver.tokens import TokenIssuer

        issuer = TokenIssuer(options.service_account_private_key_file.read_bytes(), clock=clock)
        settings["service-account-token"] = issuer.issue_legacy
    return settings
