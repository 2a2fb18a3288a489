"""Credential provider plugins: programs that are asked for credentials when an image of theirs is to be pulled.

Their configuration is a CredentialProviderConfig (kubelet.config.k8s.io/v1), a file or a directory of files; the
question and the answer are credentialprovider.kubelet.k8s.io/v1 (or v1beta1, v1alpha1) objects on stdin and stdout.
Sources: "Configure a kubelet image credential provider", KEP-2133, KEP-4412.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Permanent, TiphysError
from tiphys.base.metrics import Registry
from tiphys.kubelet.podspec import Object, namespace_of
from tiphys.kubelet.registries.counts import ImageCounts
from tiphys.kubelet.registries.keyring import Keyring, Origin, matches
from tiphys.kubelet.registries.providers import Provider

log = logging.getLogger(__name__)

TIMEOUT = 60.0
"""Seconds that a plugin may take."""


@dataclass(frozen=True, slots=True)
class Account:
    """A pod's ServiceAccount, as far as a plugin is told of it."""

    origin: Origin
    token: str
    annotations: Mapping[str, str]


GetAccount = Callable[[Object, Provider], Awaitable[Account]]
"""The account of a pod with a token for the provider's audience. Raises ApiError; LookupError when it lacks an
annotation that the provider requires."""


class PluginFailed(TiphysError):
    """A plugin gave no usable answer; the message says why."""


@dataclass(frozen=True, slots=True)
class _Cached:
    until: float
    auth: Mapping[str, Any]


class Plugins:
    """The plugins of one kubelet, with what they said before."""

    def __init__(
        self,
        providers: Sequence[Provider],
        directory: Path,
        clock: Clock,
        account: GetAccount,
        counts: ImageCounts | None = None,
    ) -> None:
        for provider in providers:
            if not os.access(directory / provider.name, os.X_OK):
                raise Permanent(f"plugin binary executable {directory / provider.name} did not exist")
        self._providers = providers
        self._directory = directory
        self._clock = clock
        self._account = account
        self._counts = counts or ImageCounts(Registry())
        self._cache: dict[tuple[Any, ...], _Cached] = {}
        self._locks: WeakValueDictionary[tuple[Any, ...], asyncio.Lock] = WeakValueDictionary()

    async def keyring(self, pod: Object, repository: str) -> Keyring:
        """What the plugins say for a repository; a plugin that fails is logged and says nothing."""
        ring = Keyring()
        for provider in self._providers:
            if any(matches(pattern, repository) for pattern in provider.match_images):
                try:
                    await self._ask(ring, provider, pod, repository)
                except (PluginFailed, ApiError, OSError) as error:
                    log.warning("credential provider %s, image %s: %s", provider.name, repository, error)
        return ring

    async def _ask(self, ring: Keyring, provider: Provider, pod: Object, repository: str) -> None:
        account = None
        if provider.audience:
            if pod["spec"].get("serviceAccountName"):
                try:
                    account = await self._account(pod, provider)
                except LookupError as error:
                    log.debug("credential provider %s is not asked for %s: %s", provider.name, repository, error)
                    return
            elif provider.require_account:
                return
        whose = _whose(provider, account)
        lock = self._locks.setdefault((provider.name, repository, whose), asyncio.Lock())
        async with lock:
            auth = self._known(provider, repository, whose)
            if auth is None:
                auth = await self._run(provider, repository, account, whose)
        ring.add(auth, account.origin if account is not None else None)

    def _known(self, provider: Provider, repository: str, whose: tuple[Any, ...]) -> Mapping[str, Any] | None:
        now = self._clock.time()
        self._cache = {key: entry for key, entry in self._cache.items() if entry.until > now}
        for scope in (repository, repository.partition("/")[0], ""):
            if (entry := self._cache.get((provider.name, scope, whose))) is not None:
                return entry.auth
        return None

    async def _run(
        self, provider: Provider, repository: str, account: Account | None, whose: tuple[Any, ...]
    ) -> Mapping[str, Any]:
        question: dict[str, Any] = {
            "kind": "CredentialProviderRequest",
            "apiVersion": provider.api_version,
            "image": repository,
        }
        if account is not None:
            question["serviceAccountToken"] = account.token
            if account.annotations:
                question["serviceAccountAnnotations"] = dict(account.annotations)
        began = self._clock.monotonic()
        try:
            out = await self._exec(provider, repository, json.dumps(question).encode())
        except (PluginFailed, OSError):
            self._counts.plugin_errors.inc(provider.name)
            raise
        finally:
            self._counts.plugin_seconds.observe(self._clock.monotonic() - began, provider.name)
        answer = _checked(out, provider)
        auth: Mapping[str, Any] = answer.get("auth") or {}
        if account is not None and provider.cache_type != "Token":
            _check_not_echoed(auth, account.token)
        scope = _scope(answer, repository)
        seconds = provider.cache_seconds
        if answer.get("cacheDuration") is not None:
            seconds = _seconds(str(answer["cacheDuration"]))
        if seconds > 0:
            self._cache[provider.name, scope, whose] = _Cached(self._clock.time() + seconds, auth)
        return auth

    async def _exec(self, provider: Provider, repository: str, question: bytes) -> bytes:
        program = str(self._directory / provider.name)
        process = await asyncio.create_subprocess_exec(
            program,
            *provider.args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **dict(provider.env)},
        )
        failed = f"error execing credential provider plugin {provider.name} for image {repository}"
        try:
            async with asyncio.timeout(TIMEOUT):
                out, err = await process.communicate(question)
        except TimeoutError as error:
            raise PluginFailed(f"{failed}: context deadline exceeded") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise PluginFailed(f"{failed}: exit status {process.returncode}: {err.decode(errors='replace')}")
        return out


