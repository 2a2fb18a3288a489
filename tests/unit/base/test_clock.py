"""Times as texts."""

from __future__ import annotations

import pytest

from tiphys.base.clock import parse_rfc3339, rfc3339, rfc3339_micro


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1.999, "1970-01-01T00:00:01Z"),
        (-0.5, "1969-12-31T23:59:59Z"),
        (1769850487.25, "2026-01-31T09:08:07Z"),
        (1769850487.75, "2026-01-31T09:08:07Z"),
        (1769850488.0, "2026-01-31T09:08:08Z"),
    ],
)
def test_a_time_is_its_second(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == rfc3339(seconds) == text
    assert parse_rfc3339(text) == seconds // 1


def test_a_micro_time_keeps_its_fraction() -> None:
    assert rfc3339_micro(1769850487.25) == "2026-01-31T09:08:07.250000Z"
