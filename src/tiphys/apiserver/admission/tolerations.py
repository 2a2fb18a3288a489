"""PodTolerationRestriction: namespaces say what their pods tolerate, and what they may. Off by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tiphys.api import errors
from tiphys.api.errors import client_fault
from tiphys.api.validation.pod_resources import qos_class
from tiphys.apiserver.admission.decision import concerns
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader

DEFAULTS = "scheduler.alpha.kubernetes.io/defaultTolerations"
ALLOWED = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
MEMORY_PRESSURE = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}


class PodTolerationRestriction(Plugin):
    name = "PodTolerationRestriction"
    resources = frozenset({("", "pods")})

    def __init__(self, reader: Reader, configuration: Mapping[str, Any] | None) -> None:
        self._reader = reader
        self._defaults = list((configuration or {}).get("default") or ())
        self._allowed = list((configuration or {}).get("whitelist") or ())

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None or not _concerned(attributes):
            return
        extra: list[Object] = []
        if attributes.operation == "CREATE":
            own = self._of_namespace(attributes, DEFAULTS)
            extra += self._defaults if own is None else own
        if qos_class(pod["spec"]) != "BestEffort":
            extra.append(MEMORY_PRESSURE)
        if extra:
            pod["spec"]["tolerations"] = merged([*(pod["spec"].get("tolerations") or ()), *extra])
        await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None or not _concerned(attributes) or not pod["spec"].get("tolerations"):
            return
        own = self._of_namespace(attributes, ALLOWED)
        allowed, scope = (self._allowed, "cluster") if own is None else (own, "namespace")
        if allowed and not all(any(covers(one, each) for one in allowed) for each in pod["spec"]["tolerations"]):
            text = "pod tolerations (possibly merged with namespace default tolerations) conflict with its"
            raise client_fault(f"{text} {scope} whitelist")

    def _of_namespace(self, attributes: Attributes, annotation: str) -> list[Object] | None:
        """The tolerations of an annotation; None without it."""
        name = attributes.info.namespace
        namespace = self._reader.get("", "namespaces", "", name)
        if namespace is None:
            raise errors.not_found("", "namespaces", name)
        text = (namespace["metadata"].get("annotations") or {}).get(annotation)
        if text is None:
            return None
        try:
            found = orjson.loads(text or "[]") or []
        except ValueError as error:
            raise client_fault(f"{annotation}: {error}") from error
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise client_fault(f"{annotation}: no list of tolerations")
        return found


def _concerned(attributes: Attributes) -> bool:
    return attributes.operation in ("CREATE", "UPDATE") and concerns(attributes, "", "pods")


def merged(tolerations: Sequence[Object]) -> list[Object]:
    """Without those that others cover."""
    kept: list[Object] = []
    for number, one in enumerate(tolerations):
        later = any(other != one and covers(other, one) for other in tolerations[number + 1 :])
        if not later and not any(covers(other, one) for other in kept):
            kept.append(one)
    return kept


def covers(wide: Object, narrow: Object) -> bool:
    """Whether what `narrow` tolerates, `wide` does too."""
    if wide == narrow:
        return True
    exists = wide.get("operator") == "Exists"
    if narrow.get("key", "") != wide.get("key", "") and (wide.get("key") or not exists):
        return False
    if wide.get("effect") and narrow.get("effect") != wide["effect"]:
        return False
    limit, seconds = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if wide.get("effect") == "NoExecute" and limit is not None and (seconds is None or seconds > limit):
        return False
    if exists:
        return True
    return narrow.get("operator") == "Equal" and narrow.get("value", "") == wide.get("value", "")
