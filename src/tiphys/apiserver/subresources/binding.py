"""pods/binding and bindings: the scheduler's word on where a pod runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiphys.api import errors
from tiphys.api.errors import client_fault
from tiphys.api.kinds.base import FieldError, not_supported, required
from tiphys.apiserver import options, respond
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.metadata import match_namespace
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call
from tiphys.apiserver.subresources.bodies import created, decode
from tiphys.apiserver.updating import Change, update
from tiphys.base.clock import rfc3339
from tiphys.base.errors import BadRequest, Conflict
from tiphys.base.http.types import Response

Object = Mapping[str, Any]


async def bind(parts: Parts, call: Call) -> Response:
    """POST pods/NAME/binding, or POST bindings with the pod's name in the body."""
    options.read_write_options(call)
    binding = decode(parts, call, "", "v1", "Binding")
    metadata = binding.get("metadata") or {}
    name = call.info.name or metadata.get("name", "")
    if call.info.name and metadata.get("name", "") != name:
        raise BadRequest("name in URL does not match name in Binding object")
    match_namespace(metadata, call.namespace)
    attributes = parts.admission.attributes(call, "CREATE", binding, None, "Binding")
    await parts.admission.admit(call, attributes)
    _check(binding)
    await parts.admission.validate(call, attributes)
    metadata, node = binding.get("metadata") or {}, binding["target"]["name"]

    async def make(pod: Object, _: Entry) -> dict[str, Any]:
        _check_pod(pod, metadata, name)
        return _bound(pod, node, metadata, call.now)

    own = replace(call, admitted=True, info=replace(call.info, name=name, subresource="binding", resource="pods"))
    await update(parts, own, name, Change(make, "binding", raw=True))
    return respond.plain(call.request, created(), 201)


def _check(binding: Object) -> None:
    target = binding.get("target") or {}
    problems: list[FieldError] = []
    if target.get("kind") not in (None, "", "Node"):
        problems.append(not_supported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        problems.append(required("target.name"))
    if problems:
        text = ", ".join(map(str, problems))
        raise client_fault(text if len(problems) == 1 else f"[{text}]")


def _check_pod(pod: Object, wanted: Object, name: str) -> None:
    """Only a pod that waits for a node can be bound. Raises Conflict."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    if wanted.get("uid") and wanted["uid"] != metadata["uid"]:
        text = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {metadata['uid']}"
        raise _conflict(name, text)
    if metadata.get("deletionTimestamp"):
        raise _conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise _conflict(name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise _conflict(name, f"pod {name} has non-empty .spec.schedulingGates")


def _conflict(name: str, text: str) -> Conflict:
    return errors.conflict("", "pods/binding", name, text)


def _bound(pod: Object, node: str, binding: Object, now: float) -> dict[str, Any]:
    metadata = dict(pod["metadata"])
    for field in ("annotations", "labels"):
        if binding.get(field):
            metadata[field] = {**(metadata.get(field) or {}), **binding[field]}
    status = dict(pod.get("status") or {})
    status.pop("nominatedNodeName", None)
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": rfc3339(now)}
    if "observedGeneration" in _condition(status, "PodScheduled"):
        scheduled["observedGeneration"] = metadata.get("generation", 0)
    others = [one for one in status.get("conditions") or () if one.get("type") != "PodScheduled"]
    status["conditions"] = [*others, scheduled]
    return {**pod, "metadata": metadata, "spec": {**(pod.get("spec") or {}), "nodeName": node}, "status": status}


def _condition(status: Object, type: str) -> Object:
    return next((one for one in status.get("conditions") or () if one.get("type") == type), {})
