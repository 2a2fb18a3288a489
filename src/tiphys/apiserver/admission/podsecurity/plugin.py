"""The plugin: pods are refused, noted and warned of, templates of pods only noted and warned of.

Who makes the labels of a namespace stricter is told which of its pods would not be let in any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiphys.api import errors
from tiphys.apiserver.admission.decision import refuse
from tiphys.apiserver.admission.podsecurity.configuration import Configuration, read
from tiphys.apiserver.admission.podsecurity.levels import PREFIX, PRIVILEGED, LevelVersion, Policy, policy_of, stricter
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader
from tiphys.base.errors import InternalError

if TYPE_CHECKING:  # the checks are imported when the first namespace asks for them
    from tiphys.apiserver.admission.podsecurity.text import Violation

MOST_PODS = 3000
"""Pods that are looked at when a namespace changes."""
TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
}
"""Where kinds that make pods have the pod's template."""
JUDGED = ("", "resize", "ephemeralcontainers")
"""Subresources of pods that change what counts."""


class PodSecurity(Plugin):
    name = "PodSecurity"
    resources = frozenset({("", "pods"), ("", "namespaces"), *TEMPLATES})

    def __init__(self, reader: Reader, configuration: Mapping[str, Any] | None = None) -> None:
        self._reader = reader
        self._configuration: Configuration = read(configuration)

    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation not in ("CREATE", "UPDATE"):
            return
        resource = (attributes.info.group, attributes.info.resource)
        if resource == ("", "pods"):
            self._pod(attributes)
        elif resource in TEMPLATES:
            self._template(attributes, TEMPLATES[resource])
        elif resource == ("", "namespaces"):
            self._namespace(attributes)

    # Pods

    def _pod(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old
        if pod is None or attributes.info.subresource not in JUDGED or self._exempt(attributes):
            return
        namespace = self._reader.get("", "namespaces", "", attributes.info.namespace)
        if namespace is None:
            text = f'failed to lookup namespace "{attributes.info.namespace}"'
            raise InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})
        policy, problems = policy_of(namespace["metadata"].get("labels"), self._configuration.defaults)
        if not problems and policy.fully_privileged:
            _annotate(attributes, "enforce-policy", str(LevelVersion()))
            return
        if attributes.operation == "UPDATE" and old is not None and not _differs(pod, old):
            return
        if problems:
            _annotate(attributes, "error", f"Failed to parse policy: {_aggregate(problems)}")
        self._judge(attributes, policy, pod["metadata"], pod.get("spec") or {}, enforce=True)

    def _template(self, attributes: Attributes, path: Sequence[str]) -> None:
        if attributes.info.subresource or self._exempt(attributes):
            return
        namespace = self._reader.get("", "namespaces", "", attributes.info.namespace)
        if namespace is None:
            return
        policy, problems = policy_of(namespace["metadata"].get("labels"), self._configuration.defaults)
        if not problems and policy.warn.level == policy.audit.level == PRIVILEGED:
            return
        template: Any = attributes.obj
        for key in path:
            template = (template or {}).get(key)
        if template is None:
            return
        if problems:
            _annotate(attributes, "error", f"Failed to parse policy: {_aggregate(problems)}")
        self._judge(attributes, policy, template.get("metadata") or {}, template.get("spec") or {}, enforce=False)

    def _exempt(self, attributes: Attributes) -> bool:
        for reason, name, names in (
            ("namespace", attributes.info.namespace, self._configuration.namespaces),
            ("user", attributes.user.name, self._configuration.usernames),
        ):
            if name and name in names:
                _annotate(attributes, "exempt", reason)
                return True
        return False

    def _judge(self, attributes: Attributes, policy: Policy, metadata: Object, spec: Object, *, enforce: bool) -> None:
        if (spec.get("runtimeClassName") or "") in self._configuration.runtime_classes:
            _annotate(attributes, "exempt", "runtimeClass")
            return
        found: dict[LevelVersion, list[Violation]] = {}
        for standard in {policy.audit, policy.warn} | ({policy.enforce} if enforce else set()):
            found[standard] = _violations(standard, metadata, spec)
        if enforce:
            _annotate(attributes, "enforce-policy", str(policy.enforce))
        if found[policy.audit]:
            _annotate(attributes, "audit-violations", _would(policy.audit, found[policy.audit]))
        if enforce and found[policy.enforce]:
            raise refuse(attributes, f'violates PodSecurity "{policy.enforce}": {_text(found[policy.enforce])}')
        if found[policy.warn]:
            attributes.warnings.append(_would(policy.warn, found[policy.warn]))

    # Namespaces

    def _namespace(self, attributes: Attributes) -> None:
        if attributes.info.subresource or attributes.obj is None:
            return
        labels = attributes.obj["metadata"].get("labels") or {}
        was = (attributes.old or {"metadata": {}})["metadata"].get("labels") or {}
        if attributes.operation == "UPDATE" and labels == was:
            return
        name = attributes.obj["metadata"].get("name", "")
        policy, problems = policy_of(labels, self._configuration.defaults)
        before, old_problems = policy_of(was, self._configuration.defaults)
        if problems and (attributes.operation == "CREATE" or problems != old_problems):
            raise errors.invalid("", "Namespace", name, problems)
        if attributes.operation == "UPDATE" and not _tightened(policy.enforce, before.enforce):
            return
        if name in self._configuration.namespaces:
            if text := self._ignored(policy, labels):
                attributes.warnings.append(
                    f'namespace "{name}" is exempt from Pod Security, and the policy ({text}) will be ignored'
                )
        elif attributes.operation == "UPDATE":
            attributes.warnings.extend(self._offenders(name, policy.enforce))

    def _ignored(self, policy: Policy, labels: Mapping[str, str]) -> str:
        """What labels of an exempt namespace ask for in vain."""
        if policy.fully_privileged or policy.equivalent(self._configuration.defaults):
            return ""
        modes = (("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn))
        return ", ".join(
            f"{mode}={standard}"
            for mode, standard in modes
            if standard.level != PRIVILEGED and (PREFIX + mode in labels or f"{PREFIX}{mode}-version" in labels)
        )

    def _offenders(self, namespace: str, standard: LevelVersion) -> list[str]:
        """Warnings about pods that are there and would not be let in."""
        pods = self._unlike(self._reader.list("", "pods", namespace))
        groups: dict[str, list[str]] = {}
        for pod in pods[:MOST_PODS]:
            found = _violations(standard, pod["metadata"], pod.get("spec") or {})
            if found:
                groups.setdefault(", ".join(one.reason for one in found), []).append(pod["metadata"]["name"])
        warnings = []
        if len(pods) > MOST_PODS:
            text = f"only checked against the first {MOST_PODS} of {len(pods)} existing pods"
            warnings.append(f"new PodSecurity enforce level {text}")
        if groups:
            text = f'violate the new PodSecurity enforce level "{standard}"'
            warnings.append(f'existing pods in namespace "{namespace}" {text}')
        return warnings + sorted(f"{_who(names)}: {reasons}" for reasons, names in groups.items())

    def _unlike(self, pods: Iterable[Object]) -> list[Object]:
        """Pods in the order in which they are looked at: of those that one controller made, one first."""
        first: list[Object] = []
        rest: list[Object] = []
        seen: set[str] = set()
        for pod in pods:
            if ((pod.get("spec") or {}).get("runtimeClassName") or "") in self._configuration.runtime_classes:
                continue
            owners = pod["metadata"].get("ownerReferences") or ()
            owner = next((one.get("uid", "") for one in owners if one.get("controller")), "")
            (rest if owner in seen else first).append(pod)
            if owner:
                seen.add(owner)
        return first + rest


def _violations(standard: LevelVersion, metadata: Object, spec: Object) -> list[Violation]:
    from tiphys.apiserver.admission.podsecurity.standards import violations

    return violations(standard, metadata, spec)


def _tightened(new: LevelVersion, old: LevelVersion) -> bool:
    """Whether pods that were let in before may not be any more."""
    if new == old or new.level == PRIVILEGED:
        return False
    return new.minor != old.minor or stricter(new.level, old.level)


def _differs(pod: Object, old: Object) -> bool:
    """Whether an update changes anything that the checks look at: only images can, and ephemeral containers."""
    new_spec, old_spec = pod.get("spec") or {}, old.get("spec") or {}
    for field in ("containers", "initContainers"):
        if _images(new_spec.get(field)) != _images(old_spec.get(field)):
            return True
    before = {one["name"]: one.get("image") for one in old_spec.get("ephemeralContainers") or ()}
    return any(
        one["name"] not in before or before[one["name"]] != one.get("image")
        for one in new_spec.get("ephemeralContainers") or ()
    )


def _images(containers: Any) -> list[Any]:
    return [one.get("image") for one in containers or ()]


def _would(standard: LevelVersion, found: Sequence[Violation]) -> str:
    return f'would violate PodSecurity "{standard}": {_text(found)}'


def _text(found: Sequence[Violation]) -> str:
    return ", ".join(map(str, found))


def _who(names: list[str]) -> str:
    first, others = min(names), len(names) - 1
    if not others:
        return first
    return f"{first} (and {others} other {'pod' if others == 1 else 'pods'})"


def _aggregate(problems: Sequence[Any]) -> str:
    texts = [str(problem) for problem in problems]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _annotate(attributes: Attributes, key: str, value: str) -> None:
    attributes.annotations[PREFIX + key] = value
