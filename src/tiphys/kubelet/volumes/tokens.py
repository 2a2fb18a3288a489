"""Service account tokens for projected volumes: asked of the API server, bound to the pod, renewed in time."""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.base.clock import Clock, parse_rfc3339
from tiphys.base.errors import ApiError
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.client.types import Client
from tiphys.kubelet.podspec import Object, name_of, namespace_of, uid_of
from tiphys.kubelet.volumes.payload import VolumeError

_DAY = 24 * 3600.0
DEFAULT_EXPIRATION = 3600


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    issued_at: float
    expires_at: float

    @property
    def renew_at(self) -> float:
        """At 80 % of its life, or after a day."""
        return min(self.issued_at + 0.8 * (self.expires_at - self.issued_at), self.issued_at + _DAY)


class Tokens:
    """Tokens in use, by pod, audience and lifetime."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, str, int], Token] = {}

    async def get(self, pod: Object, audience: str, seconds: int) -> Token:
        """A token that is not due for renewal. Raises VolumeError when there is none to be had."""
        key = (uid_of(pod), audience, seconds)
        known = self._tokens.get(key)
        now = self._clock.time()
        if known is not None and now < known.renew_at:
            return known
        try:
            token = await self._request(pod, audience, seconds)
        except ApiError as error:
            if known is not None and now < known.expires_at:
                return known
            raise VolumeError(f"failed to fetch token: {error}") from error
        self._tokens[key] = token
        return token

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]

    async def _request(self, pod: Object, audience: str, seconds: int) -> Token:
        spec = {
            "audiences": [audience] if audience else [],
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod)},
        }
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        account = pod["spec"].get("serviceAccountName") or "default"
        answer = await self._client.create(
            SERVICE_ACCOUNTS, request, namespace_of(pod), name=account, subresource="token"
        )
        status = answer["status"]
        return Token(status["token"], self._clock.time(), parse_rfc3339(status["expirationTimestamp"]))
