"""Changes go to the kernel at once; only in a long burst some wait for each other."""

from __future__ import annotations

import pytest

from tiphys.proxy.services.pace import BURST, LONGEST, SHARE, Pace


def exhausted(seconds: float = 0.01) -> Pace:
    pace = Pace()
    for _ in range(int(BURST)):
        assert pace.delay(10.0) == 0.0
        pace.note(10.0, seconds)
    return pace


def test_a_burst_waits_in_proportion_to_what_it_costs() -> None:
    assert exhausted().delay(10.0) == pytest.approx(SHARE * 0.01)
    assert exhausted().delay(10.02) < SHARE * 0.01
    assert exhausted().delay(10.0 + SHARE * 0.01) == 0.0


def test_no_change_waits_long() -> None:
    assert exhausted(5.0).delay(10.0) == LONGEST


def test_after_a_quiet_while_changes_go_at_once_again() -> None:
    pace = exhausted(1.0)
    assert pace.delay(10.21) == 0.0
    pace.note(20.0, 1.0)
    assert pace.delay(20.0) == 0.0


def test_a_slow_stream_of_changes_never_waits() -> None:
    pace = Pace()
    for number in range(200):
        assert pace.delay(number * 0.2) == 0.0
        pace.note(number * 0.2, 0.05)
