"""Names and conditions of definitions."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.extensions import status

NAMES = {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"}
FRESH = {"plural": "", "kind": ""}


def definition(names: Any = None, accepted: Any = None, conditions: Any = None) -> Any:
    spec = {"group": "example.com", "names": names or NAMES}
    return {"spec": spec, "status": {"acceptedNames": accepted or FRESH, "conditions": conditions}}


def settled(crd: Any, *taken: Any, usable: bool = True) -> dict[str, Any]:
    return status.settled(crd, taken, (None, None), usable_bundle=usable, now=0.0)


def reasons(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


def test_free_names_are_accepted_and_the_definition_established() -> None:
    found = settled(definition())
    assert found["acceptedNames"] == NAMES
    assert reasons(found) == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }


@pytest.mark.parametrize(
    ("field", "value", "taken", "reason"),
    [
        ("plural", "foos", {"plural": "bars", "singular": "foos"}, "PluralConflict"),
        ("singular", "foo", {"shortNames": ["foo"]}, "SingularConflict"),
        ("kind", "Foo", {"kind": "Foo"}, "KindConflict"),
        ("listKind", "FooList", {"kind": "FooList"}, "ListKindConflict"),
    ],
)
def test_a_name_in_use_is_refused_and_all_others_taken(field: str, value: str, taken: Any, reason: str) -> None:
    found = settled(definition(), taken)
    assert reasons(found)["NamesAccepted"] == ("False", reason)
    assert found["conditions"][0]["message"] == f'"{value}" is already in use'
    assert {name for name, one in found["acceptedNames"].items() if one} == NAMES.keys() - {field}
    assert reasons(found)["Established"] == ("False", "NotAccepted")


def test_of_several_short_names_all_that_are_in_use_are_named() -> None:
    names = {**NAMES, "shortNames": ["a", "b", "c"]}
    found = settled(definition(names), {"shortNames": ["a", "b"]})
    assert found["conditions"][0]["message"] == '["a" is already in use, "b" is already in use]'
    assert "shortNames" not in found["acceptedNames"]


def test_what_is_accepted_already_is_no_conflict() -> None:
    conditions = [{"type": "Established", "status": "True", "reason": "InitialNamesAccepted"}]
    crd = definition({**NAMES, "shortNames": ["f"]}, NAMES, conditions)
    assert settled(crd, NAMES)["acceptedNames"]["shortNames"] == ["f"]


def test_an_established_definition_stays_established() -> None:
    conditions = [{"type": "Established", "status": "True", "reason": "InitialNamesAccepted"}]
    found = settled(definition({**NAMES, "singular": "bar"}, NAMES, conditions), NAMES, {"singular": "bar"})
    assert reasons(found)["NamesAccepted"] == ("False", "SingularConflict")
    assert found["acceptedNames"]["singular"] == "foo"
    assert reasons(found)["Established"][0] == "True"


def test_nothing_changes_when_all_is_settled() -> None:
    once = settled(definition())
    crd = definition(accepted=once["acceptedNames"], conditions=once["conditions"])
    assert settled(crd, NAMES) == crd["status"]


def test_an_unusable_ca_bundle() -> None:
    assert reasons(settled(definition(), usable=False))["Established"] == ("False", "InvalidCABundle")


def test_a_schema_that_became_structural_loses_its_condition() -> None:
    found = settled(definition(conditions=[{"type": "NonStructuralSchema", "status": "True"}]))
    assert "NonStructuralSchema" not in reasons(found)
