"""The default roles and bindings, from rbac.json.

A rule is written "verbs | groups | resources [| names]" or "verbs | URLs", a subject "Kind name" or
"ServiceAccount namespace/name"; a name with a slash is namespaced. Every role system:controller:X without a
binding of its own is bound to the service account X of kube-system.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GROUP = "rbac.authorization.k8s.io"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
CONTROLLER = "system:controller:"
AGGREGATED_TO = {  # role -> the aggregated role that its rules go into
    "edit": "admin",
    "view": "edit",
    "system:aggregate-to-admin": "admin",
    "system:aggregate-to-edit": "edit",
    "system:aggregate-to-view": "view",
}


def objects(data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(plural, object) of each default."""
    for name, rules in data["roles"].items():
        yield _role(name, rules)
    bindings: dict[str, Any] = dict(data["bindings"])
    for name in data["roles"]:
        if name.startswith(CONTROLLER):
            bindings.setdefault(name, [f"ServiceAccount kube-system/{name.removeprefix(CONTROLLER)}"])
    for name, short in sorted(bindings.items()):
        yield _binding(name, short)


def _role(path: str, rules: Sequence[str]) -> tuple[str, dict[str, Any]]:
    plural, kind, metadata = _named(path, "Role")
    target = AGGREGATED_TO.get(path)
    if target:
        metadata["labels"][_selector(target)] = "true"
    role: dict[str, Any] = {"kind": kind, "apiVersion": f"{GROUP}/v1", "metadata": metadata}
    role["rules"] = [parse_rule(rule) for rule in rules] or None
    if path in AGGREGATED_TO.values():
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_selector(path): "true"}}]}
    return plural, role


def _binding(path: str, short: Any) -> tuple[str, dict[str, Any]]:
    plural, kind, metadata = _named(path, "RoleBinding")
    own_role = isinstance(short, list)
    role = {
        "apiGroup": GROUP,
        "kind": kind.removesuffix("Binding"),
        "name": metadata["name"] if own_role else short["role"],
    }
    subjects = [_subject(text) for text in (short if own_role else short["subjects"])]
    head = {"kind": kind, "apiVersion": f"{GROUP}/v1", "metadata": metadata}
    return plural, {**head, **({"subjects": subjects} if subjects else {}), "roleRef": role}


def _named(path: str, kind: str) -> tuple[str, str, dict[str, Any]]:
    namespace, _, name = path.rpartition("/")
    metadata: dict[str, Any] = {"name": name, "labels": dict(LABELS), "annotations": dict(ANNOTATIONS)}
    if namespace:
        metadata["namespace"] = namespace
        return f"{kind.lower()}s", kind, metadata
    return f"cluster{kind.lower()}s", f"Cluster{kind}", metadata


def parse_rule(text: str) -> dict[str, Any]:
    """A PolicyRule from its short form."""
    verbs, *parts = [part.split() for part in text.split("|")]
    if len(parts) == 1:
        return {"verbs": verbs, "nonResourceURLs": parts[0]}
    groups = ["" if group == "core" else group for group in parts[0]]
    rule = {"verbs": verbs, "apiGroups": groups, "resources": parts[1]}
    if len(parts) == 3:
        rule["resourceNames"] = parts[2]
    return rule


def _subject(text: str) -> dict[str, str]:
    kind, _, name = text.partition(" ")
    if kind != "ServiceAccount":
        return {"kind": kind, "apiGroup": GROUP, "name": name}
    namespace, _, account = name.partition("/")
    return {"kind": kind, "name": account, "namespace": namespace}


def _selector(role: str) -> str:
    return f"rbac.authorization.k8s.io/aggregate-to-{role}"
