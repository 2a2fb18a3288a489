"""Which providers a key of the store has: by resource, by group (*.apps), or all (*.*), earlier rules first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiphys.apiserver.encryption.ciphers import MARK, Cipher, Identity, Undecipherable

OWN = "tiphys/"
"""Keys of the server's own bookkeeping: nothing secret, and no resource."""
CORE = "core"


@dataclass(frozen=True, slots=True)
class Chain:
    """Providers in order: the first one writes, all read."""

    ciphers: tuple[Cipher, ...]

    def encrypt(self, value: bytes, where: bytes) -> bytes:
        first = self.ciphers[0]
        return first.prefix + first.encrypt(value, where)

    def decrypt(self, data: bytes, where: bytes) -> bytes:
        """Raises Undecipherable. Two providers may have the same prefix and different keys: each is tried."""
        problem = Undecipherable("no matching prefix found")
        for cipher in self.ciphers:
            if not data.startswith(cipher.prefix):
                continue
            try:
                return cipher.decrypt(data[len(cipher.prefix) :], where)
            except Undecipherable as error:
                if cipher.prefix:
                    problem = error
        raise problem

    def fresh(self, data: bytes) -> bool:
        """Whether `data` is marked as written by the provider that writes now."""
        prefix = self.ciphers[0].prefix
        return data.startswith(prefix) if prefix else not data.startswith(MARK)


PLAIN = Chain((Identity(),))


class Rules:
    """`chains` are (group, resource) -> Chain, with * for any."""

    def __init__(self, chains: Iterable[tuple[tuple[str, str], Sequence[Cipher]]] = ()) -> None:
        self._chains: dict[tuple[str, str], Chain] = {}
        for where, ciphers in chains:
            before = self._chains[where].ciphers if where in self._chains else ()
            self._chains[where] = Chain((*before, *ciphers))

    def of(self, key: str) -> Chain:
        """The providers of a key such as core/secrets/default/token."""
        if key.startswith(OWN):
            return PLAIN
        group, _, rest = key.partition("/")
        group = "" if group == CORE else group
        resource = rest.partition("/")[0]
        for where in ((group, resource), (group, "*"), ("*", "*")):
            found = self._chains.get(where)
            if found is not None:
                return found
        return PLAIN
