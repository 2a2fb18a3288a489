"""The `format` library of Kubernetes: named formats that tell what is wrong with a text."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tiphys.api.cel.costs import REGEX, TRAVERSAL, CallEstimate, Node, Range
from tiphys.api.cel.libraries import gourl
from tiphys.api.cel.libraries.sizes import share
from tiphys.api.cel.types import STRING, Function, Library, Overload, Type, list_of, named, optional
from tiphys.api.cel.values import NONE, Optional, size_of
from tiphys.api.validation import names

FORMAT = named("kubernetes.NamedFormat", equality=Range(1, 7))

_LONGEST_PATTERN = 128
_UUID = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"
_TIME = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"
_is_uuid = re.compile(_UUID[:-1] + r"\Z").match
_time = re.compile(_TIME[:-1] + r"\Z").match
_is_base64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})").fullmatch
_is_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch

Check = Callable[[str], Sequence[str]]


class FormatValue:
    """A format by its name; equal when the names are."""

    __slots__ = ("check", "name", "pattern_size")
    cel_type: ClassVar[Type] = FORMAT

    def __init__(self, name: str, check: Check, pattern_size: int) -> None:
        self.name = name
        self.check = check
        self.pattern_size = pattern_size
        """Characters of the regular expression that checking costs as much as."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FormatValue) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def _prefix(check: Check) -> Check:
    return lambda text: check(names.as_prefix(text))


def _or(message: str, passes: Callable[[str], object]) -> Check:
    return lambda text: () if passes(text) else (message,)


def _uri(text: str) -> Sequence[str]:
    try:
        gourl.parse_request_uri(text)
    except gourl.UrlError as error:
        return (str(error),)
    return ()


def is_date(text: str) -> bool:
    """RFC 3339's full-date."""
    if not _is_date(text):
        return False
    year, month, day = map(int, text.split("-"))
    try:
        # The year 0, which Python has not, is a leap year.
        datetime.date(year or 2000, month, day)
    except ValueError:
        return False
    return True


def _is_datetime(text: str) -> bool:
    date, separator, time = text.lower().partition("t")
    if not separator or not is_date(date):
        return False
    match = _time(time.partition("t")[0])
    return match is not None and match[1] <= "23" and match[2] <= "59" and match[3] <= "59"


def _formats() -> dict[str, FormatValue]:
    label, subdomain, label_1035 = names.dns_label, names.dns_subdomain, names.dns1035_label
    made = {
        "dns1123Label": FormatValue("DNS1123Label", label, 30),
        "dns1123Subdomain": FormatValue("DNS1123Subdomain", subdomain, 60),
        "dns1035Label": FormatValue("DNS1035Label", label_1035, 30),
        "qualifiedName": FormatValue("QualifiedName", names.qualified_name, 60),
        "dns1123LabelPrefix": FormatValue("DNS1123LabelPrefix", _prefix(label), 30),
        "dns1123SubdomainPrefix": FormatValue("DNS1123SubdomainPrefix", _prefix(subdomain), 60),
        "dns1035LabelPrefix": FormatValue("DNS1035LabelPrefix", _prefix(label_1035), 30),
        "labelValue": FormatValue("LabelValue", names.label_value, 40),
        "uri": FormatValue("URI", _uri, 1103),
        "uuid": FormatValue("uuid", _or("does not match the UUID format", _is_uuid), len(_UUID)),
        "byte": FormatValue("byte", _or("invalid base64", _is_base64), 84),
        "date": FormatValue("date", _or("invalid date", is_date), len(_TIME)),
        "datetime": FormatValue("datetime", _or("invalid datetime", _is_datetime), len(_TIME)),
    }
    return made


FORMATS = _formats()


def _named(name: str) -> Optional:
    found = FORMATS.get(name)
    return NONE if found is None else Optional(found)


def _validate(format: FormatValue, text: str) -> Optional:
    found = list(format.check(text))
    return Optional(found) if found else NONE


def _cost(arguments: tuple[Any, ...], result: Any) -> int:
    format, text = arguments
    return share(1 + size_of(text)) * share(format.pattern_size, REGEX)


def _estimate(nodes: Sequence[Node]) -> CallEstimate:
    return CallEstimate(nodes[1].size.scaled(TRAVERSAL).scaled(_LONGEST_PATTERN * REGEX))


def _constant(name: str, value: FormatValue) -> Function:
    return Function(f"format.{name}", (Overload(f"format.{name}", (), FORMAT, lambda: value),))


FORMAT_LIBRARY = Library(
    "kubernetes.format",
    (
        Function("format.named", (Overload("format-named", (STRING,), optional(FORMAT), _named),)),
        Function(
            "validate",
            (
                Overload(
                    "format-validate",
                    (FORMAT, STRING),
                    optional(list_of(STRING)),
                    _validate,
                    member=True,
                    cost=_cost,
                    estimate=_estimate,
                ),
            ),
        ),
        *(_constant(name, value) for name, value in FORMATS.items()),
    ),
    types=(FORMAT,),
)
