"""Runs the controllers: upstream's names choose which, one set of informers serves all, a lease chooses who leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent
from tiphys.client.election import Election, ElectionConfig
from tiphys.client.events import EventRecorder
from tiphys.client.informer import InformerFactory
from tiphys.client.types import Client
from tiphys.controllers.base import Connect, Controller, ControllerContext

log = logging.getLogger(__name__)

ALL = "*"

ALIASES = {
    "attachdetach": "persistentvolume-attach-detach-controller",
    "bootstrapsigner": "bootstrap-signer-controller",
    "cloud-node-lifecycle": "cloud-node-lifecycle-controller",
    "clusterrole-aggregation": "clusterrole-aggregation-controller",
    "cronjob": "cronjob-controller",
    "csrapproving": "certificatesigningrequest-approving-controller",
    "csrcleaner": "certificatesigningrequest-cleaner-controller",
    "csrsigning": "certificatesigningrequest-signing-controller",
    "daemonset": "daemonset-controller",
    "deployment": "deployment-controller",
    "disruption": "disruption-controller",
    "endpoint": "endpoints-controller",
    "endpointslice": "endpointslice-controller",
    "endpointslicemirroring": "endpointslice-mirroring-controller",
    "ephemeral-volume": "ephemeral-volume-controller",
    "garbagecollector": "garbage-collector-controller",
    "horizontalpodautoscaling": "horizontal-pod-autoscaler-controller",
    "job": "job-controller",
    "legacy-service-account-token-cleaner": "legacy-serviceaccount-token-cleaner-controller",
    "namespace": "namespace-controller",
    "nodeipam": "node-ipam-controller",
    "nodelifecycle": "node-lifecycle-controller",
    "persistentvolume-binder": "persistentvolume-binder-controller",
    "persistentvolume-expander": "persistentvolume-expander-controller",
    "podgc": "pod-garbage-collector-controller",
    "pv-protection": "persistentvolume-protection-controller",
    "pvc-protection": "persistentvolumeclaim-protection-controller",
    "replicaset": "replicaset-controller",
    "replicationcontroller": "replicationcontroller-controller",
    "resource-claim-controller": "resourceclaim-controller",
    "resourcequota": "resourcequota-controller",
    "root-ca-cert-publisher": "root-ca-certificate-publisher-controller",
    "route": "node-route-controller",
    "service": "service-lb-controller",
    "serviceaccount": "serviceaccount-controller",
    "serviceaccount-token": "serviceaccount-token-controller",
    "statefulset": "statefulset-controller",
    "storage-version-gc": "storageversion-garbage-collector-controller",
    "svm": "storage-version-migrator-controller",
    "tokencleaner": "token-cleaner-controller",
    "ttl": "ttl-controller",
    "ttl-after-finished": "ttl-after-finished-controller",
}
"""Names of old, which upstream accepts for ever."""

ON_REQUEST = frozenset({"bootstrap-signer-controller", "selinux-warning-controller", "token-cleaner-controller"})
"""What "*" leaves out, as upstream."""

OFF = {
    "cloud-node-lifecycle-controller": "it belongs to a cloud's own controller manager",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller": "its feature ClusterTrustBundle is off",
    "node-route-controller": "it belongs to a cloud's own controller manager",
    "podcertificaterequest-cleaner-controller": "its feature PodCertificateRequest is off",
    "podgroup-protection-controller": "its feature GenericWorkload is off",
    "resourcepoolstatusrequest-controller": "its feature DRAResourcePoolStatus is off",
    "storage-version-migrator-controller": "its feature StorageVersionMigrator is off",
    "storageversion-garbage-collector-controller": "its feature StorageVersionAPI is off",
}
"""What upstream's manager knows and does not run in 1.36, unless told otherwise, and why: asking for one is noted."""


