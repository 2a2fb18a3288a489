"""The CEL libraries of Kubernetes and of cel-go that Kubernetes has on, by the version that brought them.

`for_version(1, 36)` is what expressions may use; `JSONPATCH` (in `jsonpatch`) is only for mutating policies. Source:
the API server's base environment.
"""

from __future__ import annotations

from tiphys.api.cel.types import Library


def for_version(major: int, minor: int) -> tuple[Library, ...]:
    """All libraries that version `major`.`minor` has, the older ones first."""
    from tiphys.api.cel.libraries import (
        authz,
        extlists,
        formats,
        lists,
        networks,
        quantities,
        regex,
        semver,
        sets,
        strings,
        urls,
    )

    brought: tuple[tuple[int, tuple[Library, ...]], ...] = (
        (0, (urls.URLS, regex.REGEX, lists.LISTS, strings.STRINGS)),
        (27, (authz.AUTHZ,)),
        (28, (quantities.QUANTITIES,)),
        (29, (sets.SETS,)),
        (30, (networks.IPS, networks.CIDRS)),
        (31, (formats.FORMAT_LIBRARY, authz.AUTHZ_SELECTORS)),
        (33, (semver.SEMVERS,)),
        (34, (extlists.EXTENDED_LISTS,)),
    )
    return tuple(library for since, added in brought if (1, since) <= (major, minor) for library in added)
