"""The smallest strategic merge patch from one pod or node status to another. Pure.

Lists of conditions merge by type and lists of a pod's addresses by their key; all other lists are replaced whole, as
the API's schema says (x-kubernetes-patch-merge-key). It says that a node's addresses merge by type, too; but a node may
have two of one type, so they are replaced, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KEYS = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}


def status_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What to send for `new`; {} when nothing differs. What is in `old` only is removed."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        if name in old and _same(old[name], value):
            continue
        if name in _KEYS:
            value = _list_patch(old.get(name) or (), value, _KEYS[name])
            if not value:
                continue
        if name == "addresses":
            value = [*value, {"$patch": "replace"}]
        if value != [] or old.get(name):
            patch[name] = value
    return patch


def _same(old: Any, new: Any) -> bool:
    """Equal, taking null and absent for the same."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(_same(old.get(key), new.get(key)) for key in {*old, *new})
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(_same(*pair) for pair in zip(old, new, strict=True))
    return bool(old == new) or (old in (None, {}) and new in (None, {}))


def _list_patch(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    before = {entry[key]: entry for entry in old}
    after = {entry[key] for entry in new}
    patch: list[dict[str, Any]] = [{"$patch": "delete", key: gone} for gone in before if gone not in after]
    for entry in new:
        known = before.get(entry[key])
        if known is None:
            patch.append({name: value for name, value in entry.items() if value is not None})
        elif not _same(known, entry):
            patch.append({name: None for name in known if name not in entry} | dict(entry))
    return patch