@dataclass(slots=True)
class ManagerState:
    """How a manager stands, for whoever serves its health."""

    election: Election | None = None
    """None: there is none, the controllers just run."""
    controllers: tuple[str, ...] = ()
    """Names of those that run now."""


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """How the manager runs."""

    connect: Connect | None = None
    """Makes a client for a controller's own service account; None: all use the manager's client."""
    leader_elect: bool = False
    identity: str = "tiphys"
    """Who we are in the election."""
    lease: str = "kube-controller-manager"
    lease_namespace: str = "kube-system"
    lease_seconds: float = 15.0
    """How long others wait for a leader that is silent."""
    renew_seconds: float = 10.0
    """How long a leader goes on without having renewed its lease."""
    retry_seconds: float = 2.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Controllers' settings by upstream's flag names without dashes in front; "root-ca" is PEM text."""
    state: ManagerState = field(default_factory=ManagerState)
    """Kept current while the manager runs."""


_CONTROLLERS = (
    "namespace.NamespaceController",
    "serviceaccount.ServiceAccountController",
    "serviceaccount_token.ServiceAccountTokenController",
    "legacy_token_cleaner.LegacyTokenCleaner",
    "bootstrap_tokens.TokenCleanerController",
    "bootstrap_tokens.BootstrapSignerController",
    "root_ca.RootCaController",
    "csr_approving.CsrApprovingController",
    "csr_signing.CsrSigningController",
    "csr_cleaner.CsrCleanerController",
    "replicaset.ReplicaSetController",
    "replicationcontroller.ReplicationControllerController",
    "deployment.DeploymentController",
    "daemonset.DaemonSetController",
    "statefulset.StatefulSetController",
    "job.JobController",
    "cronjob.CronJobController",
    "autoscaler.HorizontalPodAutoscalerController",
    "disruption.DisruptionController",
    "ttl_after_finished.TtlAfterFinishedController",
    "volume_binder.VolumeBinderController",
    "volume_expander.VolumeExpanderController",
    "ephemeral_volume.EphemeralVolumeController",
    "volume_protection.ClaimProtectionController",
    "volume_protection.VolumeProtectionController",
    "volume_protection.AttributesClassProtectionController",
    "attach_detach.AttachDetachController",
    "resource_claim.ResourceClaimController",
    "device_taint_eviction.DeviceTaintEvictionController",
    "selinux_warning.SELinuxWarningController",
    "node_ipam.NodeIpamController",
    "ttl.TtlController",
    "node_lifecycle.NodeLifecycleController",
    "taint_eviction.TaintEvictionController",
    "pod_garbage.PodGarbageController",
    "endpoints.EndpointsController",
    "endpointslice.EndpointSliceController",
    "endpointslice_mirroring.EndpointSliceMirroringController",
    "service_cidr.ServiceCidrController",
    "service_lb.ServiceLbController",
    "cluster_dns.ClusterDnsController",
    "resource_quota.ResourceQuotaController",
    "clusterrole_aggregation.ClusterRoleAggregationController",
    "policy_status.PolicyStatusController",
    "garbage.GarbageController",
)
"""Module and class of each, in the order in which they start. The garbage collector is last: it then shares the
informers of the others."""


def registry() -> dict[str, type[Controller]]:
    """Every controller by its name."""
    found: dict[str, type[Controller]] = {}
    for path in _CONTROLLERS:
        module, _, name = path.rpartition(".")
        made: type[Controller] = getattr(import_module(f"tiphys.controllers.{module}"), name)
        found[made.name] = made
    return found


def choose(names: Sequence[str] | str, known: Sequence[str]) -> list[str]:
    """The controllers that --controllers means: "*" for all, "foo" for one, "-foo" for not that one; of several
    mentions of one the first counts.

    Raises Permanent for a name that nobody has."""
    given = names.split(",") if isinstance(names, str) else list(names)
    asked = [_canonical(each.strip()) for each in given if each.strip()]
    _check(asked, known)
    chosen = []
    for each in known:
        first = next((one for one in asked if one.removeprefix("-") == each), None)
        if first == each or (first is None and ALL in asked and each not in ON_REQUEST):
            chosen.append(each)
    return chosen


def _check(asked: Sequence[str], known: Sequence[str]) -> None:
    valid = {ALL, *known, *OFF}
    unknown = [f'"{bare}"' for each in asked if (bare := each.removeprefix("-")) not in valid]
    if unknown:
        listed = f"{', '.join(unknown)} is not in the list of known controllers"
        raise Permanent(f"--controllers: {listed}; there are {', '.join(sorted({*known, *OFF}))}")
    for each in asked:
        if each in OFF and each not in known:
            log.warning("%s is not started: %s", each, OFF[each])


def _canonical(name: str) -> str:
    sign = "-" if name.startswith("-") else ""
    bare = name.removeprefix("-")
    return sign + ALIASES.get(bare, bare)


async def run(
    client: Client, clock: Clock, names: Sequence[str] | str = ALL, config: ManagerConfig | None = None
) -> None:
    """Run the chosen controllers until cancelled. Raises Permanent, LeadershipLost."""
    config = config or ManagerConfig()
    classes = registry()
    chosen = [classes[each] for each in choose(names, list(classes))]
    connect = config.connect or (lambda user: client)
    if not config.leader_elect:
        await _work(client, connect, clock, chosen, config)
        return
    election = config.state.election = _election(client, clock, config)

    async def work() -> None:
        await _work(client, lambda user: election.fenced(connect(user)), clock, chosen, config)

    await election.lead(work)


def _election(client: Client, clock: Clock, config: ManagerConfig) -> Election:
    durations = config.lease_seconds, config.renew_seconds, config.retry_seconds
    terms = ElectionConfig(config.lease, config.identity, config.lease_namespace, *durations)
    return Election(client, clock, terms, EventRecorder(client, clock, "kube-controller-manager"))


async def _work(
    client: Client, connect: Connect, clock: Clock, chosen: Sequence[type[Controller]], config: ManagerConfig
) -> None:
    async with InformerFactory(client, clock) as informers:
        context = ControllerContext(informers, connect, clock, config.settings)
        controllers = [each(context) for each in chosen]
        log.info("starting %d controllers", len(controllers))
        config.state.controllers = tuple(controller.name for controller in controllers)
        async with asyncio.TaskGroup() as tasks:
            for controller in controllers:
                tasks.create_task(controller.run(), name=controller.name)
