"""No container starts before the network policies about its pod are in force: the kubelet's side of that.

Who enforces policies is handed in (`Guard`); without one there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from tiphys.kubelet import labels
from tiphys.kubelet.events import Observed
from tiphys.kubelet.labels import SandboxRecord
from tiphys.kubelet.podspec import namespace_of
from tiphys.kubelet.state import PodState

Object = Mapping[str, Any]


class Guard(Protocol):
    """Keeps pods from what policies forbid."""

    def found(self, uid: str, namespace: str, addresses: Iterable[str], pod: Object | None, started: bool) -> None:
        """A pod that has a sandbox from before this process started; `pod` is None if it is not known to the API (or
        not yet: it may be told again), `started`: some container was started, so that its rules were in force."""
        ...

    def settle(self) -> None:
        """All that were found were told of; to be called once."""
        ...

    def attach(self, pod: Object, addresses: Iterable[str]) -> None:
        """A new pod has these addresses: begin with what `isolate` waits for."""
        ...

    async def isolate(self, pod: Object, addresses: Iterable[str]) -> None:
        """Return when what policies say of the pod is in force. Raises TiphysError, OSError if that cannot be."""
        ...

    def release(self, uid: str, addresses: Iterable[str]) -> None:
        """The pod has these addresses no more."""
        ...


class Isolation:
    """Tells a guard, if there is one, of pods and their addresses."""

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        self._addresses: dict[str, tuple[str, ...]] = {}
        """By sandbox."""
        self._untold: dict[str, Observed] = {}
        self._labels: dict[str, Mapping[str, str]] = {}

    def observed(self, found: Mapping[str, Observed], known: Mapping[str, Mapping[str, str]]) -> None:
        """What was there at the start, by UID, and its labels: to be told of one by one by `took_up`."""
        self._untold, self._labels = dict(found), dict(known)

    def took_up(self, uid: str, pod: Object | None) -> None:
        """The pod is looked after from now on."""
        found = self._untold.get(uid)
        if found is None:
            return
        if pod is not None:
            del self._untold[uid]
        namespace = self._labels.get(uid, {}).get(labels.POD_NAMESPACE, "") if pod is None else namespace_of(pod)
        for sandbox in found.sandboxes:
            self._note(sandbox)
            if self._guard is not None and sandbox.ips:
                started = any(record.started_at for record in found.containers)
                self._guard.found(uid, namespace, sandbox.ips, pod, started)

    def settle(self) -> None:
        """All pods were taken up; what is left is nobody's, or of somebody who is not known yet."""
        for uid in self._untold:
            self.took_up(uid, None)
        if self._guard is not None:
            self._guard.settle()

    def attached(self, pod: Object, sandbox: SandboxRecord) -> None:
        """The pod has a new sandbox."""
        self._note(sandbox)
        if self._guard is not None and sandbox.ips:
            self._guard.attach(pod, sandbox.ips)

    async def isolate(self, state: PodState) -> None:
        """Before a container of the pod starts. Raises TiphysError, OSError: it must not."""
        if state.sandbox is not None:
            self._note(state.sandbox)
            if self._guard is not None and state.sandbox.ips:
                await self._guard.isolate(state.pod, state.sandbox.ips)

    def removed(self, uid: str, sandbox: str) -> None:
        """The pod's sandbox is gone."""
        self._untold.pop(uid, None)
        addresses = self._addresses.pop(sandbox, ())
        again = {address for listed in self._addresses.values() for address in listed}
        freed = tuple(address for address in addresses if address not in again)
        if self._guard is not None and freed:
            self._guard.release(uid, freed)

    def _note(self, sandbox: SandboxRecord) -> None:
        if sandbox.ips:
            self._addresses[sandbox.id] = sandbox.ips
