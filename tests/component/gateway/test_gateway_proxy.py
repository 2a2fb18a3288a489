"""The gateway's proxy: what backends see, what clients get, and what becomes of trouble on either side."""

from __future__ import annotations

import asyncio

from gateway_world import (
    KEY,
    LOOPBACK,
    answering,
    ask,
    backend,
    fields_of,
    free_port,
    proxying,
    read_head,
    request,
    route,
    run,
    talk,
)
from tiphys.gateway.model import ANY_PATH, Filters, HeaderChanges, Match, Mirror, Policy, Rewrite, Route, Target


def test_a_request_comes_to_the_backend_with_who_asks() -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        async with backend(answering(seen=seen)) as origin, proxying(ports=(origin,)) as (_, port):
            status, head, body = await ask(
                port, "/a?b=c%20d", "GET", "X-Forwarded-For: 1.2.3.4", "X-Own: yes", "Proxy: evil", "X-Real-IP: 6.6.6.6"
            )
            fields = fields_of(seen[0])
            assert (status, body) == (200, b"hello")
            assert fields_of(head)["content-length"] == "5"
            assert seen[0].startswith(b"GET /a?b=c%20d HTTP/1.1\r\n")
            assert fields["host"] == "example.com"
            assert fields["x-forwarded-for"] == fields["x-real-ip"] == LOOPBACK
            assert fields["x-original-forwarded-for"] == "1.2.3.4"
            assert fields["x-forwarded-proto"] == "http"
            assert fields["x-forwarded-host"] == "example.com"
            assert len(fields["x-request-id"]) == 32
            assert fields["x-own"] == "yes"
            assert "proxy" not in fields
            assert "connection" not in fields

    run(scenario())


def test_fields_that_a_client_ties_to_its_connection_go_no_further() -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        async with backend(answering(seen=seen)) as origin, proxying(ports=(origin,)) as (_, port):
            await talk(
                port,
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Own, X-Real-IP\r\nX-Own: 1\r\nTE: trailers\r\n\r\n",
            )
            fields = fields_of(seen[0])
            assert "x-own" not in fields
            assert "te" not in fields
            assert fields["x-real-ip"] == LOOPBACK

    run(scenario())


def test_connections_to_a_backend_are_kept_and_clients_pipeline() -> None:
    async def scenario() -> None:
        opened = 0
        serve = answering()

        async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            await serve(reader, writer)

        async with backend(counting) as origin, proxying(ports=(origin,)) as (_, port):
            answer = await talk(port, request(close=False) * 4 + request())
            assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"hello") == 5
            assert opened == 1

    run(scenario())


