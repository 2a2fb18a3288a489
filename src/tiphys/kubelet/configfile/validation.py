"""What is wrong with a KubeletConfiguration, in upstream's words (pkg/kubelet/apis/config/validation). Pure.

Checked are the fields as written; what is absent has its default, which is valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.base.durations import format_duration, parse_duration
from tiphys.base.errors import Permanent
from tiphys.kubelet.eviction.signals import EvictionSettings, make_thresholds

Document = Mapping[str, Any]


def check(document: Document) -> list[str]:
    """All problems; [] for a valid document. Raises Permanent for durations that are none."""
    problems = [f"invalid configuration: {one}" for one in _everything(document)]
    problems += [f"invalid taint: {one}" for one in _bad_taints(document)]
    try:
        make_thresholds(_eviction(document))
    except Permanent as error:
        problems.append(str(error))
    return problems


def _everything(document: Document) -> Iterator[str]:
    yield from _numbers(document)
    yield from _images(document)
    yield from _shutdown(document)
    yield from _allocatable(document)
    yield from _choices(document)
    yield from _logs(document)


def _integer(document: Document, name: str, default: int) -> int:
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _seconds(document: Document, name: str, default: float = 0.0) -> float:
    value = document.get(name)
    return parse_duration(str(value)) if value is not None else default


_RANGES = (
    ("nodeLeaseDurationSeconds", 40, 1, None, "nodeLeaseDurationSeconds must be greater than 0"),
    ("eventBurst", 100, 0, None, "eventBurst (--event-burst) {} must not be a negative number"),
    ("eventRecordQPS", 50, 0, None, "eventRecordQPS (--event-qps) {} must not be a negative number"),
    ("healthzPort", 10248, 0, 65535, "healthzPort (--healthz-port) {} must be between 1 and 65535, inclusive"),
    ("iptablesDropBit", 15, 0, 31, "iptablesDropBit (--iptables-drop-bit) {} must be between 0 and 31, inclusive"),
    (
        *("iptablesMasqueradeBit", 14, 0, 31),
        "iptablesMasqueradeBit (--iptables-masquerade-bit) {} must be between 0 and 31, inclusive",
    ),
    ("kubeAPIBurst", 100, 0, None, "kubeAPIBurst (--kube-api-burst) {} must not be a negative number"),
    ("kubeAPIQPS", 50, 0, None, "kubeAPIQPS (--kube-api-qps) {} must not be a negative number"),
    ("nodeStatusMaxImages", 50, -1, None, "nodeStatusMaxImages (--node-status-max-images) {} must be -1 or greater"),
    ("maxOpenFiles", 1, 0, None, "maxOpenFiles (--max-open-files) {} must not be a negative number"),
    ("maxPods", 110, 0, None, "maxPods (--max-pods) {} must not be a negative number"),
    ("oomScoreAdj", -999, -1000, 1000, "oomScoreAdj (--oom-score-adj) {} must be between -1000 and 1000, inclusive"),
    ("podsPerCore", 0, 0, None, "podsPerCore (--pods-per-core) {} must not be a negative number"),
    ("port", 10250, 1, 65535, "port (--port) {} must be between 1 and 65535, inclusive"),
    ("readOnlyPort", 0, 0, 65535, "readOnlyPort (--read-only-port) {} must be between 0 and 65535, inclusive"),
    ("registryBurst", 10, 0, None, "registryBurst (--registry-burst) {} must not be a negative number"),
    ("registryPullQPS", 5, 0, None, "registryPullQPS (--registry-qps) {} must not be a negative number"),
    ("maxParallelImagePulls", 1, 1, None, "maxParallelImagePulls {} must be a positive number"),
    ("containerLogMaxWorkers", 1, 1, None, "containerLogMaxWorkers must be greater than or equal to 1"),
    ("containerLogMaxFiles", 5, 2, None, "containerLogMaxFiles must be greater than 1"),
)
"""(field, default, least, most, message)."""


def _numbers(document: Document) -> Iterator[str]:
    for name, default, least, most, message in _RANGES:
        value = _integer(document, name, default)
        if value < least or (most is not None and value > most):
            yield message.format(value)
    if document.get("systemCgroups") and not document.get("cgroupRoot"):
        yield ("systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified")
    period = _seconds(document, "cpuCFSQuotaPeriod", 0.1)
    if not 0.001 <= period <= 1:
        text = format_duration(period)
        yield f"cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {{{text}}} must be between 1ms and 1sec, inclusive"
    if document.get("runOnce"):
        yield "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set"
    crashes = document.get("crashLoopBackOff") or {}
    if crashes.get("maxContainerRestartPeriod") is not None:
        longest = _seconds(crashes, "maxContainerRestartPeriod")
        if not 1 <= longest <= 300:
            text = f"(got: {longest:g} seconds) must be set between 1s and 300s"
            yield f"CrashLoopBackOff.MaxContainerRestartPeriod {text}"


def _images(document: Document) -> Iterator[str]:
    high = _integer(document, "imageGCHighThresholdPercent", 85)
    low = _integer(document, "imageGCLowThresholdPercent", 80)
    names = "imageGCHighThresholdPercent (--image-gc-high-threshold)"
    lower = "imageGCLowThresholdPercent (--image-gc-low-threshold)"
    if not 0 <= high <= 100:
        yield f"{names} {high} must be between 0 and 100, inclusive"
    if not 0 <= low <= 100:
        yield f"{lower} {low} must be between 0 and 100, inclusive"
    if low >= high:
        yield f"{lower} {low} must be less than {names} {high}"
    least = _seconds(document, "imageMinimumGCAge") or 120.0
    most = _seconds(document, "imageMaximumGCAge")
    if least < 0:
        yield f"imageMinimumGCAge {format_duration(least)} must not be negative"
    if most < 0:
        yield f"imageMaximumGCAge {format_duration(most)} must not be negative"
    if 0 < most <= least:
        text = f"must be greater than imageMinimumGCAge {format_duration(least)}"
        yield f"imageMaximumGCAge {format_duration(most)} {text}"
    if document.get("serializeImagePulls") is True and _integer(document, "maxParallelImagePulls", 1) > 1:
        yield (
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) "
            "is set to false"
        )


def _shutdown(document: Document) -> Iterator[str]:
    whole = _seconds(document, "shutdownGracePeriod")
    critical = _seconds(document, "shutdownGracePeriodCriticalPods")
    shown, shown_critical = (f"{{{format_duration(one)}}}" for one in (whole, critical))
    if critical > whole:
        yield f"shutdownGracePeriodCriticalPods {shown_critical} must be <= shutdownGracePeriod {shown}"
    if whole < 0 or 0 < whole < 1:
        yield f"shutdownGracePeriod {shown} must be either zero or otherwise >= 1 sec"
    if critical < 0 or 0 < critical < 1:
        yield f"shutdownGracePeriodCriticalPods {shown_critical} must be either zero or otherwise >= 1 sec"
    if document.get("shutdownGracePeriodByPodPriority") and (whole > 0 or critical > 0):
        yield "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"


_ENFORCEMENTS = (
    "pods", "system-reserved", "system-reserved-compressible", "kube-reserved", "kube-reserved-compressible", "none",
)  # fmt: skip
_FLAG = "enforceNodeAllocatable (--enforce-node-allocatable)"


def _allocatable(document: Document) -> Iterator[str]:
    given = [str(one) for one in document.get("enforceNodeAllocatable") or ()]
    for kind in ("system-reserved", "kube-reserved"):
        if kind in given and f"{kind}-compressible" in given:
            yield f'both "{kind}-compressible" and "{kind}" cannot be specified together in {_FLAG}'
    for position, one in enumerate(given):
        if one in given[:position]:
            yield f'duplicated enforcements "{one}" in {_FLAG}'
        else:
            yield from _enforcement(document, given, one)


def _enforcement(document: Document, given: list[str], one: str) -> Iterator[str]:
    kind = one.removesuffix("-compressible")
    if one == "none":
        if len(given) > 1:
            yield f'{_FLAG} may not contain additional enforcements when "none" is specified'
        return
    if one not in _ENFORCEMENTS:
        valid = ", ".join(f'"{name}"' for name in _ENFORCEMENTS[:-1]) + f' or "{_ENFORCEMENTS[-1]}"'
        yield f'option "{one}" specified for {_FLAG}. Valid options are {valid}'
        return
    field = {"system-reserved": "systemReservedCgroup", "kube-reserved": "kubeReservedCgroup"}.get(kind)
    if field is not None and not document.get(field):
        flag = f"{field} (--{kind}-cgroup) must be specified when"
        yield f'{flag} "{kind}" or "{kind}-compressible" included in {_FLAG}'
    if document.get("cgroupsPerQOS") is False:
        yield f'cgroupsPerQOS (--cgroups-per-qos) must be set to true when "{one}" contained in {_FLAG}'


def _choices(document: Document) -> Iterator[str]:
    policies = ("none", "best-effort", "restricted", "single-numa-node")
    policy = document.get("topologyManagerPolicy") or "none"
    if policy not in policies:
        valid = " ".join(f'"{one}"' for one in policies)
        yield f'topologyManagerPolicy (--topology-manager-policy) "{policy}" must be one of: [{valid}]'
    scope = document.get("topologyManagerScope") or "container"
    if scope not in ("container", "pod"):
        yield f'topologyManagerScope (--topology-manager-scope) "{scope}" must be one of: "container", or "pod"'
    swap = (document.get("memorySwap") or {}).get("swapBehavior") or ""
    if swap not in ("", "NoSwap", "LimitedSwap"):
        yield f'memorySwap.swapBehavior "{swap}" must be one of: "", "LimitedSwap" or "NoSwap"'
    hairpin = document.get("hairpinMode") or "promiscuous-bridge"
    if hairpin not in ("none", "hairpin-veth", "promiscuous-bridge"):
        text = 'Valid options are "none", "hairpin-veth" or "promiscuous-bridge"'
        yield f'option "{hairpin}" specified for hairpinMode (--hairpin-mode). {text}'
    yield from _verification(document)
    factor = document.get("memoryThrottlingFactor")
    if isinstance(factor, int | float) and not 0 < factor <= 1:
        yield f"memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to 1.0"


def _verification(document: Document) -> Iterator[str]:
    valid = ("NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify")
    chosen = document.get("imagePullCredentialsVerificationPolicy") or valid[1]
    if chosen not in valid:
        options = ", ".join(f'"{one}"' for one in valid[:-1]) + f' or "{valid[-1]}"'
        text = f'option "{chosen}" specified for imagePullCredentialsVerificationPolicy.'
        yield f"{text} Valid options are {options}"
    if document.get("preloadedImagesVerificationAllowlist") and chosen != "NeverVerifyAllowlistedImages":
        yield (
            "can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not "
            '"NeverVerifyAllowlistedImages"'
        )


def _logs(document: Document) -> Iterator[str]:
    if _seconds(document, "containerLogMonitorInterval", 10) < 3:
        yield "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s"
    where = str(document.get("podLogsDir") or "/var/log/pods")
    if not where.startswith("/"):
        yield f'pod logs path "{where}" must be absolute path'
    if any(part in ("", ".", "..") for part in where.split("/")[1:]) and where != "/":
        yield f'pod logs path "{where}" must be normalized'
    if not where.isascii():
        yield f'pod logs path "{where}" mut contains ASCII characters only'


def _bad_taints(document: Document) -> Iterator[str]:
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute", "")
    for taint in document.get("registerWithTaints") or ():
        if not isinstance(taint, Mapping) or not taint.get("key") or (taint.get("effect") or "") not in effects:
            yield str(taint)


def _eviction(document: Document) -> EvictionSettings:
    def table(name: str) -> dict[str, str]:
        return {str(signal): str(value) for signal, value in (document.get(name) or {}).items()}

    return EvictionSettings(
        table("evictionHard"),
        table("evictionSoft"),
        table("evictionSoftGracePeriod"),
        table("evictionMinimumReclaim"),
    )
