"""What a name, key or label value may look like. Each check gives the reasons against the value; none: it is well.

The rules are those of RFC 1123 and RFC 1035 as the API reference uses them ("Object Names and IDs", "Labels and
Selectors"). Messages are part of the API: clients and tests compare them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Messages = tuple[str, ...]
NameCheck = Callable[[str], Messages]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_UNDERSCORE = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_UNDERSCORE = rf"{_UNDERSCORE}(\.{_UNDERSCORE})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_KEY})?"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"


def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern).fullmatch


_is_label = _matcher(_LABEL)
_is_subdomain = _matcher(_SUBDOMAIN)
_is_subdomain_underscore = _matcher(_SUBDOMAIN_UNDERSCORE)
_is_label_1035 = _matcher(_LABEL_1035)
_is_wildcard = _matcher(_WILDCARD)
_is_key = _matcher(_KEY)
_is_label_value = _matcher(_LABEL_VALUE)
_is_env_name = _matcher(_ENV_NAME)
_is_config_key = _matcher(_CONFIG_KEY)
_is_header = _matcher(_HEADER)
_is_percent = _matcher(_PERCENT)
_is_c_identifier = _matcher(_C_IDENTIFIER)
_is_http_path = _matcher(_HTTP_PATH)
_is_port_name = _matcher("[-a-z0-9]+")

_ALNUM = "and must start and end with an alphanumeric character"
_KEY_TEXT = f"must consist of alphanumeric characters, '-', '_' or '.', {_ALNUM}"


def regex_error(message: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def _length(value: str, limit: int, unit: str = "characters") -> Messages:
    return (f"must be no more than {limit} {unit}",) if len(value.encode()) > limit else ()


_KEY_ERROR = regex_error(_KEY_TEXT, _KEY, "MyName", "my.name", "123-abc")
_SUBDOMAIN_ERROR = regex_error(
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ALNUM}",
    _SUBDOMAIN,
    "example.com",
)
_LABEL_ERROR = regex_error(
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ALNUM}",
    _LABEL,
    "my-name",
    "123-abc",
)


def dns_label(value: str) -> Messages:
    """An RFC 1123 label: namespaces, containers, volumes, ports of services."""
    if _is_label(value):
        return _length(value, 63)
    reason = "must not contain dots" if _is_subdomain(value) else _LABEL_ERROR
    return (*_length(value, 63), reason)


def dns_subdomain(value: str) -> Messages:
    """An RFC 1123 subdomain: most object names."""
    if _is_subdomain(value):
        return _length(value, 253)
    return (*_length(value, 253), _SUBDOMAIN_ERROR)


def declared_dns_subdomain(value: str) -> Messages:
    """The same, by the declarative validation of newer kinds, which counts bytes in its message."""
    return _by_bytes(dns_subdomain(value))


def declared_dns_label(value: str) -> Messages:
    """`dns_label` as declarative validation words it."""
    return _by_bytes(dns_label(value))


def _by_bytes(messages: Messages) -> Messages:
    return tuple(m[: -len("characters")] + "bytes" if m.startswith("must be no more than") else m for m in messages)


def dns_subdomain_underscore(value: str) -> Messages:
    """DNS search paths, which may have underscores."""
    if _is_subdomain_underscore(value):
        return _length(value, 253)
    text = (
        f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', {_ALNUM}"
    )
    return (*_length(value, 253), regex_error(text, _SUBDOMAIN_UNDERSCORE, "example.com"))


def dns1035_label(value: str) -> Messages:
    if _is_label_1035(value):
        return _length(value, 63)
    text = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character"
    )
    return (*_length(value, 63), regex_error(text, _LABEL_1035, "my-name", "abc-123"))


def wildcard_subdomain(value: str) -> Messages:
    if _is_wildcard(value):
        return _length(value, 253)
    text = (
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist "
        "of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
    )
    return (*_length(value, 253), regex_error(text, _WILDCARD, "*.example.com"))


def path_segment(value: str) -> Messages:
    """What can be one segment of a URL's path: names of RBAC objects."""
    if value in (".", ".."):
        return (f"may not be '{value}'",)
    return tuple(f"may not contain '{char}'" for char in "/%" if char in value)


