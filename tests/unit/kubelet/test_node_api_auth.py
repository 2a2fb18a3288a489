"""Who is let in to the node API, what is asked of the API server for it, and for how long answers are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from tiphys.base.errors import Forbidden, InternalError, Unauthorized
from tiphys.base.http.types import Peer, Request
from tiphys.base.tls import Authority
from tiphys.client.types import Client, Resource
from tiphys.kubelet.server.auth import Gate, subresources
from tiphys.kubelet.server.settings import ServerSettings
from tiphys.testing.clock import VirtualClock


class Reviews:
    """A client that answers reviews: tokens by name, access by subresource."""

    def __init__(self, tokens: dict[str, dict[str, Any]], allowed: set[str]) -> None:
        self.tokens, self.allowed = tokens, allowed
        self.asked: list[Any] = []
        self.gone = False

    async def create(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        if self.gone:
            raise ConnectionError("no API server")
        if resource.plural == "tokenreviews":
            self.asked.append("token")
            user = self.tokens.get(obj["spec"]["token"])
            return {"status": {"authenticated": user is not None, "user": user or {}}}
        spec = obj["spec"]
        self.asked.append((spec["user"], spec["resourceAttributes"]["subresource"], spec.get("extra")))
        return {"status": {"allowed": spec["resourceAttributes"]["subresource"] in self.allowed}}


def gate(clock: VirtualClock, reviews: Reviews, **settings: Any) -> Gate:
    return Gate(cast("Client", reviews), clock, "node-1", ServerSettings(**settings))


def get(path: str, token: str = "", method: str = "GET", peer: Peer | None = None) -> Request:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Request(method, path, headers=headers, peer=peer or Peer())


def run(clock: VirtualClock, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    clock.run(main())


ANN = {"username": "ann", "groups": ["staff"], "extra": {"team": ["a"]}}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pods", ["pods", "proxy"]),
        ("/runningpods/", ["pods", "proxy"]),
        ("/healthz/ping", ["healthz", "proxy"]),
        ("/configz", ["configz", "proxy"]),
        ("/stats/summary", ["stats"]),
        ("/metrics", ["metrics"]),
        ("/metrics/cadvisor", ["metrics"]),
        ("/metricsx", ["proxy"]),
        ("/logs/", ["log"]),
        ("/checkpoint/a/b/c", ["checkpoint"]),
        ("/statusz", ["statusz"]),
        ("/flagz", ["configz"]),
        ("/exec/a/b/c", ["proxy"]),
        ("/podsx", ["proxy"]),
        ("/", ["proxy"]),
    ],
)
def test_paths_are_subresources_of_nodes_the_finest_first(path: str, expected: list[str]) -> None:
    assert subresources(path) == expected


def test_nobody_is_let_in_unless_anonymous_access_is_configured() -> None:
    clock, reviews = VirtualClock(), Reviews({}, {"healthz"})

    async def scenario() -> None:
        with pytest.raises(Unauthorized):
            await gate(clock, reviews).pass_(get("/healthz"))
        user = await gate(clock, reviews, anonymous=True).pass_(get("/healthz"))
        assert (user.name, user.groups) == ("system:anonymous", ("system:unauthenticated",))
        with pytest.raises(Unauthorized):  # a bad token is not nobody
            await gate(clock, reviews, anonymous=True).pass_(get("/healthz", "bad"))

    run(clock, scenario)


def test_tokens_are_shown_to_the_api_server_once_in_a_while_good_ones_and_bad_ones() -> None:
    clock, reviews = VirtualClock(), Reviews({"good": ANN}, {"pods"})

    async def scenario() -> None:
        door = gate(clock, reviews, token_seconds=60.0)
        for _ in range(3):
            assert (await door.pass_(get("/pods", "good"))).name == "ann"
            with pytest.raises(Unauthorized):
                await door.pass_(get("/pods", "bad"))
        assert reviews.asked == ["token", ("ann", "pods", {"team": ["a"]}), "token"]
        await clock.sleep(61)
        await door.pass_(get("/pods", "good"))
        assert reviews.asked[3:] == ["token"]

    run(clock, scenario)


def test_access_is_asked_for_finely_then_coarsely_and_denials_are_forgotten_sooner() -> None:
    clock, reviews = VirtualClock(), Reviews({"good": ANN}, {"proxy"})

    async def scenario() -> None:
        door = gate(clock, reviews)
        await door.pass_(get("/pods", "good"))
        assert [one[1] for one in reviews.asked[1:]] == ["pods", "proxy"]
        with pytest.raises(Forbidden) as refused:
            await door.pass_(get("/stats/summary", "good"))
        text = "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[stats])\n"
        assert refused.value.message == text
        await clock.sleep(31)
        reviews.asked.clear()
        await door.pass_(get("/pods", "good"))
        assert [one[1] for one in reviews.asked] == ["pods"]

    run(clock, scenario)


def test_without_an_api_server_nobody_new_is_let_in() -> None:
    clock, reviews = VirtualClock(), Reviews({"good": ANN}, {"pods"})

    async def scenario() -> None:
        door = gate(clock, reviews)
        await door.pass_(get("/pods", "good"))
        reviews.gone = True
        await door.pass_(get("/pods", "good"))
        with pytest.raises(InternalError, match=r"Authorization error \(user=ann, verb=get, resource=nodes, sub"):
            await door.pass_(get("/metrics", "good"))
        with pytest.raises(Unauthorized):
            await door.pass_(get("/pods", "other"))

    run(clock, scenario)


def test_authorization_can_be_turned_off() -> None:
    clock, reviews = VirtualClock(), Reviews({}, set())

    async def scenario() -> None:
        await gate(clock, reviews, anonymous=True, always_allow=True).pass_(get("/exec/a/b/c", method="POST"))
        assert not reviews.asked

    run(clock, scenario)


def test_certificates_are_verified_by_the_authorities_of_the_moment() -> None:
    clock, reviews = VirtualClock(), Reviews({}, {"pods"})
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    ours, theirs = Authority.create("ours", clock=clock), Authority.create("theirs", clock=clock)
    pair = theirs.issue("ann", organizations=("staff",), client=True, days=0.25)
    der = x509.load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)
    trusted = [ours.certificate]

    async def scenario() -> None:
        door = Gate(cast("Client", reviews), clock, "node-1", ServerSettings(), lambda: trusted[0])
        request = get("/pods", peer=Peer(presented=(der,)))
        with pytest.raises(Unauthorized):
            await door.pass_(request)
        trusted[0] = ours.certificate + theirs.certificate
        user = await door.pass_(request)
        assert (user.name, user.groups) == ("ann", ("staff", "system:authenticated"))
        await clock.sleep(7 * 3600)
        with pytest.raises(Unauthorized):
            await door.pass_(request)

    run(clock, scenario)
