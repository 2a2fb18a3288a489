"""How many seats a request takes: one, but lists by how much they read (upstream: a seat for each 100 kB)."""

from __future__ import annotations

import math

from tiphys.apiserver.entries import Entry
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.types import RequestInfo
from tiphys.base.http.types import Request

BYTES_A_SEAT = 100_000
_SAMPLE = 8
"""Objects whose size is looked at."""


def seats(request: Request, info: RequestInfo, caches: Caches, most: int) -> int:
    """Seats from 1 to `most`."""
    if info.verb != "list" or info.name or most == 1:
        return 1
    try:
        cache = caches.of(info.group, info.resource)
    except KeyError:
        return 1
    count = len(cache)
    limit = request.param("limit") if request.query_string else ""
    if limit and limit.isdecimal() and 0 < int(limit) < count:
        count = int(limit)
    return max(1, min(most, math.ceil(count * _mean(cache.sample(_SAMPLE)) / BYTES_A_SEAT)))


def _mean(entries: list[Entry]) -> float:
    """Bytes of an object."""
    return sum(len(entry.item) for entry in entries) / len(entries) if entries else 0.0
