"""Makes the authorizers that a server is configured with, and replaces them when their file changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tiphys.apiserver import configfile
from tiphys.apiserver.authz import config
from tiphys.apiserver.authz.chain import AlwaysAllow, Union
from tiphys.apiserver.authz.config import AuthorizationSettings, AuthorizerConfiguration, Webhook
from tiphys.apiserver.authz.node import NodeAuthorizer
from tiphys.apiserver.authz.rbac import RbacAuthorizer
from tiphys.apiserver.types import Authorizer, RequestInfo
from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent
from tiphys.base.identity import User


class ConfiguredAuthorizer:
    """The union of the configured authorizers; `run` keeps it up to date. Raises Permanent when made."""

    def __init__(
        self, settings: AuthorizationSettings, node: Callable[[], NodeAuthorizer], rbac: RbacAuthorizer, clock: Clock
    ) -> None:
        self._node, self._rbac, self._clock, self._file = node, rbac, clock, settings.file
        self._inner = self._make(settings)

    @property
    def needed(self) -> bool:
        """Whether `run` has anything to do."""
        return self._file is not None

    @property
    def allows_all(self) -> bool:
        return isinstance(self._inner, AlwaysAllow)

    @property
    def asks_webhooks(self) -> bool:
        """Whether somebody elsewhere decides too."""
        return self._remote

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        return await self._inner.authorize(user, info)

    async def run(self) -> None:
        """Follow the file until cancelled."""
        if self._file is not None:
            async with configfile.watched(self._file, self._reload):
                await asyncio.get_running_loop().create_future()

    async def _reload(self) -> None:
        assert self._file is not None
        settings = config.load(self._file)
        local = {each.type for each in settings.authorizers} - {"Webhook"}
        if local != self._types:
            raise Permanent(f"the types of authorizers cannot change while the server runs: {', '.join(sorted(local))}")
        self._inner = self._make(settings)

    def _make(self, settings: AuthorizationSettings) -> Authorizer:
        self._types = {each.type for each in settings.authorizers} - {"Webhook"}
        self._remote = any(each.type == "Webhook" for each in settings.authorizers)
        made = [self._one(each) for each in settings.authorizers]
        return made[0] if len(made) == 1 and isinstance(made[0], AlwaysAllow) else Union(made)

    def _one(self, entry: AuthorizerConfiguration) -> Authorizer:
        if entry.type == "AlwaysAllow":
            return AlwaysAllow()
        if entry.type == "Node":
            return self._node()
        if entry.type == "RBAC":
            return self._rbac
        return Union(()) if entry.webhook is None else self._webhook(entry.webhook)

    def _webhook(self, webhook: Webhook) -> Authorizer:
        from tiphys.apiserver.authz.webhook import WebhookAuthorizer
        from tiphys.apiserver.reviewer import Patience, RemoteReviewer

        patience = Patience(timeout=webhook.timeout)
        return WebhookAuthorizer(RemoteReviewer(webhook.kubeconfig, self._clock, patience), webhook.rules, self._clock)
