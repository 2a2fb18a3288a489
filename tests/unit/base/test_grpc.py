"""gRPC on Unix sockets: messages by tables, calls, streams, errors, and nothing loaded before it is needed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.base.errors import TiphysError
from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.messages import (
    BOOL,
    DOUBLE,
    INT32,
    INT64,
    RAW,
    STRING,
    UINT64,
    MapOf,
    Message,
    Repeated,
    decode,
    empty,
    encode,
)
from tiphys.base.grpc.server import UnixServer
from tiphys.base.grpc.types import Code, Content, Method, RpcError, code_name
from tiphys.base.protowire import Malformed

INNER = Message(id=(1, INT64), name=(2, STRING))
ALL = Message(
    text=(1, STRING),
    flag=(2, BOOL),
    small=(3, INT32),
    large=(4, UINT64),
    ratio=(5, DOUBLE),
    raw=(6, RAW),
    inner=(7, INNER),
    many=(8, Repeated(INNER)),
    words=(9, Repeated(STRING)),
    numbers=(10, Repeated(INT64)),
    table=(11, MapOf(STRING)),
    things=(12, MapOf(INNER)),
)
FULL = {
    "text": "ü",
    "flag": True,
    "small": -3,
    "large": 2**63,
    "ratio": 0.5,
    "raw": b"\0\1",
    "inner": {"id": -1, "name": ""},
    "many": [{"id": 1, "name": "a"}, {"id": 0, "name": "b"}],
    "words": ["", "x"],
    "numbers": [0, 5, -5],
    "table": {"a": "1", "": ""},
    "things": {"k": {"id": 7, "name": "n"}},
}
ECHO = Method("/t.Test/Echo", ALL, ALL)
COUNT = Method("/t.Test/Count", INNER, INNER, streaming=True)


def test_a_message_comes_back_as_it_went() -> None:
    assert decode(ALL, encode(ALL, FULL)) == FULL


def test_what_is_absent_is_its_default() -> None:
    assert decode(ALL, b"") == empty(ALL)
    assert empty(ALL)["inner"] is None
    assert encode(ALL, empty(ALL)) == b""


def test_numbers_are_understood_unpacked_too_and_unknown_fields_are_skipped() -> None:
    assert decode(ALL, b"\x50\x01\x50\x02\xf8\x01\x07")["numbers"] == [1, 2]


def test_bytes_that_are_no_message_are_refused() -> None:
    for data in (b"\x0a\x05ab", b"\x08\x01", b"\xff"):
        with pytest.raises(Malformed):
            decode(ALL, data)


@given(st.binary(max_size=200))
def test_hostile_bytes_are_a_message_or_malformed_and_nothing_else(data: bytes) -> None:
    try:
        found = decode(ALL, data)
    except Malformed:
        return
    again = encode(ALL, found)
    assert encode(ALL, decode(ALL, again)) == again


@given(
    st.fixed_dictionaries(
        {
            "text": st.text(),
            "small": st.integers(-(2**31), 2**31 - 1),
            "large": st.integers(0, 2**64 - 1),
            "raw": st.binary(),
            "numbers": st.lists(st.integers(-(2**63), 2**63 - 1)),
            "table": st.dictionaries(st.text("ab"), st.text("cd")),
        }
    )
)
def test_any_message_comes_back(value: dict[str, Any]) -> None:
    assert decode(ALL, encode(ALL, value)) == empty(ALL) | value


def test_a_field_that_the_type_lacks_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        encode(INNER, {"nmae": "x"})


def test_codes_have_the_names_that_go_prints() -> None:
    assert code_name(Code.DEADLINE_EXCEEDED) == "DeadlineExceeded"
    assert str(RpcError(1, "x")) == "rpc error: code = Canceled desc = x"
    assert str(RpcError(99, "x")) == "rpc error: code = Unknown desc = x"


async def _echo(message: dict[str, Any]) -> Content:
    if message["text"] == "refuse":
        raise RpcError(Code.NOT_FOUND, "no such thing")
    if message["text"] == "fail":
        raise TiphysError("went wrong")
    if message["text"] == "hang":
        await asyncio.Event().wait()
    return message


async def _count(message: dict[str, Any]) -> AsyncIterator[Content]:
    for number in range(message["id"]):
        yield {"id": number}


async def _with_server(path: Path, work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(UnixServer(path, {ECHO: _echo, COUNT: _count}).run())
        while not path.exists():
            await asyncio.wait([serving], timeout=0.001)
        channel = Channel(str(path))
        try:
            await work(channel)
        finally:
            channel.close()
            serving.cancel()


def test_calls_and_streams_are_answered(tmp_path: Path) -> None:
    async def work(channel: Channel) -> None:
        assert await channel.call(ECHO, FULL) == FULL
        counted: list[dict[str, Any]] = []
        await channel.follow(COUNT, {"id": 3}, counted.append)
        assert [one["id"] for one in counted] == [0, 1, 2]

    asyncio.run(_with_server(tmp_path / "s.sock", work))
    assert not (tmp_path / "s.sock").exists()


def test_a_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    async def work(channel: Channel) -> None:
        assert await channel.call(ECHO, FULL) == FULL

    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    asyncio.run(_with_server(directory / "s.sock", work))
    assert list(directory.iterdir()) == []


def test_errors_carry_their_code(tmp_path: Path) -> None:
    async def work(channel: Channel) -> None:
        for text, code in (("refuse", Code.NOT_FOUND), ("fail", Code.UNKNOWN), ("hang", Code.DEADLINE_EXCEEDED)):
            with pytest.raises(RpcError) as caught:
                await channel.call(ECHO, {"text": text}, timeout=0.2 if text == "hang" else None)
            assert caught.value.code is code
        unknown = Method("/t.Test/Nothing", ALL, ALL)
        with pytest.raises(RpcError) as caught:
            await channel.call(unknown, {})
        assert caught.value.code is Code.UNIMPLEMENTED

    asyncio.run(_with_server(tmp_path / "s.sock", work))


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(RpcError) as caught:
            await Channel(str(tmp_path / "none")).call(ECHO, {})
        assert caught.value.code is Code.UNAVAILABLE

    asyncio.run(work())


def test_the_library_is_loaded_by_the_first_connection_only(tmp_path: Path) -> None:
    program = """
import asyncio, pathlib, sys
from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.server import UnixServer

loaded = lambda: bool({"grpclib", "h2", "grpc"} & set(sys.modules))

async def main():
    path = pathlib.Path(sys.argv[1])
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(UnixServer(path, {}).run())
        await asyncio.wait([serving], timeout=0.05)
        assert path.exists() and not loaded()
        await asyncio.open_unix_connection(path)
        await asyncio.wait([serving], timeout=0.5)
        assert loaded()
        serving.cancel()

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "s.sock")], check=True)
