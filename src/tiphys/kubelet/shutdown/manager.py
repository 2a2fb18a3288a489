"""Ends the node's pods when the machine is about to go down.

Who says so is a `Bell`: logind (logind.py) where there is systemd, else SIGPWR, which init systems send on power
failure and any script can. The times of the last shutdown are kept in a file, as upstream's kubelet does.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

from tiphys.base.clock import Clock, parse_rfc3339, rfc3339_micro
from tiphys.base.files import write_json
from tiphys.kubelet import events as ev
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.ending import PodEnder
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, uid_of
from tiphys.kubelet.shutdown.groups import MESSAGE, REASON, REFUSAL, ShutdownGroup, grouped, periods

log = logging.getLogger(__name__)

STATE = "graceful_node_shutdown_state"
_TROUBLE = "node is shutting down"


class NodeShutdown:
    """`announce(reason, message)` records an event about the node, `changed` has its status written."""

    def __init__(
        self,
        config: KubeletConfig,
        clock: Clock,
        pods: PodEnder,
        announce: Callable[[str, str], None],
        changed: Callable[[], None],
        metrics: KubeletMetrics,
    ) -> None:
        self._config = config
        self._clock = clock
        self._pods = pods
        self._announce = announce
        self._changed = changed
        self._metrics = metrics
        self._tell(*last_shutdown(config.root_dir))
        self.under_way = False
        self.enabled = bool(periods(config))

    def refusal(self, pod: Object) -> tuple[str, str] | None:
        """No pod is admitted any more."""
        return REFUSAL if self.under_way else None

    def troubles(self) -> list[str]:
        """Why the node is not ready."""
        return [_TROUBLE] if self.under_way else []

    def cancel(self) -> None:
        """The machine stays up after all; pods that have ended stay ended."""
        self._announce("NodeShutdown", "Shutdown manager detected shutdown cancellation")
        self.under_way = False
        self._changed()

    async def shut_down(self) -> None:
        """Returns when all pods have ended or had their time. Harmless if it is under way."""
        if self.under_way or not self.enabled:
            return
        self._announce("NodeShutdown", "Shutdown manager detected shutdown event")
        self.under_way = True
        self._changed()
        began = self._clock.time()
        self._keep(began)
        for group in grouped(self._config, self._pods.active()):
            await self._end(group)
        self._keep(began, self._clock.time())
        log.info("pods have ended: the node may go down")

    async def _end(self, group: ShutdownGroup) -> None:
        for pod in group.pods:
            self._pods.end(pod, ev.Evicted(REASON, MESSAGE, group.grace(pod), disruption=True))
        if not await self._pods.wait_ended([uid_of(pod) for pod in group.pods], group.seconds):
            log.warning("some pods of priority %d have not ended within %d s", group.priority, group.seconds)

    def _tell(self, began: str, ended: str) -> None:
        """The times of the last shutdown, for /metrics."""
        self._metrics.shutdown_start.set(parse_rfc3339(began) if began else 0.0)
        self._metrics.shutdown_end.set(parse_rfc3339(ended) if ended else 0.0)

    def _keep(self, began: float, ended: float = 0) -> None:
        self._metrics.shutdown_start.set(began)
        self._metrics.shutdown_end.set(ended)
        times = {"startTime": rfc3339_micro(began), "endTime": rfc3339_micro(ended) if ended else None}
        try:
            self._config.root_dir.mkdir(parents=True, exist_ok=True)
            write_json(self._config.root_dir / STATE, times)
        except OSError as error:
            log.warning("the time of the shutdown cannot be kept: %s", error)


def last_shutdown(root: Path) -> tuple[str, str]:
    """(start, end) of the last one, as timestamps; "" when there was none or it did not end."""
    try:
        kept = json.loads((root / STATE).read_text())
        return str(kept.get("startTime") or ""), str(kept.get("endTime") or "")
    except (OSError, ValueError, AttributeError):
        return "", ""


async def follow_signal(shutdown: NodeShutdown) -> None:
    """SIGPWR begins it; until cancelled. Harmless where signals belong to somebody else."""
    import signal

    loop = asyncio.get_running_loop()
    rung = asyncio.Event()
    try:
        loop.add_signal_handler(signal.SIGPWR, rung.set)
    except (RuntimeError, ValueError, NotImplementedError):  # not the main thread: a test or a library's user
        return
    try:
        while True:
            await rung.wait()
            rung.clear()
            await shutdown.shut_down()
    finally:
        loop.remove_signal_handler(signal.SIGPWR)