def test_bodies_stream_both_ways_in_any_framing() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert fields_of(head)["transfer-encoding"] == "chunked"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int((await reader.readline()).split(b";")[0], 16):
            piece = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n%b" % (size, piece))
        await reader.readline()
        writer.write(b"0\r\n\r\n")

    async def scenario() -> None:
        async with backend(echo) as origin, proxying(ports=(origin,)) as (_, port):
            head = request("/", "POST", "Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (b"one", b"two" * 5000, b"3"))
            answer = await talk(port, head + body + b"0\r\nTrailer: dropped\r\n\r\n")
            assert b"Transfer-Encoding: chunked" in answer
            assert answer.count(b"two") == 5000
            assert answer.endswith(b"0\r\n\r\n")
            assert b"dropped" not in answer
            old = await talk(port, b"GET / HTTP/1.0\r\n\r\n")
            assert old == b"" or b"Transfer-Encoding" not in old

    run(scenario())


def test_a_client_of_http_1_0_gets_what_it_can_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        await reader.read()

    async def scenario() -> None:
        async with backend(endless) as origin, proxying(ports=(origin,)) as (_, port):
            answer = await talk(port, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            assert answer.endswith(b"\r\n\r\nabcdef")
            assert b"ransfer-" not in answer

    run(scenario())


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nabc")
        await writer.drain()
        writer.write(b"def")

    async def scenario() -> None:
        async with backend(endless) as origin, proxying(ports=(origin,)) as (_, port):
            answer = await talk(port, request())
            assert b"Transfer-Encoding: chunked" in answer
            assert answer.endswith(b"0\r\n\r\n")
            assert b"abc" in answer
            assert b"def" in answer

    run(scenario())


def test_head_and_answers_without_a_body() -> None:
    async def scenario() -> None:
        async with backend(answering()) as origin, proxying(ports=(origin,)) as (_, port):
            answer = await talk(port, request("/", "HEAD", close=False) + request("/", "HEAD"))
            assert answer.count(b"Content-Length: 5") == 2
            assert b"hello" not in answer
        bare = answering(b"", "HTTP/1.1 304 Not Modified\r\nETag: x\r\nX: ")
        async with backend(bare) as origin, proxying(ports=(origin,)) as (_, port):
            answer = await talk(port, request(close=False) + request())
            assert answer.count(b"304 Not Modified") == 2

    run(scenario())


def test_a_large_body_does_not_pile_up_when_its_reader_is_slow() -> None:
    size = 30_000_000

    async def generous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
        await reader.read()

    async def scenario() -> None:
        async with backend(generous) as origin, proxying(ports=(origin,)) as (proxy, port):
            reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=1000)
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
            waiting = 0
            received = 0
            while received < size:
                received += len(await reader.read(65536))
                waiting = max(waiting, *(client.wire.buffered for client in proxy.clients), 0)
            assert received == size
            assert waiting < 1_000_000
            writer.close()

    run(scenario())


def test_a_large_request_does_not_pile_up_when_the_backend_is_slow() -> None:
    size = 20_000_000

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        got = 0
        while got < size:
            got += len(await reader.read(20_000))
            await asyncio.wait_for(writer.drain(), 1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async def scenario() -> None:
        async with backend(slow) as origin, proxying(ports=(origin,)) as (_, port):
            status, _, body = await ask(port, "/", "POST", f"Content-Length: {size}", body=b"x" * size)
            assert (status, body) == (200, b"ok")

    run(scenario())


def test_expect_100_continue_is_the_backends_to_answer() -> None:
    async def scenario() -> None:
        async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await read_head(reader)
            assert fields_of(head)["expect"] == "100-continue"
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(4) == b"body"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with backend(careful) as origin, proxying(ports=(origin,)) as (_, port):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(request("/", "POST", "Content-Length: 4", "Expect: 100-continue"))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 100 Continue")
            writer.write(b"body")
            assert (await reader.read()).endswith(b"ok")
            writer.close()

    run(scenario())


def test_upgrades_become_tunnels_for_bytes_that_came_early_too() -> None:
    async def shouting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fields = fields_of(await read_head(reader))
        assert (fields["upgrade"], fields["connection"].lower()) == ("websocket", "upgrade")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nwelcome ")
        while data := await reader.read(1000):
            writer.write(data.upper())

    async def scenario() -> None:
        async with backend(shouting) as origin, proxying(ports=(origin,)) as (_, port):
            fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(request("/", "GET", *fields, close=False) + b"early ")
            assert b"101 Switching Protocols" in await read_head(reader)
            assert await reader.readexactly(14) == b"welcome EARLY "
            writer.write(b"x" * 500_000)
            assert await reader.readexactly(500_000) == b"X" * 500_000
            writer.close()

    run(scenario())


def test_h2c_is_not_offered_to_backends() -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        async with backend(answering(seen=seen)) as origin, proxying(ports=(origin,)) as (_, port):
            offer = "Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: x"
            answer = await talk(port, request("/", "GET", *offer, close=False))
            assert b"200 OK" in answer
            assert "upgrade" not in fields_of(seen[0])
            assert "http2-settings" not in fields_of(seen[0])

    run(scenario())


def test_an_endpoint_that_is_gone_is_passed_over() -> None:
    async def scenario() -> None:
        async with backend(answering()) as origin, proxying(ports=(free_port(), origin)) as (_, port):
            for _ in range(6):
                assert (await ask(port))[0] == 200
        async with proxying(ports=(free_port(),)) as (_, port):
            assert (await ask(port))[0] == 502
        async with proxying(ports=()) as (_, port):
            assert (await ask(port))[0] == 503

    run(scenario())


def test_a_kept_connection_that_the_backend_closed_costs_no_request() -> None:
    async def scenario() -> None:
        asked = 0

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            await read_head(reader)
            asked += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await read_head(reader)  # the second request is read, and nothing is answered
            writer.transport.abort()

        async with backend(once) as origin, proxying(ports=(origin,)) as (_, port):
            for _ in range(4):
                assert (await ask(port))[0] == 200
            assert asked == 4
            await ask(port)
            status, _, _ = await ask(port, "/", "POST", "Content-Length: 1", body=b"x")
            assert status == 502, "nobody knows whether a POST was carried out"

    run(scenario())


def test_a_backend_that_breaks_off_is_told_by_a_cut() -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()

    async def scenario() -> None:
        async with backend(breaking) as origin, proxying(ports=(origin,)) as (_, port):
            answer = await talk(port, request(close=False))
            assert not answer.endswith(b"0\r\n\r\n")
            assert len(answer.partition(b"\r\n\r\n")[2]) < 100

    run(scenario())


def test_what_backends_must_not_say_is_502() -> None:
    answers = [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
    ]

    async def scenario() -> None:
        for text in answers:

            async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes = text) -> None:
                await read_head(reader)
                writer.write(text)
                await reader.read()

            async with backend(bad) as origin, proxying(ports=(origin,)) as (_, port):
                assert (await ask(port))[0] == 502, text[:80]

    run(scenario())


def test_requests_that_two_readers_could_read_differently_are_refused() -> None:
    both = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    bad = {
        both: 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd": 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd": 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n": 501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n": 400,
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nA\r\n0\r\n\r\n": 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nAB\r\n0\r\n\r\n": 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\nA\r\n0\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n": 400,
        b"GET / HTTP/1.1\nHost: a\n\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n": 400,
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n": 400,
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 400,
        b"GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n": 400,
        b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n": 400,
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n": 417,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70000 + b"\r\n\r\n": 431,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n": 431,
    }

    async def scenario() -> None:
        async with backend(answering()) as origin, proxying(ports=(origin,)) as (_, port):
            for data, status in bad.items():
                answer = await talk(port, data, eof=True)
                assert answer.startswith(b"HTTP/1.1 %d " % status), (data[:100], answer[:100])
                assert answer.count(b"HTTP/1.1") == 1, data[:100]

    run(scenario())


def test_timeouts_of_routes() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def scenario() -> None:
        for policy in (Policy(request_timeout=0.2), Policy(backend_timeout=0.2), Policy(read_timeout=0.5)):
            async with backend(silent) as origin, proxying(route(policy), ports=(origin,)) as (_, port):
                assert (await ask(port))[0] == 504

    run(scenario())


def test_a_client_that_goes_away_takes_its_request_with_it() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()
        asked = asyncio.Event()

        async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_head(reader)
            asked.set()
            await reader.read()
            ended.set()

        async with backend(patient) as origin, proxying(ports=(origin,)) as (_, port):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(request())
            await asked.wait()
            writer.transport.abort()
            await ended.wait()

    run(scenario())


def test_weights_share_requests_and_mirrors_copy_them() -> None:
    async def scenario() -> None:
        heavy: list[bytes] = []
        light: list[bytes] = []
        copied: list[bytes] = []
        other, mirror = ("default", "light", "80"), ("default", "mirror", "80")
        rule = Route(
            Match(ANY_PATH),
            (Target(KEY, weight=3), Target(other, weight=1), Target(None, weight=0)),
            filters=Filters(mirrors=(Mirror(Target(mirror)),)),
        )
        async with (
            backend(answering(seen=heavy)) as first,
            backend(answering(seen=light)) as second,
            backend(answering(seen=copied)) as third,
            proxying(rule, ports={KEY: (first,), other: (second,), mirror: (third,)}) as (_, port),
        ):
            for _ in range(200):
                assert (await ask(port))[0] == 200
            assert len(heavy) + len(light) == 200
            assert 25 <= len(light) <= 80
            while len(copied) < 200:
                await asyncio.wait_for(ask(port), 5)

    run(scenario())


def test_heads_are_changed_as_filters_say() -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        changes = HeaderChanges(set=(("X-Set", "new"),), add=(("X-Add", "two"),), remove=("x-remove",))
        rule = route(filters=Filters(changes, changes, Rewrite(host="other.example", prefix_path="/new")))
        origin_head = "HTTP/1.1 200 OK\r\nX-Set: old\r\nX-Add: one\r\nX-Remove: me\r\n"
        async with (
            backend(answering(head=origin_head, seen=seen)) as origin,
            proxying(rule, ports=(origin,)) as (_, port),
        ):
            _, head, _ = await ask(port, "/x%2Fy?q=1", "GET", "X-Set: old", "X-Add: one", "X-Remove: me")
            assert seen[0].startswith(b"GET /new/x%2Fy?q=1 HTTP/1.1\r\nHost: other.example\r\n")
            for fields in (fields_of(seen[0]), fields_of(head)):
                assert fields["x-set"] == "new"
                assert fields["x-add"] == "one,two"
                assert "x-remove" not in fields

    run(scenario())


def test_endpoints_may_change_while_requests_run() -> None:
    async def scenario() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_head(reader)
            asked.set()
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
            await reader.read()

        async with (
            backend(held) as old,
            backend(answering(b"new")) as new,
            proxying(ports=(old,)) as (proxy, port),
            asyncio.TaskGroup() as tasks,
        ):
            first = tasks.create_task(ask(port))
            await asked.wait()
            proxy.backends.set({KEY: [(LOOPBACK, new)]})
            assert (await ask(port))[2] == b"new"
            go.set()
            assert (await first)[2] == b"old"

    run(scenario())
