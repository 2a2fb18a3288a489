"""The proxy's listening sockets and certificates, as a plan wants them."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Callable, Mapping, Sequence

from tiphys.client.types import Object
from tiphys.gateway.certificates import BadCertificate, Chooser, Contexts, names_in
from tiphys.gateway.plan import FrontKey, FrontPlan
from tiphys.gateway.proxy.fronts import Front
from tiphys.gateway.proxy.server import Proxy

_FIRST, _COUNT = 10000, 20000
Secrets = Callable[[str, str], Object | None]


def preferred_port(key: FrontKey) -> int:
    """The same at each start, below the ports that the kernel gives out, so that a restart changes no EndpointSlice."""
    return _FIRST + zlib.crc32(f"{key[0]}:{key[1]}".encode()) % _COUNT


class Fronts:
    """Sockets stay while their port is wanted; routes and certificates are replaced under them."""

    def __init__(self, proxy: Proxy, contexts: Contexts, addresses: Sequence[str]) -> None:
        self._proxy = proxy
        self._contexts = contexts
        self._addresses = addresses
        self._fronts: dict[FrontKey, Front] = {}
        self._choosers: dict[FrontKey, Chooser] = {}

    def bound(self, key: FrontKey) -> int:
        """Where a port is listened on; 0 when it is not."""
        front = self._fronts.get(key)
        return front.bound if front is not None else 0

    def apply(self, wanted: Mapping[FrontKey, FrontPlan], secrets: Secrets) -> list[str]:
        """Returns what could not be done."""
        problems: list[str] = []
        for key in [key for key, front in self._fronts.items() if key not in wanted or front.tls != wanted[key].tls]:
            self._fronts.pop(key).close()
            self._choosers.pop(key, None)
        for key, plan in wanted.items():
            if key not in self._fronts and not self._open(key, plan, problems):
                continue
            if plan.tls:
                self._choosers[key].table = self._table(plan, secrets, problems)
            self._fronts[key].tables = plan.tables
        return problems

    def _open(self, key: FrontKey, plan: FrontPlan, problems: list[str]) -> bool:
        chooser = Chooser(self._contexts.default_pair) if plan.tls else None
        front = Front(self._proxy, plan.port, chooser.context if chooser is not None else None)
        try:
            front.listen(self._addresses, preferred_port(key))
        except OSError as error:
            problems.append(f"port {plan.port} of {key[0]} cannot be served: {error}")
            return False
        self._fronts[key] = front
        if chooser is not None:
            self._choosers[key] = chooser
        return True

    def _table(self, plan: FrontPlan, secrets: Secrets, problems: list[str]) -> Mapping[str, ssl.SSLContext]:
        table: dict[str, ssl.SSLContext] = {}
        for secret_key in plan.nameless:
            secret = secrets(*secret_key)
            try:
                for name in names_in(secret) if secret is not None else ():
                    table.setdefault(name, self._contexts.get(secret or {}))
            except BadCertificate as error:
                problems.append(f"secret {'/'.join(secret_key)}: {error}")
        for host, secret_key in plan.certificates.items():
            secret = secrets(*secret_key)
            try:
                if secret is not None:
                    table[host] = self._contexts.get(secret)
            except BadCertificate as error:
                problems.append(f"secret {'/'.join(secret_key)}: {error}")
        return table

    def close(self) -> None:
        """Accept no more."""
        for front in self._fronts.values():
            front.close()