def _whose(provider: Provider, account: Account | None) -> tuple[Any, ...]:
    """What credentials in the cache are bound to."""
    if account is None:
        return ()
    bound = account.token if provider.cache_type == "Token" else account.origin
    return bound, tuple(sorted(account.annotations.items()))


def _checked(out: bytes, provider: Provider) -> Mapping[str, Any]:
    try:
        answer = json.loads(out)
    except ValueError as error:
        raise PluginFailed("error decoding credential provider plugin response from stdout") from error
    if not isinstance(answer, Mapping) or answer.get("apiVersion") != provider.api_version:
        found = answer.get("apiVersion") if isinstance(answer, Mapping) else ""
        raise PluginFailed(
            "apiVersion from credential plugin response did not match expected "
            f"apiVersion:{provider.api_version}, actual apiVersion:{found}"
        )
    return answer


def _scope(answer: Mapping[str, Any], repository: str) -> str:
    """What the answer holds for: this image, its registry, or all ("")."""
    kind = answer.get("cacheKeyType")
    scopes = {"Image": repository, "Registry": repository.partition("/")[0], "Global": ""}
    if kind not in scopes:
        raise PluginFailed(f"credential provider plugin did not return a valid cacheKeyType: {kind}")
    return scopes[kind]


def _check_not_echoed(auth: Mapping[str, Any], token: str) -> None:
    if any(entry.get("password") == token for entry in auth.values()):
        raise PluginFailed(
            "credential provider plugin returned the service account token as the password which is not allowed "
            "when service account cache type is not set to 'Token'"
        )


def _seconds(text: str) -> float:
    from tiphys.base.durations import parse_duration

    try:
        return parse_duration(text)
    except Permanent as error:
        raise PluginFailed(f"cacheDuration: {error}") from error


def account_of(pod: Object, account: Object, provider: Provider, token: str) -> Account:
    """What `provider` is told of a pod's account. Raises LookupError when a required annotation is missing."""
    meta = account["metadata"]
    annotations: Mapping[str, str] = meta.get("annotations") or {}
    for key in provider.required_annotations:
        if key not in annotations:
            raise LookupError(f"required annotation {key} not found")
    kept = (*provider.required_annotations, *provider.optional_annotations)
    origin = Origin("ServiceAccount", namespace_of(pod), str(meta["name"]), str(meta.get("uid") or ""))
    return Account(origin, token, {key: annotations[key] for key in kept if key in annotations})
