"""PolicyRules: what they match, and whether some rules cover others (the escalation check)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tiphys.apiserver.types import Object


@dataclass(frozen=True, slots=True)
class Rule:
    """rbac/v1 PolicyRule."""

    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    @classmethod
    def of(cls, obj: Object) -> Rule:
        return cls(*(tuple(obj.get(key) or ()) for key in KEYS))

    def matches_resource(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether it is about this verb and resource; `names` are the caller's business."""
        if not (_has(self.verbs, verb) and _has(self.groups, group)):
            return False
        full = f"{resource}/{subresource}" if subresource else resource
        if _has(self.resources, full):
            return True
        return bool(subresource) and f"*/{subresource}" in self.resources

    def matches_url(self, verb: str, path: str) -> bool:
        return _has(self.verbs, verb) and any(url_covers(url, path) for url in self.urls)

    def __str__(self) -> str:
        """As upstream shows missing permissions."""
        fields = (
            ("APIGroups", self.groups),
            ("Resources", self.resources),
            ("NonResourceURLs", self.urls),
            ("ResourceNames", self.names),
            ("Verbs", self.verbs),
        )
        return "{" + ", ".join(f"{name}:{go_list(values)}" for name, values in fields if values) + "}"


KEYS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


def go_list(items: Iterable[str]) -> str:
    """A list of strings as Go's %q prints it."""
    return "[" + " ".join(f'"{item}"' for item in items) + "]"


def url_covers(owner: str, path: str) -> bool:
    """Whether a rule's URL matches a path: equal, "*", or a prefix that ends with "*"."""
    return owner in ("*", path) or (owner.endswith("*") and path.startswith(owner.rstrip("*")))


def missing(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What `wanted` grants and `owned` does not, joined where only the verb differs."""
    uncovered = [small for rule in wanted for small in _break_down(rule) if not any(_covers(o, small) for o in owned)]
    joined: dict[object, Rule] = {}
    for rule in uncovered:
        key = rule if rule.urls else (rule.groups, rule.resources, rule.names)
        have = joined.get(key)
        joined[key] = rule if have is None or rule.urls else _with_verbs(have, rule.verbs)
    return list(joined.values())


def _with_verbs(rule: Rule, verbs: tuple[str, ...]) -> Rule:
    return Rule(rule.verbs + verbs, rule.groups, rule.resources, rule.names, rule.urls)


def _break_down(rule: Rule) -> Iterator[Rule]:
    """Rules of one verb, one resource and at most one name, or one verb and one URL."""
    for group, resource, verb in product(rule.groups, rule.resources, rule.verbs):
        if not rule.names:
            yield Rule((verb,), (group,), (resource,))
        for name in rule.names:
            yield Rule((verb,), (group,), (resource,), (name,))
    for url, verb in product(rule.urls, rule.verbs):
        yield Rule((verb,), urls=(url,))


def _covers(owner: Rule, small: Rule) -> bool:
    """Whether `owner` grants all of a rule that has been broken down."""
    if not _has(owner.verbs, small.verbs[0]):
        return False
    if small.urls:
        return any(owned == small.urls[0] or _prefix_covers(owned, small.urls[0]) for owned in owner.urls)
    resource = small.resources[0]
    subresource = resource.partition("/")[2]
    if not (_has(owner.resources, resource) or (subresource and f"*/{subresource}" in owner.resources)):
        return False
    if owner.names and not (small.names and small.names[0] in owner.names):
        return False
    return _has(owner.groups, small.groups[0])


def _prefix_covers(owner: str, path: str) -> bool:
    return owner.endswith("*") and path.startswith(owner.rstrip("*"))


def _has(values: tuple[str, ...], value: str) -> bool:
    return value in values or "*" in values
