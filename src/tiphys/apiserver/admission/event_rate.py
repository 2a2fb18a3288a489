"""EventRateLimit: who writes too many Events is put off. Off by default; needs a configuration."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.apiserver.types import Attributes, Plugin
from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent, TooManyRequests

GROUP, KIND = "eventratelimit.admission.k8s.io", "Configuration"
TYPES = ("Server", "Namespace", "User", "SourceAndObject")
BUCKETS = 4096
PARTS = ("kind", "namespace", "name", "uid", "apiVersion")


@dataclass(slots=True)
class _Bucket:
    left: float
    since: float
    """When `left` was right, in monotonic seconds."""


class Limit:
    """One limit: a bucket of `burst` Events for each key, filled up by `qps` a second."""

    def __init__(self, struct: Mapping[str, Any], path: str) -> None:
        self.type = str(struct.get("type"))
        if self.type not in TYPES:
            raise Permanent(f"EventRateLimit: {path}.type: {self.type} is not one of {', '.join(TYPES)}")
        self._qps, self._burst = _positive(struct, path, "qps"), _positive(struct, path, "burst")
        self._most = 1 if self.type == "Server" else int(struct.get("cacheSize") or BUCKETS)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def refusal(self, attributes: Attributes, now: float) -> str:
        """Why the Event is one too many; "" if it is not."""
        key = KEYS[self.type](attributes)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.left = min(self._burst, bucket.left + (now - bucket.since) * self._qps)
        bucket.since = now
        if bucket.left < 1:
            return f"limit reached on type {self.type} for key {key}"
        bucket.left -= 1
        return ""


class EventRateLimit(Plugin):
    name = "EventRateLimit"
    resources = frozenset({("", "events"), ("events.k8s.io", "events")})

    def __init__(self, clock: Clock, configuration: Mapping[str, Any] | None) -> None:
        limits = (configuration or {}).get("limits")
        if not limits:
            raise Permanent("EventRateLimit: limits: must not be empty; give them in --admission-control-config-file")
        self._limits = [Limit(struct, f"limits[{number}]") for number, struct in enumerate(limits)]
        self._clock = clock

    async def validate(self, attributes: Attributes) -> None:
        if attributes.kind[2] != "Event" or attributes.info.resource != "events" or attributes.dry_run:
            return
        if attributes.operation not in ("CREATE", "UPDATE"):
            return
        now = self._clock.monotonic()
        problems = [text for limit in self._limits if (text := limit.refusal(attributes, now))]
        if problems:
            raise TooManyRequests(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _positive(struct: Mapping[str, Any], path: str, field: str) -> int:
    value = struct.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise Permanent(f"EventRateLimit: {path}.{field}: Invalid value: {value}: must be positive")
    return value


def _source_and_object(attributes: Attributes) -> str:
    event = attributes.obj or {}
    source, about = event.get("source") or {}, event.get("involvedObject") or event.get("regarding") or {}
    return "".join([source.get("component", ""), source.get("host", ""), *(about.get(part, "") for part in PARTS)])


KEYS: Mapping[str, Callable[[Attributes], str]] = {
    "Server": lambda attributes: "",
    "Namespace": lambda attributes: attributes.info.namespace,
    "User": lambda attributes: attributes.user.name,
    "SourceAndObject": _source_and_object,
}
