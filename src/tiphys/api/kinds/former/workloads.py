"""Workloads of extensions/v1beta1 and apps/v1beta1: selectors by default, other strategies, rollbackTo.

What today's types have no field for is kept in annotations, as upstream keeps it.
"""

from __future__ import annotations

from tiphys.api.kinds.apps.daemonset import DaemonSet
from tiphys.api.kinds.apps.deployment import Deployment
from tiphys.api.kinds.apps.replicaset import ReplicaSet
from tiphys.api.kinds.apps.statefulset import StatefulSet
from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.common import child, fill_empty, setdefaults
from tiphys.api.kinds.former.base import Former, annotate, pop_annotation, select_own_labels

ROLLBACK_TO = "deprecated.deployment.rollback.to"
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_UNLIMITED = 2**31 - 1


class AppsDeployment(Former, Deployment):
    """apps/v1beta1"""

    def default(self, obj: MutableObject, version: str) -> None:
        select_own_labels(obj)
        setdefaults(child(obj, "spec"), revisionHistoryLimit=2)
        super().default(obj, version)

    def renew(self, obj: MutableObject) -> None:
        pop_annotation(obj, ROLLBACK_TO)
        wanted = (obj.get("spec") or {}).pop("rollbackTo", None)
        if wanted is not None:
            annotate(obj, ROLLBACK_TO, str(wanted.get("revision") or 0))

    def restore(self, obj: MutableObject) -> None:
        revision = pop_annotation(obj, ROLLBACK_TO)
        if revision is not None and revision.isdecimal():
            child(obj, "spec")["rollbackTo"] = {"revision": int(revision)} if int(revision) else {}


class ExtensionsDeployment(AppsDeployment):
    """extensions/v1beta1"""

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        setdefaults(spec, progressDeadlineSeconds=_UNLIMITED, revisionHistoryLimit=_UNLIMITED)
        strategy = child(spec, "strategy")
        fill_empty(strategy, type="RollingUpdate")
        if strategy["type"] == "RollingUpdate" or strategy.get("rollingUpdate") is not None:
            setdefaults(child(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=1)
        super().default(obj, version)


class ExtensionsReplicaSet(Former, ReplicaSet):
    """extensions/v1beta1"""

    def default(self, obj: MutableObject, version: str) -> None:
        select_own_labels(obj)
        super().default(obj, version)


class ExtensionsDaemonSet(Former, DaemonSet):
    """extensions/v1beta1"""

    def default(self, obj: MutableObject, version: str) -> None:
        select_own_labels(obj)
        fill_empty(child(child(obj, "spec"), "updateStrategy"), type="OnDelete")
        super().default(obj, version)

    def renew(self, obj: MutableObject) -> None:
        pop_annotation(obj, TEMPLATE_GENERATION)
        generation = (obj.get("spec") or {}).pop("templateGeneration", None)
        if generation:
            annotate(obj, TEMPLATE_GENERATION, str(generation))

    def restore(self, obj: MutableObject) -> None:
        generation = pop_annotation(obj, TEMPLATE_GENERATION)
        if generation is not None and generation.isdecimal() and int(generation):
            child(obj, "spec")["templateGeneration"] = int(generation)


class AppsStatefulSet(Former, StatefulSet):
    """apps/v1beta1"""

    def default(self, obj: MutableObject, version: str) -> None:
        select_own_labels(obj)
        fill_empty(child(child(obj, "spec"), "updateStrategy"), type="OnDelete")
        super().default(obj, version)
