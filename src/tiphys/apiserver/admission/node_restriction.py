"""NodeRestriction: a node changes only itself, its pods, its lease, and asks tokens only for its own pods."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tiphys.api import errors
from tiphys.apiserver.admission.decision import refuse
from tiphys.apiserver.authz import references
from tiphys.apiserver.authz.node import node_name
from tiphys.apiserver.types import Attributes, Authorizer, Object, Plugin, Reader, RequestInfo

MIRROR = "kubernetes.io/config.mirror"
RESERVED = "node-restriction.kubernetes.io"
LABELS = {
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
}
"""Labels of Kubernetes' own domains that a kubelet may set on its node."""
NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
VERSIONING = ("resourceVersion", "managedFields", "generation")
LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction(Plugin):
    name = "NodeRestriction"

    def __init__(self, reader: Reader, authorizer: Authorizer | None = None) -> None:
        self._reader, self._authorizer = reader, authorizer
        self._checks: dict[tuple[str, str], Callable[[str, Attributes], None]] = {
            ("", "pods"): self._pods,
            ("", "nodes"): self._nodes,
            ("", "persistentvolumeclaims"): self._claims,
            ("coordination.k8s.io", "leases"): self._leases,
            ("storage.k8s.io", "csinodes"): self._csi_nodes,
            ("resource.k8s.io", "resourceslices"): self._slices,
            ("certificates.k8s.io", "certificatesigningrequests"): self._signing_requests,
        }

    async def admit(self, attributes: Attributes) -> None:
        node = node_name(attributes.user)
        if node is None:
            return
        if not node:
            raise refuse(attributes, f'could not determine node from user "{attributes.user.name}"')
        check = self._checks.get((attributes.info.group, attributes.info.resource))
        if check is not None:
            check(node, attributes)
        elif (attributes.info.group, attributes.info.resource) == ("", "serviceaccounts"):
            await self._tokens(node, attributes)

    def _pods(self, node: str, attributes: Attributes) -> None:
        subresource = attributes.info.subresource
        if subresource == "":
            self._pod(node, attributes)
        elif subresource == "status":
            self._pod_status(node, attributes)
        elif subresource == "eviction":
            self._eviction(node, attributes)
        else:
            detail = f"unexpected pod subresource \"{subresource}\", only 'status' and 'eviction' are allowed"
            raise refuse(attributes, detail)

    def _pod(self, node: str, attributes: Attributes) -> None:
        if attributes.operation == "CREATE":
            self._mirror_pod(node, attributes)
        elif attributes.operation == "DELETE":
            if not self._on_node(node, attributes, attributes.info.name):
                raise refuse(attributes, f'node "{node}" can only delete pods with spec.nodeName set to itself')
        else:
            detail = (
                f'unexpected operation "{attributes.operation}", node "{node}" can only create and delete mirror pods'
            )
            raise refuse(attributes, detail)

    def _mirror_pod(self, node: str, attributes: Attributes) -> None:
        pod = attributes.obj or {}
        if MIRROR not in (pod["metadata"].get("annotations") or {}):
            detail = f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
            raise refuse(attributes, detail)
        if pod["spec"].get("nodeName") != node:
            raise refuse(attributes, f'node "{node}" can only create pods with spec.nodeName set to itself')
        owners = pod["metadata"].get("ownerReferences") or []
        if len(owners) > 1:
            detail = f'node "{node}" can only create pods with a single owner reference set to itself'
            raise refuse(attributes, detail)
        if not owners or (owners[0].get("apiVersion"), owners[0].get("kind"), owners[0].get("name")) != (
            "v1", "Node", node,
        ):  # fmt: skip
            raise refuse(attributes, f'node "{node}" can only create pods with an owner reference set to itself')
        self._check_owner(node, attributes, owners[0])
        referred = references.to_api(pod)
        if referred:
            raise refuse(attributes, f'node "{node}" can not create pods that reference {referred}')

    def _check_owner(self, node: str, attributes: Attributes, owner: Object) -> None:
        if not owner.get("controller"):
            detail = f'node "{node}" can only create pods with a controller owner reference set to itself'
            raise refuse(attributes, detail)
        if owner.get("blockOwnerDeletion"):
            raise refuse(attributes, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        found = self._reader.get("", "nodes", "", node)
        if found is None:
            raise errors.not_found("", "nodes", node)
        if owner.get("uid") != found["metadata"].get("uid"):
            detail = f"node {node} UID mismatch: expected {owner.get('uid')} got {found['metadata'].get('uid')}"
            raise refuse(attributes, detail)

    def _pod_status(self, node: str, attributes: Attributes) -> None:
        old, new = attributes.old or {}, attributes.obj or {}
        if attributes.operation != "UPDATE":
            raise refuse(attributes, f'unexpected operation "{attributes.operation}"')
        if (old.get("spec") or {}).get("nodeName") != node:
            may_only = "can only update pod status for pods with spec.nodeName set to itself"
            raise refuse(attributes, f'node "{node}" {may_only}')
        if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
            raise refuse(attributes, f'node "{node}" cannot update labels through pod status')
        was, now = old.get("status") or {}, new.get("status") or {}
        if _by_name(was.get("resourceClaimStatuses")) != _by_name(now.get("resourceClaimStatuses")):
            raise refuse(attributes, f'node "{node}" cannot update resource claim statues')
        if (was.get("extendedResourceClaimStatus") or {}) != (now.get("extendedResourceClaimStatus") or {}):
            raise refuse(attributes, f'node "{node}" cannot update extended resource claim status')

    def _eviction(self, node: str, attributes: Attributes) -> None:
        if attributes.operation != "CREATE":
            raise refuse(attributes, f"unexpected operation {attributes.operation}")
        name = attributes.info.name or (attributes.obj or {}).get("metadata", {}).get("name", "")
        if not name:
            raise refuse(attributes, "could not determine pod from request data")
        if not self._on_node(node, attributes, name):
            raise refuse(attributes, f"node {node} can only evict pods with spec.nodeName set to itself")

    def _on_node(self, node: str, attributes: Attributes, name: str) -> bool:
        pod = self._reader.get("", "pods", attributes.info.namespace, name)
        if pod is None:
            raise errors.not_found("", "pods", name)
        return bool(pod["spec"].get("nodeName") == node)

    def _nodes(self, node: str, attributes: Attributes) -> None:
        new, old = attributes.obj or {}, attributes.old
        name = attributes.info.name or (new.get("metadata") or {}).get("name", "")
        if name != node:
            raise refuse(attributes, f'node "{node}" is not allowed to modify node "{name}"')
        if attributes.operation == "CREATE":
            if (new.get("spec") or {}).get("configSource"):
                detail = f'node "{node}" is not allowed to create pods with a non-nil configSource'
                raise refuse(attributes, detail)
            forbidden = _forbidden_labels(new, None)
            if forbidden:
                detail = f'node "{node}" is not allowed to set the following labels: {", ".join(forbidden)}'
                raise refuse(attributes, detail)
        elif attributes.operation == "UPDATE" and old is not None:
            _check_node_update(node, attributes, new, old)

    def _claims(self, node: str, attributes: Attributes) -> None:
        if attributes.info.subresource != "status":
            raise refuse(attributes, "may only update PVC status")
        if attributes.operation != "UPDATE":
            raise refuse(attributes, f'unexpected operation "{attributes.operation}"')
        if _beyond_claim_status(attributes.old or {}) != _beyond_claim_status(attributes.obj or {}):
            detail = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
            raise refuse(attributes, detail)

    async def _tokens(self, node: str, attributes: Attributes) -> None:
        if attributes.operation != "CREATE" or attributes.info.subresource != "token":
            return
        reference = ((attributes.obj or {}).get("spec") or {}).get("boundObjectRef") or {}
        if reference.get("apiVersion") != "v1" or reference.get("kind") != "Pod" or not reference.get("name"):
            raise refuse(attributes, "node requested token not bound to a pod")
        if not reference.get("uid"):
            raise refuse(attributes, "node requested token with a pod binding without a uid")
        pod = self._reader.get("", "pods", attributes.info.namespace, reference["name"])
        if pod is None:
            raise errors.not_found("", "pods", reference["name"])
        if reference["uid"] != pod["metadata"].get("uid"):
            detail = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise refuse(attributes, detail)
        if pod["spec"].get("nodeName") != node:
            raise refuse(attributes, "node requested token bound to a pod scheduled on a different node")
        await self._check_audience(attributes, pod)

    async def _check_audience(self, attributes: Attributes, pod: Object) -> None:
        """The token's audience must be one that the pod's volumes ask for ("" for the API server)."""
        audiences = ((attributes.obj or {}).get("spec") or {}).get("audiences") or [""]
        if len(audiences) > 1:
            raise refuse(attributes, "node may only request 0 or 1 audiences")
        if audiences[0] in audiences_of(pod, self._reader) or await self._may_request(attributes, audiences[0]):
            return
        detail = (
            f'audience "{audiences[0]}" not found in pod spec volume, {attributes.user.name} is not authorized to '
            "request tokens for this audience"
        )
        raise refuse(attributes, detail)

    async def _may_request(self, attributes: Attributes, audience: str) -> bool:
        """Whether the node has the permission to ask for this audience, whatever the pod says (KEP-4412)."""
        if self._authorizer is None:
            return False
        info = attributes.info
        verb = "request-serviceaccounts-token-audience"
        question = RequestInfo(verb, "", True, "", "v1", info.namespace, audience, name=info.name)
        return (await self._authorizer.authorize(attributes.user, question))[0]

    def _leases(self, node: str, attributes: Attributes) -> None:
        name = attributes.info.name or ((attributes.obj or {}).get("metadata") or {}).get("name", "")
        if attributes.info.namespace != "kube-node-lease":
            raise refuse(attributes, 'can only access leases in the "kube-node-lease" system namespace')
        if name != node:
            detail = "can only access node lease with the same name as the requesting node"
            raise refuse(attributes, detail)

    def _csi_nodes(self, node: str, attributes: Attributes) -> None:
        name = attributes.info.name or ((attributes.obj or {}).get("metadata") or {}).get("name", "")
        if name != node:
            raise refuse(attributes, "can only access CSINode with the same name as the requesting node")

    def _slices(self, node: str, attributes: Attributes) -> None:
        verbs = {"CREATE": ("create", attributes.obj), "DELETE": ("delete", attributes.old)}
        if attributes.operation not in verbs:
            return
        verb, found = verbs[attributes.operation]
        if ((found or {}).get("spec") or {}).get("nodeName") != node:
            raise refuse(attributes, f"can only {verb} ResourceSlice with the same NodeName as the requesting node")

    def _signing_requests(self, node: str, attributes: Attributes) -> None:
        """A node asks for no other node's certificate."""
        spec = (attributes.obj or {}).get("spec") or {}
        if attributes.operation != "CREATE" or spec.get("signerName") not in NODE_SIGNERS:
            return
        try:
            name = _common_name(spec.get("request", ""))
        except ValueError as error:
            raise refuse(attributes, f"unable to parse csr: {error}") from error
        if name != f"system:node:{node}":
            raise refuse(attributes, f"can only create a node CSR with CN=system:node:{node}")


def audiences_of(pod: Object, reader: Reader) -> Iterator[str]:
    """The audiences of the tokens that a pod's volumes ask for, by themselves or by their CSI drivers."""
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            token = source.get("serviceAccountToken")
            if token is not None:
                yield token.get("audience", "")
        driver = _driver(pod, volume, reader)
        found = reader.get("storage.k8s.io", "csidrivers", "", driver) if driver else None
        for request in ((found or {}).get("spec") or {}).get("tokenRequests") or ():
            yield request.get("audience", "")


def _driver(pod: Object, volume: Object, reader: Reader) -> str:
    """The CSI driver of a pod's volume; "" for none."""
    if "csi" in volume:
        return str(volume["csi"].get("driver", ""))
    name = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
    if "ephemeral" in volume:
        name = f"{pod['metadata']['name']}-{volume['name']}"
    if not name:
        return ""
    claim = reader.get("", "persistentvolumeclaims", pod["metadata"].get("namespace", ""), name)
    bound = reader.get("", "persistentvolumes", "", ((claim or {}).get("spec") or {}).get("volumeName", ""))
    return str((((bound or {}).get("spec") or {}).get("csi") or {}).get("driver", ""))


def _beyond_claim_status(claim: Object) -> dict[str, Any]:
    """What of a claim its node must leave alone."""
    metadata = {key: value for key, value in claim["metadata"].items() if key not in VERSIONING}
    mine = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in mine}
    return {"metadata": metadata, "spec": claim.get("spec") or {}, "status": status}


