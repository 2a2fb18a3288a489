"""Sets up the volumes of pods under root_dir/pods/UID/volumes and keeps their contents current.

`ensure` may be called again at any time: what is there already is left as it is, what changed is renewed.
ConfigMaps and Secrets are watched (sources.py), tokens have a date: nothing is polled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.base.files import remove_tree
from tiphys.client.types import Client
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.downward import PodFacts
from tiphys.kubelet.env import references
from tiphys.kubelet.podspec import Object, all_containers, namespace_of, uid_of
from tiphys.kubelet.sources import Key, ObjectSources
from tiphys.kubelet.volumes import emptydir, hostpath, payload
from tiphys.kubelet.volumes.atomic import write_payload
from tiphys.kubelet.volumes.claims import Claimed, Claims
from tiphys.kubelet.volumes.payload import File, Payload, VolumeError
from tiphys.kubelet.volumes.tokens import DEFAULT_EXPIRATION, Tokens

log = logging.getLogger(__name__)

_PLUGINS = {
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "projected": "kubernetes.io~projected",
    "downwardAPI": "kubernetes.io~downward-api",
    "emptyDir": "kubernetes.io~empty-dir",
}


_CLAIMS = ("persistentVolumeClaim", "ephemeral")


class VolumesError(TiphysError):
    """Volumes that could not be set up: one event text each in `messages`."""

    def __init__(self, messages: tuple[str, ...]) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages


class VolumeManager:
    """Volumes of all pods of a node."""

    def __init__(self, config: KubeletConfig, client: Client, clock: Clock, sources: ObjectSources) -> None:
        self._config = config
        self._clock = clock
        self._sources = sources
        self._tokens = Tokens(client, clock)
        self._claims = Claims(client)
        self._claimed: dict[str, dict[str, Claimed]] = {}
        """Of each pod, by its uid: what its volumes of claims are."""
        self._renewals: dict[str, float] = {}

    async def ensure(self, facts: PodFacts) -> None:
        """Set up every volume of the pod. Raises VolumesError."""
        pod = facts.pod
        # Secrets below, and set-uid programs of containers: nothing for other users of the host.
        self._config.pods_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        await self._sources.use(uid_of(pod), self._references(pod))
        self._renewals.pop(uid_of(pod), None)
        messages = []
        for volume in pod["spec"].get("volumes") or ():
            try:
                await self._ensure_one(facts, volume)
            except VolumeError as error:
                messages.append(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}')
        if messages:
            raise VolumesError(tuple(messages))

    def renew_at(self, uid: str) -> float | None:
        """When a token of the pod is due for renewal; None if it has none."""
        return self._renewals.get(uid)

    def path(self, pod: Object, name: str) -> Path:
        """Where a volume is on this host. Raises VolumeError."""
        volume = next((one for one in pod["spec"].get("volumes") or () if one["name"] == name), None)
        if volume is None:
            raise VolumeError(f'cannot find volume "{name}"')
        if "hostPath" in volume:
            return Path(str(volume["hostPath"]["path"]))
        if _source(volume) in _CLAIMS:
            claimed = self._claimed.get(uid_of(pod), {}).get(name)
            if claimed is None:
                raise VolumeError(f'volume "{name}" is not set up')
            return claimed.path
        return self._root(pod, volume)

    def is_readonly(self, pod: Object, name: str) -> bool:
        """Whether containers may only read a volume, whatever their mounts say."""
        claimed = self._claimed.get(uid_of(pod), {}).get(name)
        return _is_filled(pod, name) or (claimed is not None and claimed.readonly)

    def tear_down(self, uid: str) -> None:
        """Unmount and remove all volumes and files of the pod."""
        self._sources.release(uid)
        self._tokens.forget(uid)
        self._claimed.pop(uid, None)
        self._renewals.pop(uid, None)
        directory = self._config.pod_dir(uid)
        for mount in directory.glob("volumes/kubernetes.io~empty-dir/*"):
            emptydir.unmount(mount)
        remove_tree(directory)

    def _root(self, pod: Object, volume: Mapping[str, Any]) -> Path:
        source = _source(volume)
        if source not in _PLUGINS:
            raise VolumeError(f"volumes of type {source} are not supported by this node")
        return self._config.pod_dir(uid_of(pod)) / "volumes" / _PLUGINS[source] / str(volume["name"])

    async def _ensure_one(self, facts: PodFacts, volume: Mapping[str, Any]) -> None:
        source = _source(volume)
        if source == "hostPath":
            hostpath.prepare_host_path(volume["hostPath"])
            return
        if source in _CLAIMS:
            known = self._claimed.setdefault(uid_of(facts.pod), {})
            if volume["name"] not in known:
                known[volume["name"]] = await self._claims.prepare(facts.pod, volume)
            return
        root = self._root(facts.pod, volume)
        group = (facts.pod["spec"].get("securityContext") or {}).get("fsGroup")
        if source == "emptyDir":
            emptydir.prepare_empty_dir(root, volume.get("emptyDir") or {}, group)
            return
        maker: Callable[[PodFacts, Mapping[str, Any], int], Awaitable[Payload]] = getattr(self, f"_{source.lower()}")
        spec = volume[source] or {}
        mode = spec.get("defaultMode")
        files = await maker(facts, spec, 0o644 if mode is None else int(mode))
        if group is not None:
            files = {path: File(file.data, file.mode | 0o040) for path, file in files.items()}
        try:
            write_payload(root, files, self._clock.time(), group)
        except OSError as error:
            raise VolumeError(f"cannot write {root}: {error.strerror}") from error

    async def _configmap(self, facts: PodFacts, spec: Mapping[str, Any], mode: int) -> Payload:
        name, optional = str(spec.get("name") or ""), bool(spec.get("optional"))
        found = self._sources.config_map(namespace_of(facts.pod), name)
        if found is None and not optional:
            raise VolumeError(f'configmap "{name}" not found')
        data = payload.decode_config_map(found or {})
        return payload.pick(data, spec.get("items"), mode, optional, "configmap references non-existent config key")

    async def _secret(self, facts: PodFacts, spec: Mapping[str, Any], mode: int) -> Payload:
        name, optional = str(spec.get("secretName") or spec.get("name") or ""), bool(spec.get("optional"))
        found = self._sources.secret(namespace_of(facts.pod), name)
        if found is None and not optional:
            raise VolumeError(f'secret "{name}" not found')
        data = payload.decode_secret(found or {})
        return payload.pick(data, spec.get("items"), mode, optional, "references non-existent secret key")

    async def _downwardapi(self, facts: PodFacts, spec: Mapping[str, Any], mode: int) -> Payload:
        return payload.downward_files(facts, spec.get("items") or (), mode)

    async def _projected(self, facts: PodFacts, spec: Mapping[str, Any], mode: int) -> Payload:
        files: Payload = {}
        for source in spec.get("sources") or ():
            if token := source.get("serviceAccountToken"):
                files |= await self._token(facts, token, mode)
                continue
            kind = next((kind for kind in ("configMap", "secret", "downwardAPI") if source.get(kind)), None)
            if kind is None:
                raise VolumeError(f"projected sources of type {', '.join(source)} are not supported by this node")
            maker: Callable[[PodFacts, Mapping[str, Any], int], Awaitable[Payload]] = getattr(self, f"_{kind.lower()}")
            files |= await maker(facts, source[kind], mode)
        return files

    async def _token(self, facts: PodFacts, spec: Mapping[str, Any], mode: int) -> Payload:
        """The token's file; readable by the container's user alone where that is known, as upstream."""
        uid = uid_of(facts.pod)
        seconds = int(spec.get("expirationSeconds") or DEFAULT_EXPIRATION)
        token = await self._tokens.get(facts.pod, str(spec.get("audience") or ""), seconds)
        self._renewals[uid] = min(token.renew_at, self._renewals.get(uid, token.renew_at))
        return {payload.clean_path(spec["path"]): File(token.text.encode(), mode)}

    def _references(self, pod: Object) -> set[Key]:
        namespace = namespace_of(pod)
        found = {(plural, namespace, name) for c in all_containers(pod) for plural, name in references(c)}
        for volume in pod["spec"].get("volumes") or ():
            for plural, name in _volume_references(volume):
                found.add((plural, namespace, name))
        for secret in pod["spec"].get("imagePullSecrets") or ():
            if secret.get("name"):
                found.add(("secrets", namespace, str(secret["name"])))
        return found


def _source(volume: Mapping[str, Any]) -> str:
    """The one field besides the name; a volume without any is an emptyDir."""
    return next((key for key in volume if key != "name"), "emptyDir")


def _volume_references(volume: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    for source in sources:
        if (config := source.get("configMap")) and config.get("name"):
            yield "configmaps", str(config["name"])
        secret = source.get("secret") or {}
        if name := secret.get("secretName") or secret.get("name"):
            yield "secrets", str(name)


_FILLED = frozenset({"configMap", "secret", "projected", "downwardAPI"})


def _is_filled(pod: Object, name: str) -> bool:
    """Whether the kubelet fills this volume from the API; containers may only read it."""
    return any(volume["name"] == name and _source(volume) in _FILLED for volume in pod["spec"].get("volumes") or ())


def has_changing_volumes(pod: Object) -> bool:
    """Whether any volume shows labels, annotations, ConfigMaps, Secrets or tokens, which change with time."""
    return any(_source(volume) in _FILLED for volume in pod["spec"].get("volumes") or ())


def orphans(config: KubeletConfig, known: set[str]) -> list[str]:
    """UIDs of pods that have a directory here but are not `known`."""
    try:
        return sorted(set(os.listdir(config.pods_dir)) - known)
    except FileNotFoundError:
        return []
