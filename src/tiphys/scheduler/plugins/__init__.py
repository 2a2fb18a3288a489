"""The plugins, in the order in which they filter: cheap and decisive ones first. This is the whole list."""

from __future__ import annotations

from tiphys.scheduler.plugins.fit import BalancedAllocation, Fit
from tiphys.scheduler.plugins.images import ImageLocality
from tiphys.scheduler.plugins.node import NodeAffinity, NodeName, NodePorts, NodeUnschedulable
from tiphys.scheduler.plugins.pod_affinity import InterPodAffinity
from tiphys.scheduler.plugins.spread import PodTopologySpread
from tiphys.scheduler.plugins.taints import TaintToleration
from tiphys.scheduler.plugins.volumes import VolumeBinding, VolumeRestrictions
from tiphys.scheduler.types import Plugin


def default() -> tuple[Plugin, ...]:
    return (
        NodeName(),
        NodeUnschedulable(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        Fit(),
        VolumeRestrictions(),
        VolumeBinding(),
        PodTopologySpread(),
        InterPodAffinity(),
        BalancedAllocation(),
        ImageLocality(),
    )
