"""Credential plugins as the configuration has them, with tokens of pods' ServiceAccounts from the API server."""

from __future__ import annotations

from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.client.types import Client
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.podspec import Object, namespace_of
from tiphys.kubelet.registries.counts import ImageCounts
from tiphys.kubelet.registries.plugins import Account, Plugins, account_of
from tiphys.kubelet.registries.providers import Provider, read_providers
from tiphys.kubelet.volumes.tokens import Tokens

DEFAULT_EXPIRATION = 3600
"""Seconds; TokenRequest's own default."""


def make_plugins(config: KubeletConfig, client: Client, clock: Clock, counts: ImageCounts) -> Plugins | None:
    """None without a configuration. Raises Permanent, OSError."""
    if config.credential_providers is None:
        return None
    directory = config.credential_provider_bin_dir
    if directory is None or not directory.is_dir():
        raise Permanent(f"plugin binary directory {directory or Path()} did not exist")
    tokens = Tokens(client, clock)

    async def account(pod: Object, provider: Provider) -> Account:
        name = str(pod["spec"]["serviceAccountName"])
        found = await client.get(SERVICE_ACCOUNTS, name, namespace_of(pod))
        account_of(pod, found, provider, "")
        token = await tokens.get(pod, provider.audience, DEFAULT_EXPIRATION)
        return account_of(pod, found, provider, token.text)

    return Plugins(read_providers(config.credential_providers), directory, clock, account, counts)
