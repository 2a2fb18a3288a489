"""From a manifest's bytes to a static pod: decoded, defaulted and validated as the API server would, and marked. Pure.

Whoever may write manifests owns the node, but mistakes and half-written files must not harm it: what is refused
here never reaches a pod's state machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson

from tiphys.base.errors import ApiError, TiphysError
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.staticpods.references import api_reference

SOURCE = "kubernetes.io/config.source"
SEEN = "kubernetes.io/config.seen"
HASH = "kubernetes.io/config.hash"
MIRROR = "kubernetes.io/config.mirror"
MAX_BYTES = 10 * 1024 * 1024
_UID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,126}[A-Za-z0-9])?")
"""UIDs become names of directories, labels and cgroups."""


class ManifestError(TiphysError):
    """The message says what is wrong with the manifest."""


def read_pods(data: bytes, kind: str, origin: str, node: str) -> list[dict[str, Any]]:
    """The pods of a manifest: one Pod or, from a URL, also a PodList.

    `kind` is the source's: file or http; `origin` the file's path or the URL. Raises ManifestError."""
    if len(data) > MAX_BYTES:
        raise ManifestError(f"{origin} is larger than {MAX_BYTES} bytes")
    value = _parse(data)
    if kind == "http" and value.get("kind") == "PodList":
        items = value.get("items") or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ManifestError("invalid pods list: items are no objects")
        return [_read_pod({**item, "apiVersion": "v1", "kind": "Pod"}, kind, origin, node) for item in items]
    return [_read_pod(value, kind, origin, node)]


def _parse(data: bytes) -> dict[str, Any]:
    from tiphys.api.decode import body  # here: a kubelet without static pods needs none of it

    try:
        value = body.parse(data, body.YAML).value
    except (ValueError, ApiError, RecursionError) as error:
        raise ManifestError(f"couldn't parse it: {error}") from error
    if not isinstance(value, dict):
        raise ManifestError("invalid pod: it is no object")
    return value


@cache
def _tools() -> tuple[Any, Any, Any]:
    """A decoder, what it expects and the kind's rules."""
    from tiphys.api import schema
    from tiphys.api.decode.request import Codec, Expected
    from tiphys.api.kinds.core.pod import Pod

    definitions = schema.builtin()
    return Codec(definitions), Expected("", "v1", "Pod", definitions.of("", "v1", "Pod")), Pod()


def _read_pod(value: dict[str, Any], kind: str, origin: str, node: str) -> dict[str, Any]:
    from tiphys.api.decode.body import Parsed

    codec, expected, rules = _tools()
    try:
        pod: dict[str, Any] = codec.accept(Parsed(value), expected, "Ignore").obj
    except (ApiError, RecursionError) as error:
        raise ManifestError(str(error)) from error
    meta = pod.setdefault("metadata", {})
    if not meta.get("name"):
        raise ManifestError("invalid pod: name is needed for the pod")
    pod.setdefault("spec", {})
    _mark(pod, kind, origin, node)
    _check(pod, rules)
    if reference := api_reference(pod):
        raise ManifestError(f"static pods may not reference {reference}")
    return pod


def _mark(pod: dict[str, Any], kind: str, origin: str, node: str) -> None:
    """Name, namespace, UID, node and annotations, as upstream sets them."""
    meta = pod["metadata"]
    if not meta.get("uid"):
        text = orjson.dumps(pod, option=orjson.OPT_SORT_KEYS)
        where = f"host:{node}file:{origin}" if kind == "file" else f"url:{origin}"
        meta["uid"] = hashlib.md5(text + where.encode(), usedforsecurity=False).hexdigest()
    meta["name"] = f"{meta['name']}-{node.lower()}"
    meta.setdefault("namespace", "default")
    meta["annotations"] = {**(meta.get("annotations") or {}), HASH: str(meta["uid"]), SOURCE: kind}
    pod["spec"]["nodeName"] = node
    if kind == "file":
        tolerations = [one for one in pod["spec"].get("tolerations") or () if not _is_no_execute(one)]
        pod["spec"]["tolerations"] = [*tolerations, {"operator": "Exists", "effect": "NoExecute"}]
    pod["status"] = {"phase": "Pending"}


def _is_no_execute(toleration: Mapping[str, Any]) -> bool:
    return toleration.get("effect") == "NoExecute" and not toleration.get("key") and not toleration.get("value")


def _check(pod: dict[str, Any], rules: Any) -> None:
    from tiphys.api.kinds.base import Context
    from tiphys.api.validation.metadata import validate_metadata

    if not _UID.fullmatch(str(pod["metadata"]["uid"])):
        raise ManifestError(f"invalid pod: metadata.uid: {pod['metadata']['uid']!r} cannot be a UID")
    try:
        rules.default(pod, "v1")
        errors = [*validate_metadata(pod, rules.name_check, True), *rules.validate(pod, Context(0.0))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(f"invalid pod: {error!r}") from error
    if errors:
        raise ManifestError(f"invalid pod: {'; '.join(str(error) for error in errors)}")


def is_mirror(pod: Object) -> bool:
    """Whether an object of the API is the mirror of a static pod."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def is_static(pod: Object) -> bool:
    """Whether this is a pod that the API did not ask for."""
    return (pod["metadata"].get("annotations") or {}).get(SOURCE) in ("file", "http")


def mirrors(mirror: Object, pod: Object) -> bool:
    """Whether `mirror` shows this very static pod."""
    kept = (mirror["metadata"].get("annotations") or {}).get(MIRROR)
    return bool(kept == pod["metadata"]["annotations"][HASH])


def mirror_of(pod: Object, node: str, node_uid: str) -> dict[str, Any]:
    """The object that is created in the API for a static pod."""
    meta = {name: value for name, value in pod["metadata"].items() if name in _KEPT}
    annotations = {**pod["metadata"]["annotations"], MIRROR: pod["metadata"]["annotations"][HASH]}
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
    meta |= {"annotations": annotations, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"]}


_KEPT = ("name", "namespace", "labels", "finalizers")


def without_marks(pod: Object) -> dict[str, Any]:
    """The pod without when it was seen: what two readings of the same manifest have in common."""
    annotations = {key: value for key, value in pod["metadata"]["annotations"].items() if key != SEEN}
    return {"metadata": {**pod["metadata"], "annotations": annotations}, "spec": pod["spec"]}
