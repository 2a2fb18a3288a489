"""Whatever a packet says, it is answered or left alone: nothing that pods send may end the server."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dns_world import endpoint, endpoint_slice, external, index_of, query, service
from tiphys.dns.forward import Forwarder
from tiphys.dns.index import Index
from tiphys.dns.metrics import Metrics
from tiphys.dns.responder import MAX_HOT, Pending, Responder
from tiphys.dns.sockets import HostSockets
from tiphys.dns.upstreams import Upstreams
from tiphys.dns.wire import QR, read_message
from tiphys.dns.zone import Zone
from tiphys.testing.clock import VirtualClock

SVC = "svc.cluster.local"
ASKED = [f"web.testns.{SVC}", f"set.testns.{SVC}", f"_http._tcp.set.testns.{SVC}", f"out.testns.{SVC}", "example.com"]
KINDS = (1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 65, 251, 255)


def made(index: Index) -> tuple[Responder, Metrics]:
    metrics = Metrics()
    forwarder = Forwarder(Upstreams(), HostSockets(), VirtualClock(), asyncio.TaskGroup())
    responder = Responder(Zone("cluster.local", index), index, forwarder, VirtualClock(), metrics)
    responder.ready = True
    return responder, metrics


@pytest.fixture(scope="module")
def responder() -> Responder:
    services = [service("web", "10.0.0.1"), service("set", "None"), external("out", "example.com")]
    slices = [endpoint_slice("set", endpoint("10.1.0.1"), endpoint("10.1.0.2", hostname="b"))]
    return made(index_of(services, slices, ["testns"]))[0]


def check(packet: bytes, answer: bytes | Pending | None) -> None:
    if isinstance(answer, bytes):
        assert answer[:2] == packet[:2]
        assert int.from_bytes(answer[2:4], "big") & QR
        if answer[5]:
            read_message(answer)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(ASKED),
    st.sampled_from(KINDS),
    st.sampled_from((0, 512, 4096)),
    st.lists(st.tuples(st.integers(2, 80), st.integers(0, 255)), max_size=3),
    st.integers(0, 60),
    st.booleans(),
)
def test_questions_with_some_bytes_changed(
    responder: Responder, name: str, kind: int, payload: int, changes: list[tuple[int, int]], cut: int, tcp: bool
) -> None:
    packet = bytearray(query(name, kind, payload=payload))
    for at, value in changes:
        packet[at % len(packet)] = value
    sent = bytes(packet[: len(packet) - cut])
    check(sent, responder.respond(sent, tcp))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(responder: Responder, packet: bytes, tcp: bool) -> None:
    check(packet, responder.respond(packet, tcp))


def test_what_is_remembered_in_words_has_a_limit() -> None:
    responder, metrics = made(index_of())
    for number in range(MAX_HOT * 2):
        assert isinstance(responder.respond(query(f"n{number}.{SVC}"), False), bytes)
    assert len(responder._hot[False]) <= MAX_HOT
    assert metrics.total() == MAX_HOT * 2


def test_capitals_are_one_question_that_comes_back_as_it_was_written() -> None:
    responder, _ = made(index_of([service("web", "10.0.0.1")]))
    for name in (f"web.testns.{SVC}", f"WEB.testns.{SVC}", f"wEb.TESTNS.{SVC}"):
        answer = responder.respond(query(name), False)
        assert isinstance(answer, bytes)
        assert name.partition(".")[0].encode() in answer
    assert len(responder._hot[False]) == 1


def test_a_name_with_a_zero_in_it_is_not_mistaken_for_another() -> None:
    responder, _ = made(index_of([service("web", "10.0.0.1")]))
    for label in (b"a\0B", b"a\0b", b"A\0b"):
        packet = query("x.testns." + SVC).replace(b"\1x", b"\3" + label)
        answer = responder.respond(packet, False)
        assert isinstance(answer, bytes)
        assert label in answer
