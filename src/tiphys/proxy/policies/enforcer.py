"""Enforces NetworkPolicies on a node: informers in, transactions out, and no pod starts before its rules are there.

    enforcer = PolicyEnforcer(client, clock, connect)
    enforcer.found(...), enforcer.settle()   # at first: the pods that run here already
    await enforcer.isolate(pod, addresses)   # before any container of a new pod starts
    enforcer.release(uid, addresses)         # when its addresses are free again

Pods and namespaces are watched from the first policy on: a cluster without policies has no rules and no watches but
that of policies. Nothing is changed in the kernel before all is known, so a restart opens and closes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from tiphys.base.clock import Clock
from tiphys.base.errors import Retry
from tiphys.base.nftables import Nftables
from tiphys.client.backoff import Backoff
from tiphys.client.informer import Informer, key_of
from tiphys.client.resources import NAMESPACES, NETWORK_POLICIES, PODS
from tiphys.client.types import Client
from tiphys.proxy.policies.compiler import Compiler
from tiphys.proxy.policies.facts import Object, canonical, pod_of, reduced, reduced_namespace
from tiphys.proxy.policies.kernel import Kernel
from tiphys.proxy.policies.names import NameServer
from tiphys.proxy.policies.policy import Policy, policy_of

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds that a pod's start waits for its rules before it is told that they are not there, and starts over."""


