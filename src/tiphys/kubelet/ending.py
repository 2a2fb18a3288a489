"""Pods that the kubelet itself ends, for the node's sake: evictions and the node's shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from tiphys.kubelet import events as ev
from tiphys.kubelet.podspec import Object, is_terminal, uid_of
from tiphys.kubelet.progress import Progress
from tiphys.kubelet.worker import PodWorker


class PodEnder:
    """Over the kubelet's workers, by UID."""

    def __init__(self, workers: Mapping[str, PodWorker]) -> None:
        self._workers = workers

    def active(self) -> list[Object]:
        """Pods that run or may come to run, and are not being ended by the kubelet already."""
        return [worker.state.pod for worker in self._workers.values() if _is_active(worker)]

    def containers(self, pod: Object) -> dict[str, str]:
        """IDs of its running containers by name."""
        worker = self._workers.get(uid_of(pod))
        return {record.name: record.id for record in worker.state.running()} if worker is not None else {}

    def end(self, pod: Object, how: ev.Evicted) -> bool:
        """False when the pod is gone by itself."""
        worker = self._workers.get(uid_of(pod))
        if worker is None or not _is_active(worker):
            return False
        worker.post(how)
        return True

    def forget_dead(self) -> None:
        """Have all pods remove their dead containers that nobody needs."""
        for worker in list(self._workers.values()):
            worker.post(ev.RoomWanted())

    async def wait_ended(self, uids: Collection[str], timeout: float) -> bool:
        """Until nothing of these pods runs and their volumes are gone; False when that takes longer (seconds)."""
        changed = asyncio.Event()
        workers = [worker for uid in uids if (worker := self._workers.get(uid)) is not None]
        for worker in workers:
            worker.listeners.add(changed.set)
        try:
            async with asyncio.timeout(timeout):
                while not all(self._has_ended(uid) for uid in uids):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            for worker in workers:
                worker.listeners.discard(changed.set)
        return True

    def _has_ended(self, uid: str) -> bool:
        worker = self._workers.get(uid)
        return worker is None or worker.stopped or worker.state.cleanup is Progress.DONE


def _is_active(worker: PodWorker) -> bool:
    state = worker.state
    return state.verdict is None and state.rejection is None and not state.removed and not is_terminal(state.pod)
