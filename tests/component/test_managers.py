"""Several controller managers of one cluster: one works at a time, whatever becomes of its clock and its network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent, ServiceUnavailable
from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.election import Election, ElectionConfig, LeadershipLost
from tiphys.client.local import LocalClient
from tiphys.client.resources import CONFIG_MAPS, EVENTS, LEASES, NAMESPACES, SERVICE_ACCOUNTS
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster

LEASE = "kube-controller-manager"


class SkewedClock:
    """A machine's clock that is off, and runs at a rate of its own."""

    def __init__(self, clock: Clock, rate: float = 1.0, offset: float = 0.0) -> None:
        self._clock, self._rate, self._offset = clock, rate, offset
        self.suspended = 0.0

    def time(self) -> float:
        return self._clock.time() + self._offset

    def monotonic(self) -> float:
        return self._clock.monotonic() * self._rate + self.suspended

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds / self._rate)


class Machine:
    """A manager's machine: its clients, its clock, its network."""

    def __init__(self, cluster: Cluster, name: str, clock: Clock | None = None) -> None:
        self.cluster, self.name = cluster, name
        self.clock = clock or cluster.clock
        self.cut = ""
        """"refused" or "silent": what becomes of its requests."""
        self.writes: list[float] = []

    def connect(self, user: User) -> LocalClient:
        return _Client(self, user)

    async def manage(self) -> None:
        """Run a manager until it loses the lease."""
        config = manager.ManagerConfig(connect=self.connect, leader_elect=True, identity=self.name)
        names = "namespace-controller,serviceaccount-controller"
        await manager.run(self.connect(MANAGER), self.clock, names, config)

    async def lead(self, work: Any) -> None:
        config = ElectionConfig(LEASE, self.name)
        await Election(self.connect(MANAGER), self.clock, config).lead(work)


class _Client(LocalClient):
    def __init__(self, machine: Machine, user: User) -> None:
        super().__init__(machine.cluster.server.handler, user, agent=machine.name)
        self._machine = machine

    async def exchange(self, call: Call) -> Any:
        await self._pass()
        if call.method not in ("GET", "HEAD") and not call.path.endswith(f"/leases/{LEASE}"):
            self._machine.writes.append(self._machine.cluster.clock.monotonic())
        answer = await super().exchange(call)
        await self._pass()
        return answer

    async def _pass(self) -> None:
        if self._machine.cut == "refused":
            raise ConnectionRefusedError(f"{self._machine.name} is cut off")
        while self._machine.cut == "silent":
            await self._machine.cluster.clock.sleep(7)


def run(scenario: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers="") as cluster:
            await cluster.wait(NAMESPACES, "", "kube-system")
            await scenario(cluster)

    clock.run(main())


async def holder(cluster: Cluster) -> str:
    lease = await cluster.client.get(LEASES, LEASE, "kube-system")
    return str(lease["spec"].get("holderIdentity") or "")


def test_the_lease_is_as_upstreams_and_an_event_names_the_leader() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(Machine(cluster, "one").manage())
            await cluster.clock.sleep(5)
            lease = await cluster.client.get(LEASES, LEASE, "kube-system")
            spec = lease["spec"]
            assert spec == {
                "holderIdentity": "one",
                "leaseDurationSeconds": 15,
                "acquireTime": "2026-01-01T00:00:00.000000Z",
                "renewTime": "2026-01-01T00:00:04.000000Z",
                "leaseTransitions": 0,
            }
            (event,) = (await cluster.client.list(EVENTS, "kube-system")).items
            assert (event["reason"], event["message"], event["type"]) == (
                "LeaderElection",
                "one became leader",
                "Normal",
            )
            assert event["source"]["component"] == "kube-controller-manager"
            about = event["involvedObject"]
            assert (about["kind"], about["apiVersion"], about["name"]) == ("Lease", "coordination.k8s.io/v1", LEASE)
            task.cancel()
        spec = (await cluster.client.get(LEASES, LEASE, "kube-system"))["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("", 1)

    run(scenario)


def test_the_next_leader_counts_a_transition() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number, name in enumerate(("one", "two", "two")):
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(Machine(cluster, name).manage())
                await cluster.clock.sleep(5)
                spec = (await cluster.client.get(LEASES, LEASE, "kube-system"))["spec"]
                assert (spec["holderIdentity"], spec["leaseTransitions"]) == (name, number)
                task.cancel()

    run(scenario)


def test_only_the_leader_works_and_another_goes_on_when_it_dies() -> None:
    async def scenario(cluster: Cluster) -> None:
        one, two = Machine(cluster, "one"), Machine(cluster, "two")
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(one.manage())
            await cluster.clock.sleep(1)
            second = tasks.create_task(two.manage())
            await cluster.clock.sleep(30)
            assert one.writes
            assert not two.writes
            one.cut = "silent"  # as kill -9: nothing is given back
            first.cancel()
            died = cluster.clock.monotonic()
            await cluster.client.create(
                NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late"}}
            )
            await cluster.wait(SERVICE_ACCOUNTS, "late", "default")
            assert 12 <= cluster.clock.monotonic() - died <= 20
            second.cancel()

    run(scenario)


@pytest.mark.parametrize("cut", ["refused", "silent"])
@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.75, 1.0), (1.0, 1.3), (1.2, 0.85)])
@pytest.mark.parametrize("offset", [0.0, -86400.0])
def test_a_leader_that_is_cut_off_stops_before_the_next_one_starts(
    cut: str, rates: tuple[float, float], offset: float
) -> None:
    async def scenario(cluster: Cluster) -> None:
        working: list[str] = []
        led: list[str] = []

        async def lead(machine: Machine) -> None:
            async def work() -> None:
                assert not working, f"{machine.name} begins while {working} still works"
                working.append(machine.name)
                led.append(machine.name)
                try:
                    await cluster.clock.sleep(100_000)
                finally:
                    working.remove(machine.name)

            while True:
                try:
                    await machine.lead(work)
                except LeadershipLost:
                    continue

        machines = [
            Machine(cluster, f"machine-{each}", SkewedClock(cluster.clock, rate, offset * each))
            for each, rate in enumerate(rates)
        ]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(lead(machine)) for machine in machines]
            for _ in range(6):
                await cluster.clock.sleep(20)
                leader = next(machine for machine in machines if working == [machine.name])
                leader.cut = cut
                await cluster.clock.sleep(40)
                assert working != [leader.name]
                leader.cut = ""  # what hung answers at last
            for task in running:
                task.cancel()
        assert set(led) == {"machine-0", "machine-1"}
        assert len(led) >= 6

    run(scenario)


