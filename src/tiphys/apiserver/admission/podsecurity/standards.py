"""Which checks make up which level in which version; each table lists checks in the order of their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from tiphys.apiserver.admission.podsecurity import baseline, restricted
from tiphys.apiserver.admission.podsecurity.levels import BASELINE, PRIVILEGED, LevelVersion
from tiphys.apiserver.admission.podsecurity.restricted import not_for_own_users, not_for_windows
from tiphys.apiserver.admission.podsecurity.text import Check, Struct, Violation

NEWEST = 35
"""The last minor version that changed anything."""
Versions = Sequence[tuple[int, Check]]
"""From which minor version on which check; the last one that fits counts."""

BASELINE_CHECKS: Mapping[str, Versions] = {
    "appArmorProfile": [(0, baseline.app_armor)],
    "capabilities_baseline": [(0, baseline.capabilities)],
    "hostNamespaces": [(0, baseline.host_namespaces)],
    "hostPathVolumes": [(0, baseline.host_path_volumes)],
    "hostPorts": [(0, baseline.host_ports)],
    "hostProbesAndHostLifecycle": [(34, baseline.host_probes)],
    "privileged": [(0, baseline.privileged)],
    "procMount": [(0, baseline.proc_mount), (35, baseline.proc_mount_35)],
    "seLinuxOptions": [
        (0, baseline.selinux(baseline.SELINUX_TYPES)),
        (31, baseline.selinux(baseline.SELINUX_TYPES | {"container_engine_t"})),
    ],
    "seccompProfile_baseline": [(0, baseline.seccomp_annotations), (19, baseline.seccomp)],
    "sysctls": [
        (0, baseline.sysctls(baseline.SYSCTLS)),
        (27, baseline.sysctls(baseline.SYSCTLS_27)),
        (29, baseline.sysctls(baseline.SYSCTLS_29)),
        (32, baseline.sysctls(baseline.SYSCTLS_32)),
    ],
    "windowsHostProcess": [(0, baseline.windows_host_process)],
}
RESTRICTED_CHECKS: Mapping[str, Versions] = {
    "allowPrivilegeEscalation": [
        (8, restricted.privilege_escalation),
        (25, not_for_windows(restricted.privilege_escalation)),
    ],
    "capabilities_restricted": [(22, restricted.capabilities), (25, not_for_windows(restricted.capabilities))],
    "procMount_restricted": [(35, baseline.proc_mount)],
    "restrictedVolumes": [(0, restricted.volumes)],
    "runAsNonRoot": [(0, restricted.non_root), (35, not_for_own_users(restricted.non_root))],
    "runAsUser": [(23, restricted.user), (35, not_for_own_users(restricted.user))],
    "seccompProfile_restricted": [(19, restricted.seccomp), (25, not_for_windows(restricted.seccomp))],
}
REPLACED = {
    "capabilities_restricted": "capabilities_baseline",
    "procMount_restricted": "procMount",
    "restrictedVolumes": "hostPathVolumes",
    "seccompProfile_restricted": "seccompProfile_baseline",
}
"""Checks of restricted that make one of baseline superfluous, once they exist."""


def violations(standard: LevelVersion, metadata: Struct, spec: Struct) -> list[Violation]:
    """What a pod does that this level forbids."""
    if standard.level == PRIVILEGED:
        return []
    checks = _checks(standard.level, min(standard.minor, NEWEST))
    return [found for check in checks if (found := check(metadata, spec)) is not None]


@cache
def _checks(level: str, minor: int) -> tuple[Check, ...]:
    base = _of(BASELINE_CHECKS, minor)
    if level == BASELINE:
        return tuple(base.values())
    more = _of(RESTRICTED_CHECKS, minor)
    for name in more:
        base.pop(REPLACED.get(name, ""), None)
    return (*base.values(), *more.values())


def _of(table: Mapping[str, Versions], minor: int) -> dict[str, Check]:
    found = {}
    for name, versions in table.items():
        for first, check in versions:
            if first <= minor:
                found[name] = check
    return found
