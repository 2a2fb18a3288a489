"""All kinds together: each can be shown, and none changes what it only reads."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.kinds.all import NAMES, kinds
from tiphys.api.kinds.base import Context, Kind
from tiphys.api.validation.metadata import validate_metadata

_KINDS = {f"{kind.group}/{kind.plural}": kind for kind in kinds()}
_CONTEXT = Context(now=1_700_000_000.0, user="admin")
_METADATA = {"name": "v1.", "namespace": "default", "creationTimestamp": "2023-11-14T22:13:20Z"}


def _minimal(kind: Kind) -> dict[str, Any]:
    obj: dict[str, Any] = {"kind": kind.kind, "metadata": dict(_METADATA)}
    version = "v1" if kind.stored_version not in ("v1beta1", "v2") else kind.stored_version
    kind.default(obj, version)
    return kind.convert(obj, version, kind.stored_version)


def test_every_kind_is_listed_once() -> None:
    assert len(_KINDS) == len(NAMES)


@pytest.mark.parametrize("name", sorted(name for name, kind in _KINDS.items() if type(kind).cells is not Kind.cells))
def test_a_kind_has_a_cell_for_each_column(name: str) -> None:
    kind = _KINDS[name]
    obj = _minimal(kind)
    kind.prepare_create(obj, _CONTEXT)
    cells = kind.cells(obj, 1_700_000_100.0)
    extra = 1 if name == "networking.k8s.io/ipaddresses" else 0  # as upstream: an age without a column
    assert len(cells) == len(kind.columns) + extra


@pytest.mark.parametrize("name", sorted(_KINDS))
def test_validation_changes_nothing(name: str) -> None:
    kind = _KINDS[name]
    obj = _minimal(kind)
    kind.prepare_create(obj, _CONTEXT)
    before = copy.deepcopy(obj)
    kind.validate(obj, _CONTEXT)
    kind.warnings(obj, None, _CONTEXT)
    kind.fields(obj)
    kind.validate_update(obj, before, _CONTEXT)
    kind.validate_status_update(obj, before, _CONTEXT)
    assert obj == before


@pytest.mark.parametrize("name", sorted(_KINDS))
def test_an_object_put_back_as_it_was_keeps_its_generation(name: str) -> None:
    kind = _KINDS[name]
    old = _minimal(kind)
    old["metadata"]["generation"] = 3
    kind.prepare_create(old, _CONTEXT)
    generation = old["metadata"]["generation"]
    new = copy.deepcopy(old)
    kind.prepare_update(new, old, _CONTEXT)
    assert new["metadata"]["generation"] == generation


def test_names_are_checked_by_a_rule_that_exists() -> None:
    for kind in _KINDS.values():
        validate_metadata({"metadata": {"name": "a"}}, kind.name_check, namespaced=False)
