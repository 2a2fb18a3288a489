"""Who asks and whether they may: token issuer, authenticators and authorizers of one server, made from its
configuration, and the tasks that keep them up to date.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from tiphys.apiserver.authn import ServiceAccounts, TokenAuthenticator, authenticate
from tiphys.apiserver.authn.bootstrap_token import BootstrapTokens
from tiphys.apiserver.authn.request_header import clearing
from tiphys.apiserver.authn.service_account import LAST_USED
from tiphys.apiserver.authn.sources import AudienceAgnostic, RemoteTokens
from tiphys.apiserver.authz import NodeAuthorizer, RbacAuthorizer
from tiphys.apiserver.authz.build import ConfiguredAuthorizer
from tiphys.apiserver.authz.flags import of_modes
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.tokens import TokenIssuer, TokenSettings, new_key
from tiphys.apiserver.types import Object
from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.base.http.types import Handler, Middleware
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.client.resources import SECRETS
from tiphys.client.types import MERGE_PATCH

if TYPE_CHECKING:
    from tiphys.apiserver.audit.link import Auditor

log = logging.getLogger(__name__)

APISERVER = User("system:apiserver", groups=("system:masters",))


class Security:
    """See the module's docstring. Raises Permanent for a configuration that makes no sense."""

    def __init__(self, config: ApiServerConfig, caches: Caches, rbac: RbacAuthorizer, clock: Clock) -> None:
        self._config, self._caches, self._clock = config, caches, clock
        self.issuer = _issuer(config, clock)
        self.handler: Handler | None = None
        """The server's own, as soon as it is there."""
        settings = config.authorization or of_modes(config.authorization_modes)
        self.authorizer = ConfiguredAuthorizer(settings, self._node_authorizer, rbac, clock)
        self.uses_rbac = any(each.type == "RBAC" for each in settings.authorizers)
        own_issuers = (config.service_account_issuer, *config.authentication.further_issuers)
        self._remote = RemoteTokens(config.authentication, clock, self.issuer.audiences, own_issuers)
        self._remote.apply_anonymous(config.anonymous)
        self.tokens = self._tokens()
        self._auditor: Auditor | None = None

    @contextlib.asynccontextmanager
    async def audited(self) -> AsyncIterator[None]:
        """While it lasts, requests are audited, if the configuration says so."""
        settings = self._config.audit
        if settings is None or settings.policy_file is None or not (settings.log or settings.webhook):
            yield
            return
        from tiphys.apiserver.audit import link, policy, sinks

        async with sinks.opened(settings, self._clock) as sink:
            self._auditor = link.Auditor(policy.load(settings.policy_file), sink, self._clock)
            yield

    def links(self) -> list[Middleware]:
        """The links of the chain that authenticate, and audit what came of it."""
        auditor = self._auditor
        if auditor is None:
            return [self._authentication()]
        return [auditor.failed_link(), self._authentication(), auditor.link()]

    def _authentication(self) -> Middleware:
        return authenticate(
            self._config.authenticators,
            self.tokens,
            audiences=self.issuer.audiences,
            anonymous=self._remote.anonymous,
            clear=clearing(self._config.authentication.request_headers),
        )

    async def run(self) -> None:
        """Keep everything up to date; returns at once when there is nothing to keep."""
        async with asyncio.TaskGroup() as tasks:
            if self._remote.needed:
                tasks.create_task(self._remote.run(), name="remote tokens")
            if self.authorizer.needed:
                tasks.create_task(self.authorizer.run(), name="authorization configuration")

    def _node_authorizer(self) -> NodeAuthorizer:
        pods = self._caches.of("", "pods")

        def pods_of(node: str) -> list[Object]:
            return [pods.obj(entry) for entry in pods.triggered(node)]

        return NodeAuthorizer(self._caches, pods_of)

    def _tokens(self) -> Sequence[TokenAuthenticator]:
        """In upstream's order: local ones first."""
        config, audiences = self._config, self.issuer.audiences
        static = [AudienceAgnostic(each, audiences) for each in config.token_authenticators]
        accounts = ServiceAccounts(self.issuer, self._caches, self._clock, self._mark_used)
        tokens: list[TokenAuthenticator] = [*static, accounts]
        if config.bootstrap_tokens:
            tokens.append(AudienceAgnostic(BootstrapTokens(self._caches, self._clock), audiences))
        if self._remote.needed:
            tokens.append(self._remote)
        return tokens

    async def _mark_used(self, secret: Object, date: str) -> None:
        if self.handler is None:
            return
        metadata = secret["metadata"]
        patch = {"metadata": {"uid": metadata["uid"], "labels": {LAST_USED: date}}}
        client = LocalClient(self.handler, APISERVER, agent="kube-apiserver")
        try:
            await client.patch(SECRETS, metadata["name"], patch, metadata["namespace"], type=MERGE_PATCH)
        except ApiError as error:
            log.warning("secret %s/%s: cannot be marked as used: %s", metadata["namespace"], metadata["name"], error)


def _issuer(config: ApiServerConfig, clock: Clock) -> TokenIssuer:
    settings = config.authentication
    return TokenIssuer(
        config.service_account_key or new_key(),
        issuer=config.service_account_issuer,
        audiences=config.api_audiences,
        clock=clock,
        verification_keys=settings.verification_keys,
        accepted_issuers=settings.further_issuers,
        settings=TokenSettings(settings.longest_token, settings.extend_tokens, settings.jwks_uri),
    )
