"""Keys in order, however they came."""

from __future__ import annotations

import random

import pytest

from tiphys.apiserver.keys import FEW, Keys


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, 1000])
def test_keys_are_in_order(count: int) -> None:
    names = [f"pods/default/p{number}" for number in range(count)]
    random.Random(count).shuffle(names)
    keys = Keys()
    for name in names:
        keys.add(name)
    assert keys.sorted() == sorted(names)


def test_what_is_added_and_removed_meanwhile() -> None:
    keys, expected, odds = Keys(), set(), random.Random(7)
    for step in range(3000):
        name = f"k{odds.randrange(200)}"
        if name in expected:
            keys.remove(name)
            expected.discard(name)
        else:
            keys.add(name)
            expected.add(name)
        if step % 97 == 0:
            assert keys.sorted() == sorted(expected)
    keys.clear()
    assert keys.sorted() == []