def _by_name(statuses: Sequence[Object] | None) -> dict[str, Object]:
    return {str(each.get("name")): each for each in statuses or ()}


def _common_name(encoded: str) -> str:
    """The name in a PKCS #10 request. Raises ValueError."""
    from cryptography import x509

    subject = x509.load_pem_x509_csr(base64.b64decode(encoded)).subject
    names = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def _check_node_update(node: str, attributes: Attributes, new: Object, old: Object) -> None:
    source, before = ((each.get("spec") or {}).get("configSource") for each in (new, old))
    if source and source != before:
        raise refuse(attributes, f'node "{node}" is not allowed to update configSource to a new non-nil configSource')
    if (new.get("spec") or {}).get("taints", []) != (old.get("spec") or {}).get("taints", []):
        raise refuse(attributes, f'node "{node}" is not allowed to modify taints')
    if new["metadata"].get("ownerReferences", []) != old["metadata"].get("ownerReferences", []):
        raise refuse(attributes, f'node "{node}" is not allowed to modify ownerReferences')
    forbidden = _forbidden_labels(new, old)
    if forbidden:
        raise refuse(attributes, f"is not allowed to modify labels: {', '.join(forbidden)}")


def _forbidden_labels(new: Object, old: Object | None) -> list[str]:
    """Labels that differ and that a kubelet may not touch."""
    ours = new["metadata"].get("labels") or {}
    theirs = (old["metadata"].get("labels") or {}) if old is not None else {}
    changed = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
    return sorted(key for key in changed if not _may_set(key))


def _may_set(label: str) -> bool:
    domain = label.partition("/")[0] if "/" in label else ""
    if _within(domain, RESERVED):
        return False
    if not (_within(domain, "kubernetes.io") or _within(domain, "k8s.io")):
        return True
    return label in LABELS or any(_within(domain, allowed) for allowed in LABEL_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith(f".{parent}")
