"""Static tokens: upstream's --token-auth-file, lines of token,user,uid,"group1,group2,group3"."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from tiphys.base.identity import User


class TokenFile:
    """Authenticates by a fixed table. Such tokens are for whatever audience is asked for."""

    def __init__(self, users: dict[str, User]) -> None:
        self._users = users

    @classmethod
    def load(cls, path: Path) -> TokenFile:
        """Read a file. Raises OSError, ValueError naming the line."""
        with path.open(newline="") as lines:
            return cls(parse(lines))

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]] | None:
        user = self._users.get(token)
        return None if user is None else (user, tuple(audiences))


def parse(lines: Iterable[str]) -> dict[str, User]:
    """token -> user; a later line overrides an earlier one with the same token."""
    users: dict[str, User] = {}
    for number, record in enumerate(csv.reader(lines, skipinitialspace=True), 1):
        if not record or record[0].startswith("#"):
            continue
        if len(record) < 3:
            raise ValueError(f"token file, line {number}: needs at least 3 columns, has {len(record)}")
        token, name, uid, *rest = record
        if not token:
            continue
        groups = tuple(group.strip() for group in rest[0].split(",")) if rest and rest[0] else ()
        users[token] = User(name, uid, groups)
    return users
