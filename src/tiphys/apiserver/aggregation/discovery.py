"""What other servers serve, in the form of aggregated discovery, and its place among our own groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from tiphys.api.catalog import version_rank
from tiphys.apiserver.aggregation.remotes import Remote
from tiphys.base.http.client import ClientResponse

Document = dict[str, Any]
CUSTOM_PRIORITY = 1000
"""The group priority of custom resources; built-in groups have more."""


class Unreadable(Exception):
    """Another server's document is not of the form that it should have."""


class Described:
    """The last that was heard of each group and version. `generation` grows with each change."""

    def __init__(self) -> None:
        self.generation = 0
        self._found: dict[tuple[str, str], tuple[Remote, Document, Document]] = {}
        self._local: dict[tuple[str, str], tuple[Remote, Document, Document]] = {}
        """What is answered in this process, unless another server has taken over."""

    def note_local(self, remote: Remote, version: Document) -> None:
        """A version that this process answers for, always."""
        self._local[remote.group, remote.version] = (remote, version, {})
        self.generation += 1

    def _all(self) -> Collection[tuple[Remote, Document, Document]]:
        return {**self._local, **self._found}.values()

    @property
    def anything(self) -> bool:
        """Whether there is any."""
        return bool(self._found)

    def note(self, remote: Remote, version: Document, openapi: Document) -> None:
        """`version` as in APIGroupDiscovery.versions; `openapi` are the paths of the index of /openapi/v3."""
        value = (remote, version, openapi)
        if self._found.get((remote.group, remote.version)) != value:
            self._found[remote.group, remote.version] = value
            self.generation += 1

    def lose(self, remote: Remote) -> None:
        """Its server does not answer: the version is there, but nobody knows what is in it."""
        known = self._found.get((remote.group, remote.version))
        stale = {"version": remote.version, "freshness": "Stale"}
        self.note(remote, stale, known[2] if known is not None else {})

    def keep(self, keys: set[tuple[str, str]]) -> None:
        """Forget all but these."""
        for key in [key for key in self._found if key not in keys]:
            del self._found[key]
            self.generation += 1

    def openapi(self) -> Mapping[str, Any]:
        """Entries for the index of /openapi/v3."""
        found: dict[str, Any] = {}
        for remote, _, index in self._found.values():
            path = remote.path.strip("/")
            entry = index.get(path)
            if entry is not None:
                found[path] = entry
        return found

    def merge(self, items: list[Document]) -> list[Document]:
        """The groups of /apis in the aggregated form, ours and theirs."""
        merged = {item["metadata"].get("name", ""): item for item in items}
        priorities = {name: (2 if _builtin(name, items) else 1) for name in merged}
        for remote, version, _ in self._all():
            item = merged.get(remote.group)
            if item is None:
                merged[remote.group] = {"metadata": {"name": remote.group}, "versions": [version]}
                priorities[remote.group] = 1 if remote.group_priority >= CUSTOM_PRIORITY else 0
            else:
                others = [one for one in item["versions"] if one["version"] != version["version"]]
                versions = sorted([*others, version], key=lambda one: version_rank(one["version"]))
                merged[remote.group] = {**item, "versions": versions}
        return sorted(merged.values(), key=lambda item: -priorities[item["metadata"].get("name", "")])

    def groups(self, groups: Iterable[Document]) -> list[Document]:
        """The groups of an APIGroupList, ours and theirs."""
        merged = {group["name"]: group for group in groups}
        for remote, _, _ in self._all():
            entry = {"groupVersion": f"{remote.group}/{remote.version}", "version": remote.version}
            versions = list((merged.get(remote.group) or {}).get("versions") or [])
            if entry not in versions:
                versions = sorted([*versions, entry], key=lambda one: version_rank(one["version"]))
            merged[remote.group] = {"name": remote.group, "versions": versions, "preferredVersion": versions[0]}
        return list(merged.values())


def _builtin(name: str, items: list[Document]) -> bool:
    return "." not in name or name.endswith(".k8s.io")


def of_group(answer: ClientResponse, group: str, version: str) -> Document | None:
    """The version's part of an aggregated discovery document; None if the server does not speak it."""
    if answer.status != 200 or "APIGroupDiscoveryList" not in answer.headers.get("content-type", ""):
        return None
    for item in _list(_object(orjson.loads(answer.body)), "items"):
        if _object(item.get("metadata") or {}).get("name") == group:
            for found in _list(item, "versions"):
                if found.get("version") == version:
                    return {**found, "resources": _list(found, "resources"), "freshness": "Current"}
    return None


def paths(index: bytes) -> Document:
    """The paths of an index of /openapi/v3. Raises ValueError, Unreadable."""
    return _object(_object(orjson.loads(index)).get("paths") or {})


def _object(value: Any) -> Document:
    if not isinstance(value, dict):
        raise Unreadable("json: an object was expected")
    return value


def _list(document: Document, field: str) -> list[Document]:
    """A list of objects. Raises Unreadable."""
    found = document.get(field) or []
    if not isinstance(found, list):
        raise Unreadable(f"json: field {field} is not a list")
    return [_object(one) for one in found]


def of_resources(body: bytes, version: str) -> Document:
    """The same made of an APIResourceList."""
    listed = _list(_object(orjson.loads(body)), "resources")
    resources: dict[str, Document] = {}
    for one in listed:
        name, _, subresource = str(one.get("name") or "").partition("/")
        kind = {"group": one.get("group", ""), "version": one.get("version", ""), "kind": one.get("kind", "")}
        if subresource:
            entry = {"subresource": subresource, "responseKind": kind, "verbs": one.get("verbs") or []}
            if name in resources:
                resources[name].setdefault("subresources", []).append(entry)
            continue
        resources[name] = {
            "resource": name,
            "responseKind": kind,
            "scope": "Namespaced" if one.get("namespaced") else "Cluster",
            "singularResource": one.get("singularName", ""),
            "verbs": one.get("verbs") or [],
            **{key: one[key] for key in ("shortNames", "categories") if one.get(key)},
        }
    return {"version": version, "resources": list(resources.values()), "freshness": "Current"}
