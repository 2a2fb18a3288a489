"""Every built-in kind, in one visible list. Modules are imported when their kind is first asked for."""

from __future__ import annotations

from importlib import import_module

from tiphys.api.kinds.base import Kind

_CORE = (
    "binding.Binding",
    "componentstatus.ComponentStatus",
    "configmap.ConfigMap",
    "endpoints.Endpoints",
    "event.Event",
    "limitrange.LimitRange",
    "namespace.Namespace",
    "node.Node",
    "persistentvolume.PersistentVolume",
    "persistentvolumeclaim.PersistentVolumeClaim",
    "pod.Pod",
    "podtemplate.PodTemplate",
    "replicationcontroller.ReplicationController",
    "resourcequota.ResourceQuota",
    "secret.Secret",
    "service.Service",
    "serviceaccount.ServiceAccount",
)
_OTHERS = (
    "admissionregistration.bindings.MutatingAdmissionPolicyBinding",
    "admissionregistration.bindings.ValidatingAdmissionPolicyBinding",
    "admissionregistration.policies.MutatingAdmissionPolicy",
    "admissionregistration.policies.ValidatingAdmissionPolicy",
    "admissionregistration.webhooks.MutatingWebhookConfiguration",
    "admissionregistration.webhooks.ValidatingWebhookConfiguration",
    "apiextensions.customresourcedefinition.CustomResourceDefinition",
    "apiregistration.apiservice.APIService",
    "apps.controllerrevision.ControllerRevision",
    "apps.daemonset.DaemonSet",
    "apps.deployment.Deployment",
    "apps.replicaset.ReplicaSet",
    "apps.statefulset.StatefulSet",
    "authentication.reviews.SelfSubjectReview",
    "authentication.reviews.TokenReview",
    "authorization.reviews.LocalSubjectAccessReview",
    "authorization.reviews.SelfSubjectAccessReview",
    "authorization.reviews.SelfSubjectRulesReview",
    "authorization.reviews.SubjectAccessReview",
    "autoscaling.horizontalpodautoscaler.HorizontalPodAutoscaler",
    "batch.cronjob.CronJob",
    "batch.job.Job",
    "certificates.certificatesigningrequest.CertificateSigningRequest",
    "coordination.lease.Lease",
    "core.event.NewEvent",
    "discovery.endpointslice.EndpointSlice",
    "flowcontrol.flowschema.FlowSchema",
    "flowcontrol.prioritylevelconfiguration.PriorityLevelConfiguration",
    "networking.addresses.IPAddress",
    "networking.addresses.ServiceCIDR",
    "networking.ingress.Ingress",
    "networking.ingressclass.IngressClass",
    "networking.networkpolicy.NetworkPolicy",
    "node.runtimeclass.RuntimeClass",
    "policy.poddisruptionbudget.PodDisruptionBudget",
    "rbac.clusterrole.ClusterRole",
    "rbac.clusterrolebinding.ClusterRoleBinding",
    "rbac.role.Role",
    "rbac.rolebinding.RoleBinding",
    "resource.claims.DeviceClass",
    "resource.claims.ResourceClaim",
    "resource.claims.ResourceClaimTemplate",
    "resource.slices.ResourceSlice",
    "scheduling.priorityclass.PriorityClass",
    "storage.csi.CSIDriver",
    "storage.csi.CSINode",
    "storage.csi.CSIStorageCapacity",
    "storage.storageclass.StorageClass",
    "storage.storageclass.VolumeAttributesClass",
    "storage.volumeattachment.VolumeAttachment",
)
NAMES = (*(f"core.{name}" for name in _CORE), *_OTHERS)


def kinds() -> tuple[Kind, ...]:
    """One object of each kind; all hold no state."""
    found = []
    for name in NAMES:
        module, _, cls = name.rpartition(".")
        found.append(getattr(import_module(f"tiphys.api.kinds.{module}"), cls)())
    return tuple(found)
