"""Names, keys and addresses: what is refused, and in what words."""

from __future__ import annotations

import pytest

from tiphys.api.validation import names
from tiphys.api.validation.addresses import canonical_cidr, canonical_ip, legacy_cidr, legacy_ip
from tiphys.api.validation.errors import Errors


@pytest.mark.parametrize("value", ["a", "a-b", "1a", "x" * 63])
def test_labels_of_rfc_1123_are_well(value: str) -> None:
    assert names.dns_label(value) == ()


@pytest.mark.parametrize("value", ["", "A", "-a", "a-", "a_b"])
def test_other_labels_are_refused_with_the_rule(value: str) -> None:
    (message,) = names.dns_label(value)
    assert message.startswith("a lowercase RFC 1123 label must consist of")


def test_a_label_with_dots_is_told_so() -> None:
    assert names.dns_label("a.b") == ("must not contain dots",)


def test_long_names_are_told_their_limit() -> None:
    assert names.dns_subdomain("a" * 254) == ("must be no more than 253 characters",)
    assert names.declared_dns_subdomain("a" * 254) == ("must be no more than 253 bytes",)


def test_a_qualified_name_has_one_slash_and_two_parts() -> None:
    assert names.qualified_name("example.com/a") == ()
    assert names.qualified_name("/a") == ("prefix part must be non-empty",)
    assert names.qualified_name("example.com/")[0] == "name part must be non-empty"
    assert names.qualified_name("a/b/c")[0].startswith("a valid label key")


def test_names_of_ports_have_a_letter_and_no_double_hyphen() -> None:
    assert names.port_name("http-1") == ()
    assert names.port_name("1") == ("must contain at least one letter (a-z)",)
    assert "must not contain consecutive hyphens" in names.port_name("a--b")


def test_a_generated_name_may_end_with_a_dash() -> None:
    assert names.dns_subdomain(names.as_prefix("job-")) == ()


def _messages(check: object, value: str) -> list[str]:
    errors = Errors()
    check(errors, "f", value)  # type: ignore[operator] # one of the functions below
    return [error.message for error in errors]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10.0.0.1", []),
        ("010.0.0.1", ['Invalid value: "010.0.0.1": must not have leading 0s']),
        ("::ffff:1.2.3.4", ['Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address']),
    ],
)
def test_addresses_of_old_fields(value: str, expected: list[str]) -> None:
    assert _messages(legacy_ip, value) == expected


def test_newer_fields_want_addresses_in_canonical_form() -> None:
    assert _messages(canonical_ip, "2001:DB8::1") == [
        'Invalid value: "2001:DB8::1": must be in canonical form ("2001:db8::1")'
    ]
    assert _messages(canonical_cidr, "10.0.0.0/8") == []


def test_a_network_has_no_bits_beyond_its_prefix() -> None:
    assert _messages(legacy_cidr, "10.0.0.1/8") == [
        'Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length'
    ]
