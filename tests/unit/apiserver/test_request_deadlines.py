"""Requests that last too long are stopped, by one timer for all of them."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.apiserver.deadlines import Deadlines
from tiphys.base.errors import Timeout


async def lasting(deadlines: Deadlines) -> None:
    with deadlines.of_request():
        await asyncio.Event().wait()


def test_each_request_that_waits_too_long_is_stopped() -> None:
    async def main() -> list[BaseException | None]:
        deadlines = Deadlines(0.01)
        found = await asyncio.gather(*(lasting(deadlines) for _ in range(3)), return_exceptions=True)
        again = await asyncio.gather(lasting(deadlines), return_exceptions=True)
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        return [*found, *again]

    found = asyncio.run(main())
    assert [type(error) for error in found] == [Timeout] * 4
    assert str(found[0]) == "Timeout: request did not complete within the allotted timeout"


def test_the_task_that_was_stopped_goes_on() -> None:
    async def main() -> str:
        with pytest.raises(Timeout):
            await lasting(Deadlines(0.01))
        return await asyncio.sleep(0, "and is not cancelled")  # noqa: TID251 - only yields

    assert asyncio.run(main()) == "and is not cancelled"


def test_what_is_done_in_time_leaves_nothing_behind() -> None:
    async def main() -> None:
        deadlines = Deadlines(0.01)
        with deadlines.of_request() as quick:
            pass
        with pytest.raises(Timeout):
            await lasting(deadlines)
        assert not quick.expired()

    asyncio.run(main())


def test_others_may_cancel_too() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(lasting(Deadlines(60)))  # noqa: TID251 - is awaited below
        await asyncio.sleep(0)  # noqa: TID251 - only yields
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_an_error_in_time_is_the_error() -> None:
    async def main() -> None:
        with pytest.raises(KeyError), Deadlines(60).of_request():
            raise KeyError

    asyncio.run(main())
