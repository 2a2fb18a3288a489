from __future__ import annotations

import threading
from pathlib import Path

from tiphys.cluster.locks import locked


def test_the_second_waits_and_is_told_so(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", list[str]()
    waiting = threading.Event()

    def second() -> None:
        with locked(path, waiting=waiting.set):
            order.append("second")

    with locked(path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_shared_holders_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", shared=True), locked(tmp_path / "lock", shared=True):
        pass


def test_who_waited_for_a_removed_lock_takes_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    waiting, held, done = threading.Event(), threading.Event(), threading.Event()

    def second() -> None:
        with locked(path, waiting=waiting.set):
            held.set()
            done.wait(10)

    with locked(path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        path.unlink()
    assert held.wait(10)
    told = list[bool]()
    third = threading.Thread(target=lambda: told.append(_must_wait(path)))
    third.start()
    third.join(0.2)
    done.set()
    third.join()
    thread.join()
    assert told == [True]


def _must_wait(path: Path) -> bool:
    waited = list[bool]()
    with locked(path, waiting=lambda: waited.append(True)):
        return bool(waited)
