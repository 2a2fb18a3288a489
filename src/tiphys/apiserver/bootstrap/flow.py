"""The default FlowSchemas and PriorityLevelConfigurations, from flow.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

GROUP = "flowcontrol.apiserver.k8s.io"
ANNOTATIONS = {"apf.kubernetes.io/autoupdate-spec": "true"}
EVERY_RESOURCE = {
    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"],
}  # fmt: skip
EVERY_URL = {"verbs": ["*"], "nonResourceURLs": ["*"]}


def objects(data: Mapping[str, Any], moment: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(plural, object) of each default; `moment` is when their conditions came about, RFC 3339."""
    for name, spec in data["levels"].items():
        body = {"metadata": _metadata(name), "spec": spec, "status": {}}
        yield "prioritylevelconfigurations", {**_head("PriorityLevelConfiguration"), **body}
    for name, short in data["schemas"].items():
        body = {"metadata": _metadata(name), "spec": _schema(short), "status": _status(short["level"], moment)}
        yield "flowschemas", {**_head("FlowSchema"), **body}


def _head(kind: str) -> dict[str, Any]:
    return {"kind": kind, "apiVersion": f"{GROUP}/v1"}


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "generation": 1, "annotations": dict(ANNOTATIONS)}


def _schema(short: Mapping[str, Any]) -> dict[str, Any]:
    """A FlowSchema's spec; without rules of its own it matches everything its subjects do."""
    spec: dict[str, Any] = {"priorityLevelConfiguration": {"name": short["level"]}}
    spec["matchingPrecedence"] = short["precedence"]
    if "by" in short:
        spec["distinguisherMethod"] = {"type": short["by"]}
    rule: dict[str, Any] = {"subjects": [_subject(text) for text in short["subjects"]]}
    own = {key: short[key] for key in ("resourceRules", "nonResourceRules") if key in short}
    rule |= own or {"resourceRules": [EVERY_RESOURCE], "nonResourceRules": [EVERY_URL]}
    spec["rules"] = [rule]
    return spec


def _subject(text: str) -> dict[str, Any]:
    kind, _, name = text.partition(" ")
    if kind != "ServiceAccount":
        return {"kind": kind, kind.lower(): {"name": name}}
    namespace, _, account = name.partition("/")
    return {"kind": kind, "serviceAccount": {"namespace": namespace, "name": account}}


def _status(level: str, moment: str) -> dict[str, Any]:
    message = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" and it exists'
    condition = {"type": "Dangling", "status": "False", "lastTransitionTime": moment, "reason": "Found"}
    return {"conditions": [{**condition, "message": message}]}
