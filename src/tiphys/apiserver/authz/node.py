"""The Node authorizer: a node may do what its kubelet needs, and read only what its own pods refer to.

What is not decided here goes on to RBAC. Source: the API reference, "Using Node Authorization".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiphys.apiserver.authz import references, selectors
from tiphys.apiserver.authz.rules import Rule
from tiphys.apiserver.types import Object, Reader, RequestInfo
from tiphys.base.identity import User

MIRROR = "kubernetes.io/config.mirror"
"""Annotation of pods that a kubelet made for its static ones."""
NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"
READ = ("get", "list", "watch")
OWN = ("get", "create", "update", "patch", "delete")
Answer = tuple[bool, str]
ALLOWED: Answer = (True, "")

RULES = (
    Rule(("create",), ("authentication.k8s.io",), ("tokenreviews",)),
    Rule(("create",), ("authorization.k8s.io",), ("subjectaccessreviews", "localsubjectaccessreviews")),
    Rule(READ, ("",), ("services",)),
    Rule(("create", "update", "patch"), ("", "events.k8s.io"), ("events",)),
    Rule(("get",), ("",), ("endpoints",)),
    Rule(("create", *READ), ("certificates.k8s.io",), ("certificatesigningrequests",)),
    Rule(READ, ("storage.k8s.io",), ("csidrivers",)),
    Rule(READ, ("node.k8s.io",), ("runtimeclasses",)),
)
"""What every node may do, whatever runs on it."""


def node_name(user: User) -> str | None:
    """The node that a user is; None if it is none."""
    if NODES_GROUP not in user.groups or not user.name.startswith(NODE_PREFIX):
        return None
    return user.name.removeprefix(NODE_PREFIX)


class NodeAuthorizer:
    """Allows nodes what they need. `pods_of` gives a node's pods from an index, where there is one."""

    def __init__(self, reader: Reader, pods_of: Callable[[str], Iterable[Object]] | None = None) -> None:
        self._reader = reader
        self._pods_of = pods_of or self._scan
        self._deciders: dict[tuple[str, str], Callable[[str, RequestInfo], Answer]] = {
            ("", "secrets"): self._secret,
            ("", "configmaps"): self._config_map,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._volume,
            ("", "serviceaccounts"): self._account,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("storage.k8s.io", "volumeattachments"): self._attachment,
            ("resource.k8s.io", "resourceclaims"): self._resource_claim,
            ("resource.k8s.io", "resourceslices"): self._slice,
        }

    async def authorize(self, user: User, info: RequestInfo) -> Answer:
        node = node_name(user)
        if node is None:
            return False, ""
        if not node:
            return False, f'unknown node for user "{user.name}"'
        if not info.resource_request:
            return False, ""
        decide = self._deciders.get((info.group, info.resource))
        if decide is not None:
            return decide(node, info)
        asked = (info.verb, info.group, info.resource, info.subresource)
        return any(rule.matches_resource(*asked) for rule in RULES), ""

    def _own_pods(self, node: str) -> Iterable[Object]:
        """The pods that give the node access to what they refer to: not those that it made itself."""
        return (pod for pod in self._pods_of(node) if MIRROR not in (pod["metadata"].get("annotations") or {}))

    def _scan(self, node: str) -> Iterable[Object]:
        return (pod for pod in self._reader.list("", "pods") if pod["spec"].get("nodeName") == node)

    def _secret(self, node: str, info: RequestInfo) -> Answer:
        """Secrets that a pod of the node mentions, or a volume that such a pod has claimed."""
        refused = _cannot_read(info)
        if refused:
            return False, refused
        answer = self._related(node, info, lambda pod: info.name in references.secrets(pod))
        if answer[0] or not info.name:
            return answer
        wanted = (info.namespace, info.name)
        if any(wanted in references.volume_secrets(volume) for volume in self._volumes_of(node)):
            return ALLOWED
        return answer

    def _config_map(self, node: str, info: RequestInfo) -> Answer:
        refused = _cannot_read(info)
        if refused:
            return False, refused
        return self._related(node, info, lambda pod: info.name in references.config_maps(pod))

    def _volumes_of(self, node: str) -> Iterable[Object]:
        """The volumes behind the claims of the node's pods."""
        for pod in self._own_pods(node):
            where = pod["metadata"].get("namespace", "")
            for name in references.claims(pod):
                claim = self._reader.get("", "persistentvolumeclaims", where, name)
                volume = self._reader.get("", "persistentvolumes", "", _volume_name(claim)) if claim else None
                bound = ((volume or {}).get("spec") or {}).get("claimRef") or {}
                if volume is not None and (bound.get("namespace"), bound.get("name")) == (where, name):
                    yield volume

    def _resource_claim(self, node: str, info: RequestInfo) -> Answer:
        if info.verb != "get":
            return False, "can only get individual resources of this type"
        if info.subresource:
            return False, "cannot get subresource"
        return self._related(node, info, lambda pod: info.name in references.resource_claims(pod))

    def _slice(self, node: str, info: RequestInfo) -> Answer:
        """Slices of the node's own devices; for their content see NodeRestriction."""
        if info.subresource:
            return False, "cannot authorize ResourceSlice subresources"
        if info.verb == "create":
            return ALLOWED
        if info.verb in ("watch", "list", "deletecollection"):
            if selectors.selects(info, "spec.nodeName", node):
                return ALLOWED
            return False, "can only list/watch/deletecollection resourceslices with nodeName field selector"
        if info.verb not in OWN:
            verbs = "get, watch, list, create, update, patch, delete, deletecollection"
            return False, f"only the following verbs are allowed for a ResourceSlice: {verbs}"
        if not info.name:
            return False, "No Object name found"
        found = self._reader.get("resource.k8s.io", "resourceslices", "", info.name)
        if found is not None and (found.get("spec") or {}).get("nodeName") == node:
            return ALLOWED
        return False, _unrelated(node)

    def _claim(self, node: str, info: RequestInfo) -> Answer:
        if info.subresource == "status":
            if info.verb not in ("update", "patch"):
                return False, "can only get/update/patch this type"
        elif info.verb != "get":
            return False, "can only get individual resources of this type"
        elif info.subresource:
            return False, "cannot get subresource"
        return self._related(node, info, lambda pod: info.name in references.claims(pod))

    def _volume(self, node: str, info: RequestInfo) -> Answer:
        if info.verb != "get":
            return False, "can only get individual resources of this type"
        if info.subresource:
            return False, "cannot get subresource"
        volume = self._reader.get("", "persistentvolumes", "", info.name)
        claim = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        wanted: str = claim.get("name", "")
        return self._related(
            node, info, lambda pod: wanted in references.claims(pod), namespace=claim.get("namespace", "-")
        )

    def _account(self, node: str, info: RequestInfo) -> Answer:
        """Tokens of the service accounts that the node's pods run as."""
        if info.verb == "get" and not info.subresource:
            return self._related(node, info, lambda pod: pod["spec"].get("serviceAccountName") == info.name)
        if info.verb != "create" or not info.name:
            return False, "can only create tokens for individual service accounts"
        if info.subresource != "token":
            return False, "can only create token subresource of serviceaccount"
        return self._related(node, info, lambda pod: pod["spec"].get("serviceAccountName") == info.name)

    def _node(self, node: str, info: RequestInfo) -> Answer:
        if info.subresource == "status":
            return info.verb in ("update", "patch"), ""
        if info.subresource:
            return False, ""
        if info.verb in ("create", "update", "patch"):  # NodeRestriction sees to the name
            return ALLOWED
        if info.verb not in READ:
            return False, ""
        if info.name == node:
            return ALLOWED
        if not info.name:
            return False, f"node '{node}' cannot read all nodes, only its own Node object"
        return False, f"node '{node}' cannot read '{info.name}', only its own Node object"

    def _pod(self, node: str, info: RequestInfo) -> Answer:
        if info.subresource == "status":  # for these too NodeRestriction sees to the rest
            return info.verb in ("update", "patch"), ""
        if info.subresource == "eviction":
            return info.verb == "create", ""
        if info.subresource:
            return False, ""
        if info.verb in ("create", "delete"):
            return ALLOWED
        if info.verb not in READ:
            return False, ""
        if info.verb != "get" and selectors.selects(info, "spec.nodeName", node):
            return ALLOWED
        if not info.name:
            if info.verb == "get":
                return False, "No Object name found"
            return False, "can only list/watch pods with spec.nodeName field selector"
        pod = self._reader.get("", "pods", info.namespace, info.name)
        if pod is not None and pod["spec"].get("nodeName") == node:
            return ALLOWED
        return False, _unrelated(node)

    def _lease(self, node: str, info: RequestInfo) -> Answer:
        if info.verb not in OWN:
            return False, "can only get, create, update, patch, or delete a node lease"
        if info.namespace != "kube-node-lease":
            return False, 'can only access leases in the "kube-node-lease" system namespace'
        if info.verb != "create" and info.name != node:
            return False, "can only access node lease with the same name as the requesting node"
        return ALLOWED

    def _csi_node(self, node: str, info: RequestInfo) -> Answer:
        if info.verb not in OWN:
            return False, "can only get, create, update, patch, or delete a CSINode"
        if info.subresource:
            return False, "cannot authorize CSINode subresources"
        if info.verb != "create" and info.name != node:
            return False, "can only access CSINode with the same name as the requesting node"
        return ALLOWED

    def _attachment(self, node: str, info: RequestInfo) -> Answer:
        if info.verb != "get":
            return False, "can only get individual resources of this type"
        if info.subresource:
            return False, "cannot get subresource"
        if not info.name:
            return False, "No Object name found"
        attachment = self._reader.get("storage.k8s.io", "volumeattachments", "", info.name)
        if attachment is not None and attachment["spec"].get("nodeName") == node:
            return ALLOWED
        return False, _unrelated(node)

    def _related(
        self, node: str, info: RequestInfo, mentions: Callable[[Object], bool], *, namespace: str = ""
    ) -> Answer:
        """Allowed if a pod of the node, in the object's namespace, mentions it."""
        if not info.name:
            return False, "No Object name found"
        where = namespace or info.namespace
        for pod in self._own_pods(node):
            if pod["metadata"].get("namespace") == where and mentions(pod):
                return ALLOWED
        return False, _unrelated(node)


def _unrelated(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"


def _cannot_read(info: RequestInfo) -> str:
    """Why Secrets and ConfigMaps cannot be had in this way at all."""
    if info.verb not in READ:
        return "can only read resources of this type"
    if info.subresource:
        return "cannot read subresource"
    return "" if info.namespace else "can only read namespaced object of this type"


def _volume_name(claim: Object) -> str:
    return str((claim.get("spec") or {}).get("volumeName", ""))
