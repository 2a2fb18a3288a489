"""The `urls` library of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tiphys.api.cel.costs import ONE, traversal
from tiphys.api.cel.libraries import gourl
from tiphys.api.cel.libraries.sizes import walk
from tiphys.api.cel.types import (
    BOOL,
    STRING,
    EvaluationError,
    Function,
    Library,
    Overload,
    Type,
    list_of,
    map_of,
    named,
)

URL = named("kubernetes.URL", equality=ONE)


class UrlValue:
    """A URL as CEL sees it: equal when the texts are."""

    __slots__ = ("url",)
    cel_type: ClassVar[Type] = URL

    def __init__(self, url: gourl.Url) -> None:
        self.url = url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UrlValue) and str(self.url) == str(other.url)

    def __hash__(self) -> int:
        return hash(str(self.url))


def parse(text: str) -> UrlValue:
    try:
        # A request's URI has no fragment; what passes is read again as one that may.
        gourl.parse_request_uri(text)
        return UrlValue(gourl.parse(text))
    except gourl.UrlError as error:
        raise EvaluationError(f"URL parse error during conversion from string: {error}") from None


def is_url(text: str) -> bool:
    try:
        gourl.parse_request_uri(text)
    except gourl.UrlError:
        return False
    return True


def _getter(name: str, id: str, read: Callable[[gourl.Url], Any], result: Type = STRING) -> Function:
    def implementation(value: UrlValue) -> Any:
        return read(value.url)

    return Function(name, (Overload(id, (URL,), result, implementation, member=True),))


URLS = Library(
    "kubernetes.urls",
    (
        Function(
            "url",
            (Overload("string_to_url", (STRING,), URL, parse, cost=walk(), estimate=traversal(keeps_size=True)),),
        ),
        Function("isURL", (Overload("is_url_string", (STRING,), BOOL, is_url),)),
        _getter("getScheme", "url_get_scheme", lambda url: url.scheme),
        _getter("getHost", "url_get_host", lambda url: url.host),
        _getter("getHostname", "url_get_hostname", lambda url: url.hostname),
        _getter("getPort", "url_get_port", lambda url: url.port),
        _getter("getEscapedPath", "url_get_escaped_path", lambda url: url.escaped_path),
        _getter("getQuery", "url_get_query", lambda url: url.values(), map_of(STRING, list_of(STRING))),
    ),
    types=(URL,),
)
