"""Images for containers and volumes: by pull policy, with credentials, records and upstream's events and reasons.

Where credentials come from: the pod's imagePullSecrets, docker configuration files of the node, and plugins. Which
sufficed is noted (registries/records.py): an image that is here may be used by whom the policy lets, others pull it
again. Sources: "Images" in the documentation, KEP-2535.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.base.metrics import Registry
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.podspec import Object, namespace_of
from tiphys.kubelet.registries.counts import ImageCounts
from tiphys.kubelet.registries.keyring import Keyring, Login, keyring_of
from tiphys.kubelet.registries.nodefiles import node_keyring
from tiphys.kubelet.registries.plugins import Plugins
from tiphys.kubelet.registries.records import PullRecords, may_use, repository_of
from tiphys.kubelet.registries.throttle import Throttle, TooManyPulls
from tiphys.kubelet.registries.verification import policy
from tiphys.kubelet.sources import ObjectSources
from tiphys.runtime.images.reference import parse
from tiphys.runtime.types import Image, ImageStore, InvalidSpec, NoSuchImage

log = logging.getLogger(__name__)

Tell = Callable[[str, str, str], None]
"""Records an event: its type, reason and message."""

_NAME = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/|\[[0-9a-fA-F:]+\](?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?"
)


class ImageError(TiphysError):
    """No image; `reason` is that of the container's waiting state, `image` its name as the pod has it."""

    def __init__(self, reason: str, message: str, image: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.image = image


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that a pod asks for."""

    name: str
    policy: str = "IfNotPresent"


class Images:
    """Makes sure that images are present."""

    def __init__(
        self,
        config: KubeletConfig,
        store: ImageStore,
        clock: Clock,
        sources: ObjectSources,
        plugins: Plugins | None = None,
        counts: ImageCounts | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._sources = sources
        self._plugins = plugins
        self._counts = counts or ImageCounts(Registry())
        parallel = 1 if config.serialize_image_pulls else config.max_parallel_pulls
        self._throttle = Throttle(config.registry_qps, config.registry_burst, clock) if config.registry_qps else None
        self._slots = asyncio.Semaphore(parallel) if parallel else nullcontext()
        self._must_verify = policy(config.image_verification_policy, config.image_verification_allowlist)
        self._records = PullRecords(config.image_dir or config.root_dir, clock)
        self._counts.intents.function = self._records.count_intents
        self._counts.pulled.function = self._records.count_pulled
        self._recovered = False

    async def ensure(self, pod: Object, wanted: Wanted, tell: Tell) -> Image:
        """The image, pulled if need be. Raises ImageError after telling why."""
        name = wanted.name
        if not _NAME.fullmatch(name):
            text = f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": '
            text += "invalid reference format"
            tell("Warning", "InspectFailed", text)
            raise ImageError("InvalidImageName", text, name)
        ring = _Lazy(self, pod, name)
        image = await self._present(name, tell) if wanted.policy != "Always" else None
        usable = image is not None and await self._may_use(name, image, ring)
        self._counts.ensured(wanted.policy, None if wanted.policy == "Always" else image is not None, not usable)
        if image is not None and usable:
            already = f'Container image "{name}" already present on machine and can be accessed by the pod'
            tell("Normal", "Pulled", already)
            return image
        if wanted.policy == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", text)
            raise ImageError("ErrImageNeverPull", text, name)
        return await self._pull(name, await ring.logins(), tell)

    async def _present(self, name: str, tell: Tell) -> Image | None:
        """The image if it is here. Raises ImageError where nobody can tell."""
        try:
            await self._recover()
            return await self._store.get(name)
        except (TiphysError, OSError) as error:
            text = f'Failed to inspect image "": {_rpc_error(error)}'
            tell("Warning", "InspectFailed", text)
            raise ImageError("ImageInspectError", text, name) from error

    async def _recover(self) -> None:
        if not self._recovered:
            self._recovered = True
            self._records.recover(await self._store.list())

    async def _may_use(self, name: str, image: Image, ring: _Lazy) -> bool:
        """Whether the pod may use an image that is here without asking its registry."""
        record = self._records.pulled(image.id)
        if not self._must_verify(name, record is not None or self._records.is_under_way(name)):
            self._counts.checks.inc("credentialPolicyAllowed")
            return True
        known = ((record or {}).get("credentialMapping") or {}).get(repository_of(name))
        logins = await ring.logins() if known and not known.get("nodePodsAccessible") else ()
        allowed, worth_noting = may_use(known, logins)
        self._counts.checks.inc("credentialRecordFound" if allowed else "mustAuthenticate")
        if worth_noting is not None:
            self._records.learn(name, image.id, worth_noting)
        return allowed

    async def _pull(self, name: str, logins: Sequence[Login], tell: Tell) -> Image:
        tell("Normal", "Pulling", f'Pulling image "{name}"')
        asked = self._clock.monotonic()
        try:
            self._records.begin(name)
            async with self._slots:
                started = self._clock.monotonic()
                image, login = await self._pull_as(name, logins)
                took = self._clock.monotonic() - started
            if image.pinned and login is None:  # loaded by the machine's user, for every pod, by whatever name
                self._records.failed(name)
            else:
                self._records.succeeded(name, image.id, login)
        except (TiphysError, OSError) as error:
            self._records.failed(name)
            text = _rpc_error(error)
            tell("Warning", "Failed", f'Failed to pull image "{name}": {text}')
            raise ImageError("ErrImagePull", text, name) from error
        except BaseException:
            self._records.failed(name)
            raise
        whole = self._clock.monotonic() - asked
        tell(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{name}" in {duration(took)} ({duration(whole)} including waiting). '
            f"Image size: {image.size} bytes.",
        )
        return image

    async def _pull_as(self, name: str, logins: Sequence[Login]) -> tuple[Image, Login | None]:
        """With each login in turn; without any only when there is none. Raises the one error, or all of them."""
        if self._throttle is not None:
            self._throttle.take()
        if not logins:
            return await self._store.pull(name), None
        failures: list[TiphysError | OSError] = []
        for login in logins:
            try:
                return await self._store.pull(name, (login.credential,)), login
            except (TiphysError, OSError) as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        raise TiphysError("[" + ", ".join(map(_rpc_error, failures)) + "]") from failures[0]

    async def logins(self, pod: Object, name: str) -> list[Login]:
        """All that may be tried for an image: the pod's own Secrets, then what the node has."""
        repository = parse(name).repository
        secrets = [
            secret
            for reference in pod["spec"].get("imagePullSecrets") or ()
            if (secret := self._secret(pod, reference)) is not None
        ]
        try:
            found = keyring_of(secrets).lookup(repository)
        except ValueError as error:
            raise ImageError("ErrImagePull", f"a pull secret cannot be read: {error}", name) from error
        found += node_keyring(self._config.root_dir).lookup(repository)
        if self._plugins is not None:
            ring: Keyring = await self._plugins.keyring(pod, repository)
            found += ring.lookup(repository)
        return found

    def _secret(self, pod: Object, reference: Any) -> Object | None:
        return self._sources.secret(namespace_of(pod), str(reference.get("name") or ""))


class _Lazy:
    """Credentials for one image, looked up once and only when they are needed."""

    def __init__(self, images: Images, pod: Object, name: str) -> None:
        self._images, self._pod, self._name = images, pod, name
        self._found: list[Login] | None = None

    async def logins(self) -> list[Login]:
        if self._found is None:
            try:
                self._found = await self._images.logins(self._pod, self._name)
            except InvalidSpec as error:
                raise ImageError("InvalidImageName", str(error), self._name) from error
        return self._found


def _rpc_error(error: BaseException) -> str:
    """As kubelet shows what a runtime answered."""
    text = str(error)
    if text.startswith("[") or isinstance(error, TooManyPulls):
        return text
    return f"rpc error: code = {'NotFound' if isinstance(error, NoSuchImage) else 'Unknown'} desc = {text}"


def duration(seconds: float) -> str:
    """As Go prints a duration that is cut to milliseconds: 0s, 12ms, 1.234s, 1m2.5s."""
    millis = int(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms" if millis else "0s"
    minutes, rest = divmod(millis, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{text}" if minutes else text
