"""Named tasks in a TaskGroup: the same name again replaces the task, and all can be called off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Tasks by key."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def replace(self, key: str, work: Coroutine[Any, Any, None], name: str = "") -> asyncio.Task[None]:
        """Run `work` as `key`. What ran under that key is cancelled, unless it is the caller itself."""
        former = self._tasks.get(key)
        if former is not None and former is not asyncio.current_task():
            former.cancel()
        task = self._group.create_task(work, name=name or key)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def cancel(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def cancel_all(self) -> None:
        for key in list(self._tasks):
            self.cancel(key)

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
