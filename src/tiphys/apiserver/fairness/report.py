"""What /metrics says about priority levels, by upstream's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tiphys.apiserver.fairness.levels import Level, Pool

_PREFIX = "apiserver_flowcontrol_"
_GAUGES: tuple[tuple[str, str, Callable[[Level], int]], ...] = (
    ("nominal_limit_seats", "Seats of the level by its shares.", lambda level: level.nominal),
    ("lower_limit_seats", "Seats that the level never lends.", lambda level: level.kept),
    ("upper_limit_seats", "Seats with all that may be borrowed.", lambda level: level.nominal + level.borrowing),
    ("current_executing_seats", "Seats in use.", lambda level: level.executing),
    ("current_executing_requests", "Requests under way.", lambda level: level.requests),
    ("current_inqueue_requests", "Requests that wait.", lambda level: level.waiting),
)


def lines(pool: Pool) -> Iterator[str]:
    """Lines of the text format."""
    levels = sorted(pool.levels.values(), key=lambda level: level.name)
    for name, help, value in _GAUGES:
        yield from _head(name, help, "gauge")
        for level in levels:
            yield f'{_PREFIX}{name}{{priority_level="{level.name}"}} {value(level)}'
    yield from _head("dispatched_requests_total", "Requests that were let in.", "counter")
    for level in levels:
        for schema, count in sorted(level.dispatched.items()):
            labels = f'flow_schema="{schema}",priority_level="{level.name}"'
            yield f"{_PREFIX}dispatched_requests_total{{{labels}}} {count}"
    yield from _head("rejected_requests_total", "Requests that were sent away.", "counter")
    for level in levels:
        for (schema, reason), count in sorted(level.rejected.items()):
            labels = f'flow_schema="{schema}",priority_level="{level.name}",reason="{reason}"'
            yield f"{_PREFIX}rejected_requests_total{{{labels}}} {count}"


def _head(name: str, help: str, kind: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {help}"
    yield f"# TYPE {_PREFIX}{name} {kind}"
