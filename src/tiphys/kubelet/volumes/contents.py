"""What volumes that the kubelet fills contain: configMap, secret, downwardAPI and projected ones.

Several sources of a projected volume may fail: all that is wrong is said at once, as upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.kubelet.downward import PodFacts
from tiphys.kubelet.podspec import namespace_of, uid_of
from tiphys.kubelet.sources import ObjectSources
from tiphys.kubelet.volumes import payload
from tiphys.kubelet.volumes.ownership import single_user
from tiphys.kubelet.volumes.payload import File, Payload, VolumeError
from tiphys.kubelet.volumes.tokens import DEFAULT_EXPIRATION, Tokens

FILLED = frozenset({"configMap", "secret", "projected", "downwardAPI"})
"""Kinds of volumes that the kubelet fills; containers may only read them."""
DEFAULT_MODE = 0o644
_PRIVATE = 0o600


class Contents:
    """Makes payloads, and remembers when the tokens in them are due for renewal."""

    def __init__(self, sources: ObjectSources, tokens: Tokens) -> None:
        self._sources = sources
        self._tokens = tokens
        self._renewals: dict[str, float] = {}

    def renew_at(self, uid: str) -> float | None:
        """When a token of the pod is due for renewal; None if it has none."""
        return self._renewals.get(uid)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._renewals.pop(uid, None)
        self._tokens.forget(uid)

    async def make(self, facts: PodFacts, kind: str, spec: Mapping[str, Any]) -> Payload:
        """The files of one volume. Raises VolumeError."""
        own = spec.get("defaultMode")
        mode = DEFAULT_MODE if own is None else int(own)
        if kind == "projected":
            return await self._projected(facts, spec, mode)
        return self._one(facts, kind, spec, mode)

    def _one(self, facts: PodFacts, kind: str, spec: Mapping[str, Any], mode: int) -> Payload:
        if kind == "downwardAPI":
            return payload.downward_files(facts, spec.get("items") or (), mode)
        config = kind == "configMap"
        name, optional = str(spec.get("secretName") or spec.get("name") or ""), bool(spec.get("optional"))
        find = self._sources.config_map if config else self._sources.secret
        found = find(namespace_of(facts.pod), name)
        if found is None and not optional:
            raise VolumeError(f'{kind.lower()} "{name}" not found')
        data = payload.decode_config_map(found or {}) if config else payload.decode_secret(found or {})
        missing = "configmap references non-existent config key" if config else "references non-existent secret key"
        return payload.pick(data, spec.get("items"), mode, optional, missing)

    async def _projected(self, facts: PodFacts, spec: Mapping[str, Any], mode: int) -> Payload:
        files: Payload = {}
        wrong = []
        for source in spec.get("sources") or ():
            try:
                files |= await self._source(facts, source, mode)
            except VolumeError as error:
                wrong.append(str(error))
        if wrong:
            raise VolumeError(payload.aggregate(wrong))
        return files

    async def _source(self, facts: PodFacts, source: Mapping[str, Any], mode: int) -> Payload:
        if token := source.get("serviceAccountToken"):
            return await self._token(facts, token, mode)
        kind = next((kind for kind in ("configMap", "secret", "downwardAPI") if source.get(kind)), None)
        if kind is None:
            raise VolumeError(f"projected sources of type {', '.join(source)} are not supported by this node")
        return self._one(facts, kind, source[kind], mode)

    async def _token(self, facts: PodFacts, spec: Mapping[str, Any], mode: int) -> Payload:
        """The token's file: private where it is known who reads it, the containers' one user or the pod's group."""
        uid = uid_of(facts.pod)
        seconds = int(spec.get("expirationSeconds") or DEFAULT_EXPIRATION)
        token = await self._tokens.get(facts.pod, str(spec.get("audience") or ""), seconds)
        self._renewals[uid] = min(token.renew_at, self._renewals.get(uid, token.renew_at))
        owner = single_user(facts.pod)
        if owner is not None or (facts.pod["spec"].get("securityContext") or {}).get("fsGroup") is not None:
            mode = _PRIVATE
        return {payload.clean_path(spec["path"]): File(token.text.encode(), mode, owner)}

    def begin(self, uid: str) -> None:
        """All payloads of the pod are about to be made afresh."""
        self._renewals.pop(uid, None)
