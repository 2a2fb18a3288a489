"""Counts of questions and answers, under CoreDNS' names: what scrapes a cluster's DNS knows those.

Every answer counts, so counting is one addition to a dict; names are put together when somebody reads them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tiphys.base.http.types import Request, Response
from tiphys.base.metrics import CONTENT_TYPE, Counter, Registry

if TYPE_CHECKING:
    from tiphys.dns.forward import Forwarder
    from tiphys.dns.wire import Query

Labels = tuple[str, str, str]
"""Protocol, type of the question, and how it was answered."""

_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR"}
_TYPES |= {43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 255: "ANY"}
_RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_SERVER = "dns://:10053"
_HOME = (_SERVER, ".", "")


class Metrics:
    """What a server has answered."""

    def __init__(self) -> None:
        self._answers: defaultdict[Labels, int] = defaultdict(int)

    def count(self, labels: Labels) -> None:
        self._answers[labels] += 1

    def labels(self, query: Query, tcp: bool, rcode: int) -> Labels:
        """Under which labels the answer counts. Types that are rare are one: nobody may make up series."""
        return ("tcp" if tcp else "udp", _TYPES.get(query.type, "other"), rcode_name(rcode))

    def refused(self, tcp: bool, rcode: int) -> None:
        """A packet that was no question."""
        self.count(("tcp" if tcp else "udp", "other", rcode_name(rcode)))

    def total(self) -> int:
        return sum(self._answers.values())

    def render(self, forwarder: Forwarder) -> bytes:
        """In Prometheus' text format."""
        registry = Registry()
        labels = ("server", "zone", "view", "proto", "family", "type")
        requests = registry.counter("coredns_dns_requests_total", "Counter of DNS requests made.", labels)
        of_answers = ("server", "zone", "view", "rcode", "plugin")
        responses = registry.counter("coredns_dns_responses_total", "Counter of response status codes.", of_answers)
        for (protocol, kind, rcode), number in self._answers.items():
            requests.inc(*_HOME, protocol, "0", kind, by=number)
            responses.inc(*_HOME, rcode, "", by=number)
        _add_forwarder(registry, forwarder)
        return registry.render()


def _add_forwarder(registry: Registry, forwarder: Forwarder) -> None:
    home, where = ("server", "type", "zones", "view"), (_SERVER, "success", ".", "")
    cache, counts = forwarder.cache, forwarder.counts
    registry.gauge("coredns_cache_entries", "The number of elements in the cache.", home).set(len(cache), *where)
    _counted(registry.counter("coredns_cache_hits_total", "The count of cache hits.", home), cache.hits, *where)
    without_type = ("server", "zones", "view")
    misses = registry.counter("coredns_cache_misses_total", "The count of cache misses.", without_type)
    _counted(misses, cache.misses, _SERVER, ".", "")
    name = "coredns_forward_max_concurrent_rejects_total"
    text = "Counter of the number of queries rejected because the concurrent queries were at maximum."
    _counted(registry.counter(name, text), counts.refused)
    text = "Questions that other servers were asked, and those that none of them answered."
    asked = registry.counter("tiphys_dns_forwarded_total", text, ("result",))
    _counted(asked, counts.asked - counts.failed, "answered")
    _counted(asked, counts.failed, "failed")


def _counted(counter: Counter, number: int, *labels: str) -> None:
    counter.inc(*labels, by=number)


def rcode_name(rcode: int) -> str:
    return _RCODES[rcode] if rcode < len(_RCODES) else str(rcode)


class MetricsPage:
    """The handler of /metrics and of CoreDNS' /health and /ready."""

    def __init__(self, metrics: Metrics, forwarder: Forwarder) -> None:
        self._metrics, self._forwarder = metrics, forwarder

    async def __call__(self, request: Request) -> Response:
        if request.path == "/metrics":
            return Response(headers={"Content-Type": CONTENT_TYPE}, body=self._metrics.render(self._forwarder))
        if request.path in ("/health", "/ready"):
            return Response(headers={"Content-Type": "text/plain"}, body=b"OK")
        return Response(404, headers={"Content-Type": "text/plain"}, body=b"404 page not found\n")
