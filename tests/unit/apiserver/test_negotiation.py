"""Which form of an answer a client gets, and what is refused."""

from __future__ import annotations

import gzip

import pytest

from tiphys.apiserver import listoptions, negotiate
from tiphys.apiserver.negotiate import GZIP_FROM, Media
from tiphys.base.errors import BadRequest, Invalid, NotAcceptable, UnsupportedMediaType
from tiphys.base.http.types import Request, Response

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", Media()),
        ("*/*", Media()),
        ("application/vnd.kubernetes.protobuf,application/json", Media()),
        ("application/yaml", Media("application/yaml")),
        ("application/json;q=0.5, application/yaml", Media("application/yaml")),
        (f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Media(shown_as="Table")),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", Media(shown_as="PartialObjectMetadata")),
        ("application/json;as=Foo;v=v1;g=meta.k8s.io,application/json", Media()),
    ],
)
def test_the_first_form_that_is_served_is_taken(accept: str, media: Media) -> None:
    assert negotiate.accepted(Request("GET", "/", headers={"accept": accept})) == media


def test_a_client_that_accepts_nothing_we_have_is_refused() -> None:
    with pytest.raises(NotAcceptable):
        negotiate.accepted(Request("GET", "/", headers={"accept": "image/png"}))


def test_bodies_of_unknown_types_are_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        negotiate.body_type(Request("POST", "/", headers={"content-type": "text/html"}))


def test_only_large_answers_are_compressed() -> None:
    request = Request("GET", "/", headers={"accept-encoding": "gzip, deflate"})
    assert negotiate.compress(request, Response(body=b"x")).headers == {}
    packed = negotiate.compress(request, Response(body=b"x" * GZIP_FROM))
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == b"x" * GZIP_FROM


@pytest.mark.parametrize(
    ("query", "watch", "message"),
    [
        (
            "resourceVersionMatch=Exact",
            False,
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "sendInitialEvents=true",
            True,
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
    ],
)
def test_list_options_that_contradict_each_other_are_refused(query: str, watch: bool, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        listoptions.parse(Request("GET", "/", query), watch=watch)
    assert refused.value.message == f'ListOptions.meta.k8s.io "" is invalid: {message}'


@pytest.mark.parametrize("query", ["limit=" + "9" * 5000, "timeoutSeconds=" + "9" * 400, "limit=1_0", "limit=٣"])
def test_numbers_in_a_query_are_those_of_64_bits(query: str) -> None:
    with pytest.raises(BadRequest, match="strconv"):
        listoptions.parse(Request("GET", "/", query), watch=False)


def test_a_revision_beyond_64_bits_is_refused() -> None:
    with pytest.raises(BadRequest, match="out of range"):
        _ = listoptions.parse(Request("GET", "/", "resourceVersion=" + "9" * 5000), watch=False).revision


def test_a_negative_limit_is_none() -> None:
    assert listoptions.parse(Request("GET", "/", "limit=-5"), watch=False).limit == 0
