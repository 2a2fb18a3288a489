"""spec.affinity.podAffinity and podAntiAffinity of one pod, read once: terms that can be matched quickly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api import selectors
from tiphys.api.selectors import LabelSelector

Object = Mapping[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True)
class Term:
    """Pods of certain namespaces and labels, and the node label that says what counts as one place."""

    topology: str
    selector: LabelSelector
    namespaces: tuple[str, ...]
    namespace_selector: LabelSelector | None
    weight: int = 0
    """Of a preference; negative to keep away."""

    def matches(self, pod: Object, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether `pod` is one of those meant; `namespaces` has the labels of each namespace."""
        meta = pod["metadata"]
        if not self.selector.matches(meta.get("labels")):
            return False
        where = meta["namespace"]
        if where in self.namespaces:
            return True
        return self.namespace_selector is not None and self.namespace_selector.matches(namespaces.get(where))


@dataclass(frozen=True, slots=True)
class AffinityTerms:
    """All terms of one pod."""

    near: tuple[Term, ...] = ()
    apart: tuple[Term, ...] = ()
    preferred: tuple[Term, ...] = ()

    @staticmethod
    def of(pod: Object) -> AffinityTerms:
        affinity = pod["spec"].get("affinity") or {}
        near, apart = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
        if not near and not apart:
            return _NONE
        return AffinityTerms(
            tuple(_term(each, pod) for each in near.get(_REQUIRED) or ()),
            tuple(_term(each, pod) for each in apart.get(_REQUIRED) or ()),
            (*_preferences(near, pod, 1), *_preferences(apart, pod, -1)),
        )


_NONE = AffinityTerms()


def _preferences(affinity: Object, pod: Object, sign: int) -> Iterator[Term]:
    for each in affinity.get(_PREFERRED) or ():
        yield _term(each["podAffinityTerm"], pod, sign * each["weight"])


def _term(term: Object, pod: Object, weight: int = 0) -> Term:
    """The term with what it inherits from its pod: the namespace if it names none, values of (mis)matchLabelKeys."""
    chosen = term.get("namespaceSelector")
    names = term.get("namespaces") or (() if chosen is not None else (pod["metadata"]["namespace"],))
    selector = with_label_keys(
        selectors.from_object(term.get("labelSelector")),
        pod,
        term.get("matchLabelKeys") or (),
        term.get("mismatchLabelKeys") or (),
    )
    spaces = selectors.from_object(chosen) if chosen is not None else None
    return Term(term["topologyKey"], selector, tuple(names), spaces, weight)


def with_label_keys(
    selector: LabelSelector, pod: Object, same: tuple[str, ...] | list[str], other: tuple[str, ...] | list[str] = ()
) -> LabelSelector:
    """`selector`, narrowed to the pod's own values of the labels `same` and to other ones of `other` (KEP-3633)."""
    labels = pod["metadata"].get("labels") or {}
    more = [
        selectors.Requirement(key, operator, frozenset((labels[key],)))
        for keys, operator in ((same, selectors.IN), (other, selectors.NOT_IN))
        for key in keys
        if key in labels
    ]
    if selector.nothing or not more:
        return selector
    return LabelSelector((*selector.requirements, *more))
