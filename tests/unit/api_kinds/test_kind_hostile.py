"""What clients may send by mistake or in malice is refused or let pass, never a crash."""

from __future__ import annotations

from tiphys.api.kinds.apiextensions.structural import children


def test_schemas_that_are_none_are_passed_over() -> None:
    schema = {"items": [{"type": "string"}, "x"], "allOf": "x", "properties": "x", "definitions": {"a": 1, "b": {}}}
    assert list(children(schema)) == [{"type": "string"}, {}]
    assert list(children({"items": {"type": "string"}, "not": 7})) == [{"type": "string"}]
