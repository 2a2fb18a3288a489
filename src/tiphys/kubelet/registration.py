"""What a node registers as, and what it puts right when its object is there already. Pure.

Labels, annotation and extended resources are reconciled as by upstream (kubelet_node_status.go); other people's labels,
taints and annotations stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.wellknown import CLUSTER_DNS_LABEL
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine

_ATTACH = "volumes.kubernetes.io/controller-managed-attach-detach"
_RECONCILED = (
    *("kubernetes.io/hostname", "topology.kubernetes.io/zone", "topology.kubernetes.io/region"),
    *("failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"),
    *("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"),
    *("kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch"),
)
"""Labels that a restarted kubelet brings up to date; others are set when the node is made, and then left alone."""


def node_labels(config: KubeletConfig, machine: Machine) -> dict[str, str]:
    return {
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
    } | dict(config.node_labels)


def new_node(config: KubeletConfig, machine: Machine, status: Mapping[str, Any]) -> dict[str, Any]:
    """What a node registers as."""
    metadata = {
        "name": config.node_name,
        "labels": node_labels(config, machine),
        "annotations": {_ATTACH: "true"},
    }
    spec: dict[str, Any] = {}
    taints = [dict(taint) for taint in config.register_with_taints]
    if not config.register_schedulable:
        spec["unschedulable"] = True
    if taints:
        spec["taints"] = taints
    if config.provider_id:
        spec["providerID"] = config.provider_id
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": dict(status)}


def metadata_patch(config: KubeletConfig, machine: Machine, existing: Mapping[str, Any]) -> dict[str, Any]:
    """What to patch of the metadata of a node that is there; {} for nothing."""
    known = existing["metadata"].get("labels") or {}
    own = node_labels(config, machine)
    labels = {name: own[name] for name in _RECONCILED if name in own and known.get(name) != own[name]}
    if CLUSTER_DNS_LABEL in own and CLUSTER_DNS_LABEL not in known:  # it registered before it had a name server
        labels[CLUSTER_DNS_LABEL] = own[CLUSTER_DNS_LABEL]
    patch: dict[str, Any] = {"labels": labels} if labels else {}
    if (existing["metadata"].get("annotations") or {}).get(_ATTACH) != "true":
        patch["annotations"] = {_ATTACH: "true"}
    return {"metadata": patch} if patch else {}


def extended_resources(status: Mapping[str, Any]) -> list[str]:
    """Names in a node's capacity that are no resources of Kubernetes' own."""
    return [name for name in status.get("capacity") or {} if _is_extended(name)]


def _is_extended(name: str) -> bool:
    domain, slash, _ = name.partition("/")
    return bool(slash) and domain != "kubernetes.io" and not domain.endswith(".kubernetes.io")


def without_extended(status: Mapping[str, Any]) -> dict[str, Any]:
    """A patch of the status that says that no extended resource is there until it is announced anew; {} for nothing."""
    zero = {name: "0" for name in extended_resources(status) if str(status["capacity"][name]) != "0"}
    return {"capacity": zero, "allocatable": dict(zero)} if zero else {}