def any_name(_value: str) -> Messages:
    return ()


def qualified_name(value: str) -> Messages:
    """A label or annotation key: an optional DNS subdomain, a slash, and a name."""
    prefix, slash, name = value.partition("/")
    if not slash:
        prefix, name = "", value
    elif "/" in name:
        text = (
            f"a valid label key {_KEY_ERROR} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )
        return (text,)
    messages: Messages = ()
    if slash:
        if not prefix:
            messages = ("prefix part must be non-empty",)
        elif found := declared_dns_subdomain(prefix):
            messages = tuple("prefix part " + message for message in found)
    if not name:
        messages = (*messages, "name part must be non-empty")
    elif len(name) > 63:
        messages = (*messages, "name part must be no more than 63 bytes")
    if not _is_key(name):
        messages = (*messages, f"name part {_KEY_ERROR}")
    return messages


def label_value(value: str) -> Messages:
    if _is_label_value(value):
        return _length(value, 63, "bytes")
    text = (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
        "and must start and end with an alphanumeric character"
    )
    return (*_length(value, 63, "bytes"), regex_error(text, _LABEL_VALUE, "MyValue", "my_value", "12345"))


def port_name(value: str) -> Messages:
    """An IANA service name: names of container ports."""
    found = list(_length(value, 15))
    if not _is_port_name(value):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= char <= "z" for char in value):
        found.append("must contain at least one letter (a-z)")
    if "--" in value:
        found.append("must not contain consecutive hyphens")
    if value and "-" in (value[0], value[-1]):
        found.append("must not begin or end with a hyphen")
    return tuple(found)


def port_number(value: int) -> Messages:
    return () if 1 <= value <= 65535 else ("must be between 1 and 65535, inclusive",)


def _dotted(value: str) -> Messages:
    if value in (".", ".."):
        return (f"must not be '{value}'",)
    return ("must not start with '..'",) if value.startswith("..") else ()


def config_key(value: str) -> Messages:
    """A key of a ConfigMap or a Secret."""
    found = _length(value, 253)
    if not _is_config_key(value):
        text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        found = (*found, regex_error(text, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return (*found, *_dotted(value))


def relaxed_env_name(value: str) -> Messages:
    """A name of an environment variable: any printable ASCII but '='."""
    if not value:
        return ("environment variable name must be non-empty",)
    if value.isascii() and value.isprintable() and "=" not in value:
        return ()
    return ("a valid environment variable name must consist only of printable ASCII characters other than '='",)


def c_identifier(value: str) -> Messages:
    if _is_c_identifier(value):
        return ()
    text = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric"
    text += " characters or '_'"
    return (regex_error(text, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName"),)


def http_header(value: str) -> Messages:
    if _is_header(value):
        return ()
    return (
        regex_error("a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER, "X-Header-Name"),
    )


def percent(value: str) -> Messages:
    if _is_percent(value):
        return ()
    text = "a valid percent string must be a numeric string followed by an ending '%'"
    return (regex_error(text, _PERCENT, "1%", "93%"),)


def decimal_integer(value: str) -> Messages:
    """A number in canonical form: no leading zeros, no plus sign."""
    if not value:
        return ("must be non-empty",)
    if re.fullmatch("0|-?[1-9][0-9]*", value):
        return ()
    return ("must be a valid decimal integer in canonical form",)


def http_path(value: str) -> bool:
    return _is_http_path(value) is not None


HTTP_PATH_ERROR = regex_error("Invalid path", _HTTP_PATH)

CHECKS: dict[str, NameCheck] = {
    "dns_subdomain": dns_subdomain,
    "declared_dns_subdomain": declared_dns_subdomain,
    "dns_label": dns_label,
    "dns1035_label": dns1035_label,
    "path_segment": path_segment,
    "none": any_name,
}
"""By the words of `Kind.name_check`."""


def as_prefix(name: str) -> str:
    """What of a generateName is checked: a trailing dash is well, as something follows it."""
    if len(name) > 1 and name.endswith("-"):
        return name[:-2] + "a"
    return name
