"""Continue tokens and resource versions of lists and watches, in upstream's words."""

from __future__ import annotations

import base64

import orjson
import pytest

from tiphys.apiserver import listoptions
from tiphys.apiserver.listoptions import ListOptions
from tiphys.base.errors import BadRequest, Invalid
from tiphys.base.http.types import Request


def encoded(**fields: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(fields)).rstrip(b"=").decode()


def read(text: str) -> tuple[str, int]:
    return listoptions.read_token(ListOptions(token=text), "core/pods/a/")


def test_a_continue_token_goes_on_after_its_key() -> None:
    token = listoptions.token("core/pods/a/p", "core/pods/a/", 7)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert raw == b'{"v":"meta.k8s.io/v1","rv":7,"start":"p\\u0000"}'
    assert read(token) == ("core/pods/a/p", 7)
    assert read(listoptions.token("core/pods/a/b/c", "core/pods/a/", -1)) == ("core/pods/a/b/c", -1)


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("!", ": illegal base64 data at input byte 0"),
        ("abc!defg", ": illegal base64 data at input byte 3"),
        ("abcde", ": illegal base64 data at input byte 4"),
        ("bm9uc2Vuc2U", ": "),
        (encoded(v="v2", rv=1, start="a"), ": server does not recognize this encoded version v2"),
        (
            encoded(v="meta.k8s.io/v1", rv=0, start="a"),
            ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (encoded(v="meta.k8s.io/v1", rv=1, start=""), ": encoded start key empty (version meta.k8s.io/v1)"),
        (encoded(v="meta.k8s.io/v1", rv=1, start="../secrets"), ": ../secrets"),
        (encoded(v="meta.k8s.io/v1", rv=1, start="a/../../b"), ": a/../../b"),
        (encoded(v="meta.k8s.io/v1", rv=1, start="a//b"), ": a//b"),
        (encoded(v="meta.k8s.io/v1", rv="x", start="a"), ": json: "),
        (base64.urlsafe_b64encode(b"[1]").decode().rstrip("="), ": "),
    ],
)
def test_what_is_no_token_is_refused(token: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(token)
    assert caught.value.message.startswith(f"invalid continue token: continue key is not valid{problem}")


def test_a_token_already_says_which_version() -> None:
    token = listoptions.token("core/pods/a/p", "core/pods/a/", 7)
    assert listoptions.read_token(ListOptions(token=token, version="0"), "core/pods/a/")[1] == 7
    with pytest.raises(BadRequest, match="specifying resource version is not allowed when using continue"):
        listoptions.read_token(ListOptions(token=token, version="5"), "core/pods/a/")


@pytest.mark.parametrize(
    ("version", "problem"),
    [("abc", "invalid syntax"), ("-1", "invalid syntax"), ("٣", "invalid syntax"), (str(2**64), "value out of range")],
)
def test_versions_that_are_no_numbers_are_refused(version: str, problem: str) -> None:
    text = f'resourceVersion: Invalid value: "{version}": strconv.ParseUint: parsing "{version}": {problem}'
    with pytest.raises(BadRequest) as caught:
        _ = ListOptions(version=version).revision
    assert caught.value.message == f"invalid resource version: {text}"
    with pytest.raises(Invalid) as refused:
        ListOptions(version=version).watched("", "pods")
    assert refused.value.message == f'pods "" is invalid: {text}'


@pytest.mark.parametrize(
    ("query", "initial"),
    [
        ("watch=1", True),
        ("watch=1&resourceVersion=0&allowWatchBookmarks=true", True),
        ("watch=1&resourceVersion=5", None),
        ("watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", False),
    ],
)
def test_a_watch_without_a_start_shows_the_present_first(query: str, initial: bool | None) -> None:
    assert listoptions.parse(Request("GET", "/", query), watch=True).initial_events is initial


@pytest.mark.parametrize(
    ("query", "watch", "problems"),
    [
        ("resourceVersionMatch=Exact", False, ["is forbidden unless resourceVersion is provided"]),
        ("resourceVersionMatch=Exact&resourceVersion=0", False, ['"exact" is forbidden for resourceVersion "0"']),
        ("resourceVersionMatch=Some&resourceVersion=1", False, ['Unsupported value: "Some"']),
        ("resourceVersionMatch=Exact&resourceVersion=1&continue=x", False, ["is forbidden when continue is provided"]),
        ("sendInitialEvents=true", False, ["sendInitialEvents is forbidden for list"]),
        ("sendInitialEvents=true", True, ["sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"]),
        (
            "resourceVersionMatch=Exact&resourceVersion=1",
            True,
            ["forbidden for watch unless sendInitialEvents is provided", 'supported values: "NotOlderThan"'],
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(query: str, watch: bool, problems: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        listoptions.parse(Request("GET", "/", query), watch=watch)
    assert caught.value.message.startswith('ListOptions.meta.k8s.io "" is invalid: ')
    assert all(problem in caught.value.message for problem in problems)
