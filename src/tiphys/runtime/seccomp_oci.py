"""Seccomp profiles in the form of OCI's config.json, for OCI runtimes, which compile them themselves. Pure.

The same profiles as in seccomp.py. libseccomp does not know an order of rules: what is refused for some arguments
only is written as what is allowed for the others.
"""

from __future__ import annotations

import errno
from typing import Any

from tiphys.runtime import bpf, seccomp, seccomp_tables
from tiphys.runtime.bpf import Rule

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
_ALLOW = "SCMP_ACT_ALLOW"


def default(allowed: int, machine: str) -> dict[str, Any]:
    """The default profile for a container with the capabilities `allowed`. Raises InvalidSpec."""
    plain: set[str] = set()
    special: list[dict[str, Any]] = []
    for _, text in seccomp.architectures(machine):
        rules = seccomp.default_rules(allowed, seccomp_tables.numbers(text))
        plain |= {name for name, found in rules.items() if found == [Rule(bpf.ALLOW)]}
        special += [entry for name, found in rules.items() if name not in plain for entry in _entries(name, found)]
    unique = [entry for place, entry in enumerate(special) if entry not in special[:place]]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": _ARCHITECTURES[machine],
        "syscalls": [{"names": sorted(plain), "action": _ALLOW}, *unique],
    }


def _entries(name: str, rules: list[Rule]) -> list[dict[str, Any]]:
    if name == "socket":
        families = set(range(seccomp.LAST_FAMILY + 1)) - set(seccomp.REFUSED_FAMILIES)
        return [_entry(name, _ALLOW, [{"index": 0, "value": one, "op": "SCMP_CMP_EQ"}]) for one in sorted(families)]
    entries = []
    for rule in rules:
        arguments = [_argument(one.argument, one.op, one.value, one.mask) for one in rule.conditions]
        if rule.action == bpf.ALLOW:
            entries.append(_entry(name, _ALLOW, arguments))
        else:
            entries.append(_entry(name, "SCMP_ACT_ERRNO", arguments) | {"errnoRet": rule.action & 0xFFFF})
    return entries


def _entry(name: str, action: str, arguments: list[dict[str, Any]]) -> dict[str, Any]:
    return {"names": [name], "action": action} | ({"args": arguments} if arguments else {})


def _argument(index: int, op: str, value: int, mask: int) -> dict[str, Any]:
    if op == "MASKED":
        return {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value}


def profile(content: dict[str, Any], allowed: int, machine: str) -> dict[str, Any]:
    """An OCI or Docker profile without what only Docker's have: conditions on capabilities, kernels, architectures."""
    entries = []
    for entry in content.get("syscalls") or []:
        if seccomp.applies(entry, allowed, machine):
            names = entry.get("names") or [entry["name"]]
            kept = {key: entry[key] for key in ("action", "errnoRet", "args") if entry.get(key) is not None}
            entries.append({"names": names, **kept})
    found = {key: content[key] for key in ("defaultAction", "defaultErrnoRet") if content.get(key) is not None}
    known = content.get("architectures") or _ARCHITECTURES.get(machine, [])
    return {"defaultAction": "SCMP_ACT_ERRNO", **found, "architectures": known, "syscalls": entries}
