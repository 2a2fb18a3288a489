"""All token authenticators of a server, and what keeps them up to date: keys of issuers, the configuration's file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tiphys.apiserver.authn.chain import Anonymous, Refused, TokenAuthenticator, aggregate
from tiphys.apiserver.authn.settings import AuthenticationSettings
from tiphys.base.clock import Clock
from tiphys.base.identity import User

if TYPE_CHECKING:
    from tiphys.apiserver.authn.oidc.keys import IssuerKeys
    from tiphys.apiserver.reviewer import RemoteReviewer

log = logging.getLogger(__name__)

AGAIN = 10.0
"""Seconds until an issuer that could not be asked is asked again."""
Found = tuple[User, tuple[str, ...]] | None


class AudienceAgnostic:
    """Tokens that say nothing of audiences: they are for this server's, and for nobody else."""

    def __init__(self, inner: TokenAuthenticator, audiences: Sequence[str]) -> None:
        self._inner, self._audiences = inner, tuple(audiences)

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Found:
        common = tuple(each for each in self._audiences if each in audiences)
        if audiences and not common:
            return None
        found = await self._inner.authenticate_token(token, common)
        return None if found is None else (found[0], common)


class RemoteTokens:
    """Tokens of other issuers and of the webhook: a TokenAuthenticator whose parts a reload replaces."""

    def __init__(
        self, settings: AuthenticationSettings, clock: Clock, audiences: Sequence[str], own_issuers: Sequence[str]
    ) -> None:
        self._settings, self._clock = settings, clock
        self._audiences, self._own_issuers = tuple(audiences), tuple(own_issuers)
        self._webhook: list[TokenAuthenticator] = []
        self._issuers: list[TokenAuthenticator] = []
        self.anonymous = Anonymous()

    @property
    def needed(self) -> bool:
        """Whether there is anything besides this server's own tokens."""
        settings = self._settings
        issuers = settings.configuration.issuers if settings.configuration else ()
        return bool(settings.webhook or settings.configuration_file or issuers)

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Found:
        reasons: list[str] = []
        for authenticator in (*self._issuers, *self._webhook):
            try:
                found = await authenticator.authenticate_token(token, audiences)
            except Refused as error:
                reasons.append(str(error))
                continue
            if found is not None:
                return found
        if reasons:
            raise Refused(aggregate(reasons))
        return None

    async def run(self) -> None:
        """Keep issuers' keys and the configuration up to date until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            if self._settings.webhook is not None:
                stack.push_async_callback(self._make_webhook().close)
            self._replace(tasks)
            path = self._settings.configuration_file
            if path is not None:
                from tiphys.apiserver import configfile

                await stack.enter_async_context(configfile.watched(path, lambda: self._reload(tasks)))
            await asyncio.get_running_loop().create_future()

    def apply_anonymous(self, default: bool) -> None:
        """Take over what the configuration says of anonymous requests."""
        said = self._settings.configuration.anonymous if self._settings.configuration else None
        self.anonymous.enabled, self.anonymous.paths = said if said is not None else (default, None)

    def _make_webhook(self) -> RemoteReviewer:
        from tiphys.apiserver.authn.webhook import WebhookTokens
        from tiphys.apiserver.reviewer import RemoteReviewer

        settings = self._settings.webhook
        assert settings is not None
        reviewer = RemoteReviewer(settings.kubeconfig, self._clock)
        self._webhook = [
            WebhookTokens(
                reviewer, self._clock, version=settings.version, audiences=self._audiences, seconds=settings.seconds
            )
        ]
        return reviewer

    def _replace(self, tasks: asyncio.TaskGroup) -> None:
        from tiphys.apiserver.authn.oidc.authenticator import IssuerTokens
        from tiphys.apiserver.authn.oidc.keys import IssuerKeys

        made: list[TokenAuthenticator] = []
        for issuer in self._settings.configuration.issuers if self._settings.configuration else ():
            keys = IssuerKeys(issuer, self._clock)
            made.append(IssuerTokens(issuer, keys, self._clock, self._audiences, self._settings.algorithms))
            tasks.create_task(self._first_keys(issuer.url, keys), name=f"keys of {issuer.url}")
        self._issuers = made

    async def _first_keys(self, url: str, keys: IssuerKeys) -> None:
        """Ask until the issuer has answered once; from then on keys are fetched when they are needed."""
        while True:
            await keys.fetch()
            if keys.ready:
                return
            log.warning("oidc authenticator: initializing plugin: %s: %s", url, keys.failure)
            await self._clock.sleep(AGAIN)

    async def _reload(self, tasks: asyncio.TaskGroup) -> None:
        from tiphys.apiserver.authn.oidc import config

        path = self._settings.configuration_file
        assert path is not None
        new = config.load(path, self._own_issuers)
        old = self._settings.configuration
        if old is None or new.anonymous != old.anonymous:
            log.info("anonymous requests follow the configuration after a restart")
        self._settings = replace(self._settings, configuration=new)
        self._replace(tasks)
