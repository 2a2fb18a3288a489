"""Which admission plugins there are, in what order they run, and how each is made of what the server has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.apiserver.admission.always import AlwaysDeny
from tiphys.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from tiphys.apiserver.admission.event_rate import EventRateLimit
from tiphys.apiserver.admission.external_ips import DenyServiceExternalIPs
from tiphys.apiserver.admission.images import AlwaysPullImages
from tiphys.apiserver.admission.ingress_class import DefaultIngressClass
from tiphys.apiserver.admission.limit_ranger import LimitRanger
from tiphys.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from tiphys.apiserver.admission.namespaces import NamespaceAutoProvision, NamespaceExists
from tiphys.apiserver.admission.node_restriction import NodeRestriction
from tiphys.apiserver.admission.placement import (
    ExtendedResourceToleration,
    LimitPodHardAntiAffinityTopology,
    PodNodeSelector,
)
from tiphys.apiserver.admission.pod_nodes import NodeDeclaredFeatureValidator, PodResizeValidator, PodTopologyLabels
from tiphys.apiserver.admission.pod_tolerations import DefaultTolerationSeconds, TaintNodesByCondition
from tiphys.apiserver.admission.podsecurity import PodSecurity
from tiphys.apiserver.admission.priority import Priority
from tiphys.apiserver.admission.resource_quota import QuotaLedger, ResourceQuota
from tiphys.apiserver.admission.runtime_class import RuntimeClass
from tiphys.apiserver.admission.service_account import ServiceAccount
from tiphys.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from tiphys.apiserver.policies.plugin import MutatingPolicies, ValidatingPolicies
from tiphys.apiserver.types import Authorizer, Plugin, Reader
from tiphys.apiserver.webhooks.client import WebhookClient
from tiphys.apiserver.webhooks.plugins import MutatingWebhooks, ValidatingWebhooks
from tiphys.apiserver.webhooks.versions import Versions
from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent
from tiphys.base.http.types import Handler

ORDER = (
    "AlwaysAdmit",
    "NamespaceAutoProvision",
    "NamespaceLifecycle",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "AlwaysPullImages",
    "ImagePolicyWebhook",
    "PodSecurity",
    "PodNodeSelector",
    "Priority",
    "DefaultTolerationSeconds",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "PodGroupProtection",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "ClusterTrustBundleAttest",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DenyServiceExternalIPs",
    "PodTopologyLabels",
    "PodGroupWorkloadExists",
    "NodeDeclaredFeatureValidator",
    "JobValidation",
    "PodResizeValidator",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
    "AlwaysDeny",
)
"""All plugins of kube-apiserver 1.36, as they run."""
OPTIONAL = frozenset(
    {
        "AlwaysAdmit",
        "AlwaysDeny",
        "AlwaysPullImages",
        "DenyServiceExternalIPs",
        "EventRateLimit",
        "ExtendedResourceToleration",
        "ImagePolicyWebhook",
        "LimitPodHardAntiAffinityTopology",
        "NamespaceAutoProvision",
        "NamespaceExists",
        "OwnerReferencesPermissionEnforcement",
        "PodNodeSelector",
        "PodTolerationRestriction",
    }
)
"""Those that run only if they are asked for. NodeRestriction is not among them: upstream's installers add it, too."""
DEFAULT = frozenset(ORDER) - OPTIONAL
IDLE = frozenset(
    {"AlwaysAdmit", "ClusterTrustBundleAttest", "JobValidation", "PodGroupProtection", "PodGroupWorkloadExists"}
)
"""Those that have nothing to do: they let everything pass, or are for resources that 1.36 serves only behind gates."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What plugins are made of."""

    reader: Reader
    authorizer: Authorizer
    ledger: QuotaLedger
    webhooks: WebhookClient
    versions: Versions
    clock: Clock
    handler: Callable[[], Handler]
    """The server's own, once it is there: for plugins that write."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """By plugin: what --admission-control-config-file says."""


MAKERS: Mapping[str, Callable[[Materials], Plugin]] = {
    "NamespaceAutoProvision": lambda m: NamespaceAutoProvision(m.reader, m.handler),
    "NamespaceLifecycle": lambda m: NamespaceLifecycle(m.reader),
    "NamespaceExists": lambda m: NamespaceExists(m.reader),
    "LimitPodHardAntiAffinityTopology": lambda m: LimitPodHardAntiAffinityTopology(),
    "LimitRanger": lambda m: LimitRanger(m.reader),
    "ServiceAccount": lambda m: ServiceAccount(m.reader),
    "NodeRestriction": lambda m: NodeRestriction(m.reader, m.authorizer),
    "TaintNodesByCondition": lambda m: TaintNodesByCondition(),
    "AlwaysPullImages": lambda m: AlwaysPullImages(),
    "PodSecurity": lambda m: PodSecurity(m.reader, m.configuration.get("PodSecurity")),
    "PodNodeSelector": lambda m: PodNodeSelector(m.reader, m.configuration.get("PodNodeSelector")),
    "Priority": lambda m: Priority(m.reader),
    "DefaultTolerationSeconds": lambda m: DefaultTolerationSeconds(),
    "EventRateLimit": lambda m: EventRateLimit(m.clock, m.configuration.get("EventRateLimit")),
    "ExtendedResourceToleration": lambda m: ExtendedResourceToleration(),
    "DefaultStorageClass": lambda m: DefaultStorageClass(m.reader),
    "StorageObjectInUseProtection": lambda m: StorageObjectInUseProtection(),
    "PersistentVolumeClaimResize": lambda m: PersistentVolumeClaimResize(m.reader),
    "RuntimeClass": lambda m: RuntimeClass(m.reader),
    "CertificateApproval": lambda m: CertificateApproval(m.authorizer),
    "CertificateSigning": lambda m: CertificateSigning(m.authorizer),
    "CertificateSubjectRestriction": lambda m: CertificateSubjectRestriction(),
    "DefaultIngressClass": lambda m: DefaultIngressClass(m.reader),
    "DenyServiceExternalIPs": lambda m: DenyServiceExternalIPs(),
    "PodTopologyLabels": lambda m: PodTopologyLabels(m.reader),
    "NodeDeclaredFeatureValidator": lambda m: NodeDeclaredFeatureValidator(m.reader),
    "PodResizeValidator": lambda m: PodResizeValidator(m.reader),
    "MutatingAdmissionPolicy": lambda m: MutatingPolicies(m.reader, m.versions, m.authorizer),
    "MutatingAdmissionWebhook": lambda m: MutatingWebhooks(m.reader, m.webhooks, m.versions, m.authorizer),
    "ValidatingAdmissionPolicy": lambda m: ValidatingPolicies(m.reader, m.versions, m.authorizer),
    "ValidatingAdmissionWebhook": lambda m: ValidatingWebhooks(m.reader, m.webhooks, m.versions, m.authorizer),
    "ResourceQuota": lambda m: ResourceQuota(m.reader, m.ledger),
    "AlwaysDeny": lambda m: AlwaysDeny(),
}


def choose(enabled: Collection[str], disabled: Collection[str]) -> tuple[str, ...]:
    """The names of the plugins to run, in order. Raises Permanent for unknown names and contradictions."""
    unknown = sorted({*enabled, *disabled} - set(ORDER))
    if unknown:
        raise Permanent(f"admission plugins: {', '.join(unknown)}: no such plugin; known are {', '.join(ORDER)}")
    both = sorted(set(enabled) & set(disabled))
    missing = sorted(name for name in enabled if name not in MAKERS and name not in IDLE)
    if missing:
        raise Permanent(f"admission plugins: {', '.join(missing)}: not there in this version")
    if both:
        raise Permanent(f"admission plugins: {', '.join(both)}: both enabled and disabled")
    wanted = (DEFAULT | set(enabled)) - set(disabled)
    return tuple(name for name in ORDER if name in wanted)


def plugins(materials: Materials, names: Collection[str]) -> list[Plugin]:
    """The plugins of these names, in order."""
    return [MAKERS[name](materials) for name in ORDER if name in names and name in MAKERS]
