"""NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away."""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.admission.decision import refuse
from tiphys.apiserver.types import Attributes, Plugin, Reader

IMMORTAL = {"default", "kube-system", "kube-public"}


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        info, operation = attributes.info, attributes.operation
        if attributes.kind[0] == "" and attributes.kind[2] == "Namespace":
            if operation == "DELETE" and info.name in IMMORTAL:
                raise errors.forbidden("", "namespaces", info.name, "this namespace may not be deleted")
            return
        if not info.namespace or operation == "DELETE" or info.resource == "localsubjectaccessreviews":
            return
        namespace = self._reader.get("", "namespaces", "", info.namespace)
        if namespace is None:
            raise errors.not_found("", "namespaces", info.namespace)
        if operation == "CREATE" and (namespace.get("status") or {}).get("phase") == "Terminating":
            raise _terminating(attributes, info.namespace)


def _terminating(attributes: Attributes, namespace: str) -> Exception:
    error = refuse(attributes, f"unable to create new content in namespace {namespace} because it is being terminated")
    error.details["causes"] = [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    return error