class PolicyEnforcer:
    """See the module's docstring. `connect` opens nftables inside the node's network namespace; `server` is the node's
    own name server, if it has one."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        connect: Callable[[], Nftables],
        *,
        server: NameServer | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._client, self._clock, self._patience = client, clock, patience
        self._policies = Informer(client, NETWORK_POLICIES, clock)
        self._pods = Informer(client, PODS, clock, transform=reduced)
        self._namespaces = Informer(client, NAMESPACES, clock, transform=reduced_namespace)
        self._compiler = Compiler(server)
        self._kernel = Kernel(connect)
        self._backoff = Backoff(base=0.5, limit=30.0, jitter=0.5, seed="policies")
        self._tasks: asyncio.TaskGroup | None = None
        self._watching = self._settled = False
        self._version = self._applied = 0
        self._work = asyncio.Event()
        self._news = asyncio.Condition()
        self._failure = ""
        self._covered: dict[str, tuple[str, ...]] = {}
        """Addresses of pods whose rules were once in the kernel, by UID."""

    async def run(self) -> None:
        """Until cancelled; rules stay."""
        self._policies.subscribe(self._policy_changed)
        self._pods.subscribe(self._pod_changed)
        self._namespaces.subscribe(self._namespace_changed)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._follow(self._policies)
                await self._enforce()
        finally:
            self._tasks = None
            self._kernel.close()

    def _follow(self, informer: Informer) -> None:
        assert self._tasks is not None
        self._tasks.create_task(informer.run(), name=f"{informer.resource.plural} for policies")
        self._tasks.create_task(self._wake_when_synced(informer), name=f"{informer.resource.plural} are known")

    async def _wake_when_synced(self, informer: Informer) -> None:
        await informer.wait_synced()
        self._changed()

    # --- what the API says

    def _policy_changed(self, old: Object | None, new: Object | None) -> None:
        self._compiler.set_policy(key_of(new or old or {}), _parsed(new) if new is not None else None)
        if not self._watching and new is not None:
            self._watching = True
            self._follow(self._namespaces)
            self._follow(self._pods)
        self._changed()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._compiler.set_pod(pod_of(old or {}).uid, None)
        else:
            pod = pod_of(new)
            if old is not None and replace(pod_of(old), revision=pod.revision) == pod:
                return
            self._compiler.set_pod(pod.uid, pod)
        self._changed()

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        name = str((new or old or {})["metadata"]["name"])
        self._compiler.set_namespace(name, None if new is None else new["metadata"].get("labels") or {})
        self._changed()

    def _changed(self) -> None:
        self._version += 1
        self._work.set()

    # --- what the node says

    def found(self, uid: str, namespace: str, addresses: Iterable[str], pod: Object | None, started: bool) -> None:
        """A pod has a sandbox from before this process started. `pod` is None when the API does not know it (or not
        yet; then it is told of again); `started`: its containers were, so its rules are in the kernel."""
        listed = _canonical(addresses)
        if pod is None:
            self._compiler.close(namespace, uid, listed)
        else:
            self._compiler.attach(pod_of(pod), listed)
            if started:
                self._covered[uid] = listed
        self._changed()

    def settle(self) -> None:
        """All that were found were told of. Until then nothing is changed in the kernel."""
        self._settled = True
        self._changed()

    def attach(self, pod: Object, addresses: Iterable[str]) -> None:
        """A new pod has these addresses: rules for them are made at once. `isolate` says when they are there."""
        if not pod["spec"].get("hostNetwork"):
            self._compiler.attach(pod_of(pod), _canonical(addresses))
            self._changed()

    async def isolate(self, pod: Object, addresses: Iterable[str]) -> None:
        """Return when rules for the pod's addresses are in the kernel, by the policies there are when this is called.

        Once that is so, later calls return at once: rules follow policies by themselves. Raises Retry when it does not
        come to that in time; the pod's containers must not start then. ApiError, OSError: policies cannot be read."""
        listed = _canonical(addresses)
        facts = pod_of(pod)
        if pod["spec"].get("hostNetwork") or not listed or self._covered.get(facts.uid) == listed:
            return
        self.attach(pod, listed)
        try:
            async with asyncio.timeout(self._patience):
                await self._cover(facts.namespace)
        except TimeoutError:
            raise Retry(f"network policies are not in force: {self._obstacle()}") from None
        self._covered[facts.uid] = listed

    def release(self, uid: str, addresses: Iterable[str]) -> None:
        """The pod's addresses may be given to another from now on."""
        listed = _canonical(addresses)
        if self._covered.get(uid) == listed:
            del self._covered[uid]
        self._compiler.release(uid, listed)
        self._changed()

    async def _cover(self, namespace: str) -> None:
        """Wait until the rules are those of the policies of now.

        The watch of policies may be behind that of pods, which the kubelet has of its own: so it is looked up how far
        it must come."""
        await self._policies.wait_synced()
        listing = await self._client.list(NETWORK_POLICIES, namespace)
        await self._until(lambda: all(map(self._has_seen, listing.items)))
        if self._compiler.policies:
            version = self._version
            await self._until(lambda: self._applied >= version)

    def _has_seen(self, policy: Object) -> bool:
        revision = str(policy["metadata"].get("resourceVersion") or "")
        return not revision.isdigit() or self._policies.revision >= int(revision)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._news:
            await self._news.wait_for(condition)

    def _obstacle(self) -> str:
        for informer in (self._policies, *((self._pods, self._namespaces) if self._watching else ())):
            if not informer.synced:
                return f"{informer.resource.plural} could not be read from the API server"
        if not self._settled:
            return "the pods of this node are not known yet"
        return self._failure or "the rules could not be changed in time"

    # --- the kernel

    async def _enforce(self) -> None:
        failures = 0
        while True:
            await self._work.wait()
            self._work.clear()
            if self._is_ready():
                try:
                    await self._step()
                except OSError as error:
                    failures = await self._failed(failures, str(error))
                except Exception as error:  # a fault here must not end the node; what is in the kernel stays
                    log.exception("network policies: unexpected failure")
                    failures = await self._failed(failures, repr(error))
                else:
                    failures = 0
            async with self._news:
                self._news.notify_all()

    async def _failed(self, failures: int, why: str) -> int:
        """Wait before the next try, which looks at the kernel anew."""
        self._kernel.forget()
        self._failure = why
        delay = self._backoff.delay(failures)
        log.warning("network policies are not in force, next try in %.1f s: %s", delay, why)
        await self._clock.sleep(delay)
        self._work.set()
        return failures + 1

    def _is_ready(self) -> bool:
        """Whether all is known that rules are made from."""
        if not self._watching:
            return self._policies.synced
        return self._settled and all(one.synced for one in (self._policies, self._pods, self._namespaces))

    async def _step(self) -> None:
        """Bring the kernel up to what is known now. Raises NftablesError, an OSError."""
        compiler, kernel = self._compiler, self._kernel
        if not kernel.known:
            await asyncio.to_thread(kernel.read)
            compiler.touched |= kernel.everything(compiler.ruleset)
            if not self._is_ready():  # the first policy came meanwhile: peers are not known yet
                return
        version = self._version
        compiler.settle()
        transactions = kernel.plan(compiler.ruleset, compiler.touched)
        compiler.touched.clear()
        if transactions:
            await asyncio.to_thread(kernel.carry_out, transactions)
        self._applied, self._failure = version, ""


def _parsed(obj: Object) -> Policy | None:
    try:
        return policy_of(obj)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("network policy %s cannot be read and does nothing: %s", key_of(obj), error)
        return None


def _canonical(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(filter(None, map(canonical, addresses)))
