"""Selectors: what matches, what is refused and in which words."""

from __future__ import annotations

import pytest

from tiphys.api.selectors import from_labels, from_object, parse_fields, parse_labels
from tiphys.base.errors import BadRequest

LABELS = {"app": "web", "tier": "front", "n": "5"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app",
        "app=web",
        "app==web",
        " app = web , tier",
        "app!=db",
        "missing!=x",
        "!missing",
        "app in (web,db)",
        "app notin (db)",
        "missing notin (db)",
        "app=web,tier in (front),!x",
        "n>4",
        "n<6",
        "app in (,web)",
    ],
)
def test_label_selectors_that_match(text: str) -> None:
    assert parse_labels(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    ["missing", "app=db", "app!=web", "!app", "app in (db)", "app notin (web)", "n>5", "app<3", "app=", "app in ()"],
)
def test_label_selectors_that_do_not_match(text: str) -> None:
    assert not parse_labels(text).matches(LABELS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app=a=b", "found '=', expected: ',' or 'end of string'"),
        ("app,", "found '', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("app in a", "unable to parse requirement: found 'a' expected: '('"),
        ("app x", "unable to parse requirement: found 'x', expected: !=, =, ==, in, notin, >, <"),
        ("app>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, "
         "the value must be an integer"),
    ],
)  # fmt: skip
def test_label_selectors_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_labels(text)
    assert caught.value.message == message


def test_a_bad_key_is_named() -> None:
    with pytest.raises(
        BadRequest, match='unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key'
    ):
        parse_labels("a/b/c=d")


@pytest.mark.parametrize("text", ["app=web", "app in (db,web)", "!x", "app", "app!=web", "n>3", "a=1,b=2"])
def test_text_of_a_selector_parses_back(text: str) -> None:
    assert str(parse_labels(text)) == text


def test_selector_objects() -> None:
    assert not from_object(None).matches(LABELS)
    assert from_object({}).matches(LABELS)
    assert from_object({"matchLabels": {"app": "web"}}).matches(LABELS)
    expression = {"key": "app", "operator": "NotIn", "values": ["web"]}
    assert not from_object({"matchExpressions": [expression]}).matches(LABELS)
    assert from_object({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}).matches(LABELS)
    assert from_labels({"app": "web"}).matches(LABELS)
    with pytest.raises(ValueError, match="not a valid label selector operator"):
        from_object({"matchExpressions": [{"key": "x", "operator": "Near"}]})


def test_field_selectors() -> None:
    selector = parse_fields("spec.nodeName=n1,status.phase!=Running")
    assert selector.matches({"spec.nodeName": "n1", "status.phase": "Pending"})
    assert not selector.matches({"spec.nodeName": "n1", "status.phase": "Running"})
    assert selector.value("spec.nodeName") == "n1"
    assert selector.value("status.phase") is None
    assert parse_fields(r"a=b\,c").matches({"a": "b,c"})
    assert str(parse_fields(r"a=b\,c")) == r"a=b\,c"
    assert parse_fields("").empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
    ],
)
def test_field_selectors_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_fields(text)
    assert caught.value.message == message


def test_unknown_fields_are_refused() -> None:
    generic = {"metadata.name", "metadata.namespace"}
    parse_fields("metadata.name=a").check(generic)
    with pytest.raises(BadRequest, match=r'"spec\.x" is not a known field selector: only "metadata\.name"'):
        parse_fields("spec.x=1").check(generic)
    with pytest.raises(BadRequest, match=r"field label not supported: spec\.x"):
        parse_fields("spec.x=1").check({*generic, "spec.nodeName"})
