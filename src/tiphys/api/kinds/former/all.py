"""The behaviour of each former version that differs from today's, in one visible list."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from tiphys.api.kinds.base import Kind

_BEHAVIOURS = {
    "extensions/v1beta1/DaemonSet": "workloads.ExtensionsDaemonSet",
    "extensions/v1beta1/Deployment": "workloads.ExtensionsDeployment",
    "extensions/v1beta1/Ingress": "ingress.FormerIngress",
    "extensions/v1beta1/ReplicaSet": "workloads.ExtensionsReplicaSet",
    "apps/v1beta1/Deployment": "workloads.AppsDeployment",
    "apps/v1beta1/StatefulSet": "workloads.AppsStatefulSet",
    "admissionregistration.k8s.io/v1beta1/MutatingWebhookConfiguration": "webhooks.FormerMutatingWebhooks",
    "admissionregistration.k8s.io/v1beta1/ValidatingWebhookConfiguration": "webhooks.FormerValidatingWebhooks",
    "apiextensions.k8s.io/v1beta1/CustomResourceDefinition": "customresourcedefinition.FormerDefinition",
    "authorization.k8s.io/v1beta1/LocalSubjectAccessReview": "reviews.FormerLocalReview",
    "authorization.k8s.io/v1beta1/SubjectAccessReview": "reviews.FormerReview",
    "autoscaling/v2beta1/HorizontalPodAutoscaler": "autoscaler.FirstBeta",
    "autoscaling/v2beta2/HorizontalPodAutoscaler": "autoscaler.SecondBeta",
    "certificates.k8s.io/v1beta1/CertificateSigningRequest": "certificate.FormerRequest",
    "discovery.k8s.io/v1beta1/EndpointSlice": "endpointslice.FormerSlice",
    "events.k8s.io/v1beta1/Event": "event.FormerEvent",
    "flowcontrol.apiserver.k8s.io/v1beta1/PriorityLevelConfiguration": "prioritylevel.FormerLevel",
    "flowcontrol.apiserver.k8s.io/v1beta2/PriorityLevelConfiguration": "prioritylevel.FormerLevel",
    "networking.k8s.io/v1beta1/Ingress": "ingress.FormerIngress",
    "policy/v1beta1/PodDisruptionBudget": "disruption.FormerBudget",
}


def behaviour(api_version: str, kind: str) -> Kind | None:
    """The behaviour of a former version; None when it is that of the current one."""
    found = _BEHAVIOURS.get(f"{api_version}/{kind}")
    if found is None:
        return None
    module, _, name = found.rpartition(".")
    made = getattr(import_module(f"{__package__}.{module}"), name)()
    return cast("Kind", made)
