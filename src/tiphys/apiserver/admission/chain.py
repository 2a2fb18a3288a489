"""Which admission plugins there are, in what order they run, and how each is made of what the server has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from tiphys.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from tiphys.apiserver.admission.ingress_class import DefaultIngressClass
from tiphys.apiserver.admission.limit_ranger import LimitRanger
from tiphys.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from tiphys.apiserver.admission.node_restriction import NodeRestriction
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
from tiphys.apiserver.webhooks.measures import Measures
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
    measures: Measures
    handler: Callable[[], Handler]
    """The server's own, once it is there: for plugins that write."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """By plugin: what --admission-control-config-file says."""


MAKERS: Mapping[str, Callable[[Materials], Plugin]] = {
    "NamespaceLifecycle": lambda m: NamespaceLifecycle(m.reader),
    "LimitRanger": lambda m: LimitRanger(m.reader),
    "ServiceAccount": lambda m: ServiceAccount(m.reader),
    "NodeRestriction": lambda m: NodeRestriction(m.reader, m.authorizer),
    "TaintNodesByCondition": lambda m: TaintNodesByCondition(),
    "PodSecurity": lambda m: PodSecurity(m.reader, m.configuration.get("PodSecurity")),
    "Priority": lambda m: Priority(m.reader),
    "DefaultTolerationSeconds": lambda m: DefaultTolerationSeconds(),
    "DefaultStorageClass": lambda m: DefaultStorageClass(m.reader),
    "StorageObjectInUseProtection": lambda m: StorageObjectInUseProtection(),
    "PersistentVolumeClaimResize": lambda m: PersistentVolumeClaimResize(m.reader),
    "RuntimeClass": lambda m: RuntimeClass(m.reader),
    "CertificateApproval": lambda m: CertificateApproval(m.authorizer),
    "CertificateSigning": lambda m: CertificateSigning(m.authorizer),
    "CertificateSubjectRestriction": lambda m: CertificateSubjectRestriction(),
    "DefaultIngressClass": lambda m: DefaultIngressClass(m.reader),
    "PodTopologyLabels": lambda m: PodTopologyLabels(m.reader),
    "NodeDeclaredFeatureValidator": lambda m: NodeDeclaredFeatureValidator(m.reader),
    "PodResizeValidator": lambda m: PodResizeValidator(m.reader),
    "MutatingAdmissionPolicy": lambda m: MutatingPolicies(m.reader, m.versions, m.authorizer),
    "MutatingAdmissionWebhook": lambda m: MutatingWebhooks(m.reader, m.webhooks, m.versions, m.authorizer, m.measures),
    "ValidatingAdmissionPolicy": lambda m: ValidatingPolicies(m.reader, m.versions, m.authorizer),
    "ValidatingAdmissionWebhook": lambda m: ValidatingWebhooks(
        m.reader, m.webhooks, m.versions, m.authorizer, m.measures
    ),
    "ResourceQuota": lambda m: ResourceQuota(m.reader, m.ledger),
}


class _Later(NamedTuple):
    """A plugin whose module is imported only if it is asked for."""

    module: str
    arguments: Callable[[Materials], tuple[Any, ...]] = lambda _: ()

    def make(self, name: str, materials: Materials) -> Plugin:
        plugin = getattr(import_module(f"tiphys.apiserver.admission.{self.module}"), name)
        made: Plugin = plugin(*self.arguments(materials))
        return made


OPTIONAL: Mapping[str, _Later] = {
    "AlwaysDeny": _Later("always"),
    "AlwaysPullImages": _Later("images"),
    "DenyServiceExternalIPs": _Later("external_ips"),
    "EventRateLimit": _Later("event_rate", lambda m: (m.clock, m.configuration.get("EventRateLimit"))),
    "ExtendedResourceToleration": _Later("placement"),
    "ImagePolicyWebhook": _Later("image_policy", lambda m: (m.clock, m.configuration.get("ImagePolicyWebhook"))),
    "LimitPodHardAntiAffinityTopology": _Later("placement"),
    "NamespaceAutoProvision": _Later("namespaces", lambda m: (m.reader, m.handler)),
    "NamespaceExists": _Later("namespaces", lambda m: (m.reader,)),
    "OwnerReferencesPermissionEnforcement": _Later("owners", lambda m: (m.authorizer, m.versions.catalog)),
    "PodNodeSelector": _Later("placement", lambda m: (m.reader, m.configuration.get("PodNodeSelector"))),
    "PodTolerationRestriction": _Later(
        "tolerations", lambda m: (m.reader, m.configuration.get("PodTolerationRestriction"))
    ),
}
"""Those that run only if they are asked for."""
DEFAULT = frozenset(ORDER) - frozenset(OPTIONAL) - {"AlwaysAdmit"}
"""The others: upstream's, and NodeRestriction, which upstream's installers add."""


def choose(enabled: Collection[str], disabled: Collection[str]) -> tuple[str, ...]:
    """The names of the plugins to run, in order. Raises Permanent for unknown names and contradictions."""
    unknown = sorted({*enabled, *disabled} - set(ORDER))
    if unknown:
        raise Permanent(f"admission plugins: {', '.join(unknown)}: no such plugin; known are {', '.join(ORDER)}")
    both = sorted(set(enabled) & set(disabled))
    if both:
        raise Permanent(f"admission plugins: {', '.join(both)}: both enabled and disabled")
    wanted = (DEFAULT | set(enabled)) - set(disabled)
    return tuple(name for name in ORDER if name in wanted)


def plugins(materials: Materials, names: Collection[str]) -> list[Plugin]:
    """The plugins of these names, in order."""
    return [_make(name, materials) for name in ORDER if name in names and name not in IDLE]


def _make(name: str, materials: Materials) -> Plugin:
    later = OPTIONAL.get(name)
    return MAKERS[name](materials) if later is None else later.make(name, materials)