@pytest.mark.parametrize("cut", ["refused", "silent"])
def test_writes_of_two_managers_never_mix(cut: str) -> None:
    """Namespaces come all the time; each manager in turn is cut off and comes back."""

    async def scenario(cluster: Cluster) -> None:
        machines = [Machine(cluster, "one", SkewedClock(cluster.clock, 0.85)), Machine(cluster, "two")]
        order: list[str] = []

        async def keep(machine: Machine) -> None:
            while True:
                try:
                    await machine.manage()
                except LeadershipLost:
                    continue

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(keep(machine)) for machine in machines]
            for number in range(120):
                meta = {"name": f"n{number}"}
                await cluster.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
                before = [len(machine.writes) for machine in machines]
                await cluster.clock.sleep(1)
                wrote = [m.name for m, had in zip(machines, before, strict=True) if len(m.writes) > had]
                assert len(wrote) <= 1, f"both wrote in one second: {wrote}"
                order += [name for name in wrote if order[-1:] != [name]]
                machines[number // 30 % 2].cut = cut if number % 30 == 2 else machines[number // 30 % 2].cut
                if number % 30 == 29:
                    machines[number // 30 % 2].cut = ""
            await cluster.clock.sleep(60)
            for task in running:
                task.cancel()
        assert len(order) >= 3
        names = {each["metadata"]["name"] for each in (await cluster.client.list(NAMESPACES)).items}
        for name in names:
            assert await cluster.exists(SERVICE_ACCOUNTS, name, "default")

    run(scenario)


def test_a_leader_that_sees_another_name_in_its_lease_stops_at_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(_expect_loss(Machine(cluster, "one")))
            await cluster.clock.sleep(5)
            lease = await cluster.client.get(LEASES, LEASE, "kube-system")
            taken = {**lease, "spec": {**lease["spec"], "holderIdentity": "intruder"}}
            await cluster.client.update(LEASES, taken)
            await cluster.clock.sleep(2.1)
            assert task.done()
        assert await holder(cluster) == "intruder"

    run(scenario)


async def _expect_loss(machine: Machine) -> None:
    with pytest.raises(LeadershipLost):
        await machine.manage()


def test_a_lease_that_was_deleted_is_made_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(Machine(cluster, "one").manage())
            await cluster.clock.sleep(5)
            await cluster.client.delete(LEASES, LEASE, "kube-system")
            await cluster.clock.sleep(3)
            assert await holder(cluster) == "one"
            task.cancel()

    run(scenario)


def test_a_process_that_was_suspended_writes_nothing_when_it_wakes_up() -> None:
    async def scenario(cluster: Cluster) -> None:
        clock = SkewedClock(cluster.clock)
        machine = Machine(cluster, "one", clock)
        election = Election(machine.connect(MANAGER), clock, ElectionConfig(LEASE, "one"))
        fenced = election.fenced(cluster.client)
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}

        async def work() -> None:
            await fenced.create(CONFIG_MAPS, body)
            clock.suspended += 11.0
            assert (await fenced.get(CONFIG_MAPS, "a", "default"))["metadata"]["name"] == "a"
            with pytest.raises(ServiceUnavailable):
                await fenced.delete(CONFIG_MAPS, "a", "default")
            await cluster.clock.sleep(100)

        with pytest.raises(LeadershipLost):
            await election.lead(work)

    run(scenario)


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        ((10.0, 10.0, 2.0), "leaseDuration must be greater than renewDeadline"),
        ((15.0, 10.0, 9.0), "renewDeadline must be greater than retryPeriod"),
        ((15.0, 10.0, -1.0), "must be greater than zero"),
    ],
)
def test_durations_that_would_let_two_lead_are_refused(durations: tuple[float, float, float], message: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        config = ElectionConfig(LEASE, "one", "kube-system", *durations)
        with pytest.raises(Permanent, match=message):
            await Election(cluster.client, cluster.clock, config).lead(_nothing)

    run(scenario)


async def _nothing() -> None:
    return None


def test_work_that_ends_gives_the_lease_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await Machine(cluster, "one").lead(_nothing)
        assert await holder(cluster) == ""

    run(scenario)
