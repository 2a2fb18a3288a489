"""The audit policy (audit.k8s.io/v1 Policy): how much is logged of which request. The first rule that fits decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_subdomain
from tiphys.apiserver import configfile
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import Permanent
from tiphys.base.identity import User

GROUP, KIND, VERSIONS = "audit.k8s.io", "Policy", ("v1",)
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
SHAPE = {
    "metadata": None,
    "omitStages": None,
    "omitManagedFields": None,
    "rules": [
        {
            "level": None,
            "users": None,
            "userGroups": None,
            "verbs": None,
            "resources": [{"group": None, "resources": None, "resourceNames": None}],
            "namespaces": None,
            "nonResourceURLs": None,
            "omitStages": None,
            "omitManagedFields": None,
        }
    ],
}


class Level(IntEnum):
    """How much; `shown` is its name in events."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def shown(self) -> str:
        return LEVELS[self]


LEVELS = ("None", "Metadata", "Request", "RequestResponse")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is logged of one request."""

    level: Level
    omitted: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """Some resources of one group."""

    group: str
    resources: tuple[str, ...]
    names: tuple[str, ...]

    def match(self, info: RequestInfo) -> bool:
        if self.group not in (info.group, "*"):
            return False
        if not self.resources:
            return True
        return (not self.names or info.name in self.names) and any(_is(one, info) for one in self.resources)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it is about, and the verdict. What is empty stands for all."""

    verdict: Verdict
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[Resources, ...] = ()
    namespaces: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    def match(self, user: User | None, info: RequestInfo) -> bool:
        if self.users and (user is None or user.name not in self.users):
            return False
        if self.groups and (user is None or not set(user.groups) & set(self.groups)):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return self._match_resource(info)
        if self.urls:
            return not info.resource_request and any(_covers(url, info.path) for url in self.urls)
        return True

    def _match_resource(self, info: RequestInfo) -> bool:
        if not info.resource_request or (self.namespaces and info.namespace not in self.namespaces):
            return False
        return not self.resources or any(each.match(info) for each in self.resources)


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules in order; `default` is for what no rule fits."""

    rules: tuple[Rule, ...]
    default: Verdict = Verdict(Level.NONE)

    def verdict(self, user: User | None, info: RequestInfo) -> Verdict:
        return next((rule.verdict for rule in self.rules if rule.match(user, info)), self.default)


def load(path: Path) -> Policy:
    """Read a file. Raises Permanent with all that is wrong."""
    return of(configfile.read(path, GROUP, KIND, VERSIONS, SHAPE), path)


def of(document: Mapping[str, Any], path: Path) -> Policy:
    """The policy in a document of the right shape. Raises Permanent."""
    errors = Errors()
    omitted, managed = document.get("omitStages") or [], bool(document.get("omitManagedFields"))
    _check_stages(errors, omitted, "omitStages")
    entries = document.get("rules") or []
    rules = tuple(_rule(errors, entry, f"rules[{i}]", omitted, managed) for i, entry in enumerate(entries))
    if errors:
        raise Permanent(f"{path}: invalid audit policy: {', '.join(str(error) for error in errors)}")
    if not rules:
        raise Permanent(f"{path}: loaded illegal policy with 0 rules")
    return Policy(rules, Verdict(Level.NONE, frozenset(omitted), managed))


def _rule(errors: Errors, entry: Mapping[str, Any], path: str, omitted: Sequence[str], managed: bool) -> Rule:
    level = entry.get("level") or ""
    if not level:
        errors.required(f"{path}.level")
    elif level not in LEVELS:
        errors.unsupported(f"{path}.level", level, LEVELS)
    own, urls = entry.get("omitStages") or [], entry.get("nonResourceURLs") or []
    _check_stages(errors, own, f"{path}.omitStages")
    _check_urls(errors, entry, urls, f"{path}.nonResourceURLs")
    own_managed = entry.get("omitManagedFields")
    return Rule(
        Verdict(
            Level(LEVELS.index(level)) if level in LEVELS else Level.NONE,
            frozenset([*omitted, *own]),
            managed if own_managed is None else bool(own_managed),
        ),
        tuple(entry.get("users") or ()),
        tuple(entry.get("userGroups") or ()),
        tuple(entry.get("verbs") or ()),
        tuple(_resources(errors, each, f"{path}.resources") for each in entry.get("resources") or ()),
        tuple(entry.get("namespaces") or ()),
        tuple(urls),
    )


def _resources(errors: Errors, entry: Mapping[str, Any], path: str) -> Resources:
    group, resources = entry.get("group") or "", tuple(entry.get("resources") or ())
    names = tuple(entry.get("resourceNames") or ())
    if group not in ("", "*") and (problems := dns_subdomain(group)):
        errors.invalid(f"{path}.group", group, ",".join(problems))
    if names and not resources:
        errors.invalid(f"{path}.resourceNames", list(names), "using resourceNames requires at least one resource")
    return Resources(group, resources, names)


def _check_stages(errors: Errors, stages: Sequence[str], path: str) -> None:
    for index, stage in enumerate(stages):
        if stage not in STAGES:
            errors.invalid(f"{path}[{index}]", stage, f"allowed stages are {','.join(STAGES)}")


def _check_urls(errors: Errors, entry: Mapping[str, Any], urls: Sequence[str], path: str) -> None:
    for index, url in enumerate(urls):
        if url == "*":
            continue
        if not url.startswith("/"):
            errors.invalid(f"{path}[{index}]", url, "non-resource URL rules must begin with a '/' character")
        if "*" in url[:-1]:
            detail = "non-resource URL wildcards '*' must be the final character of the rule"
            errors.invalid(f"{path}[{index}]", url, detail)
    if urls and (entry.get("resources") or entry.get("namespaces")):
        errors.invalid(path, list(urls), "rules cannot apply to both regular resources and non-resource URLs")


def _is(wanted: str, info: RequestInfo) -> bool:
    full = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if wanted in (full, "*"):
        return True
    if info.subresource and wanted == f"*/{info.subresource}":
        return True
    return wanted.endswith("/*") and wanted[:-2] == info.resource


def _covers(url: str, path: str) -> bool:
    return url in ("*", path) or (url.endswith("*") and path.startswith(url.rstrip("*")))
