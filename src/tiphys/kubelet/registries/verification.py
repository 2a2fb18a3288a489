"""Whether a pod must prove that it may use an image that is already here (imagePullCredentialsVerificationPolicy).

Source: the KubeletConfiguration reference and KEP-2535. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tiphys.base.errors import Permanent
from tiphys.kubelet.registries.records import repository_of

Policy = Callable[[str, bool], bool]
"""(name of the image, whether a kubelet pulled it) -> whether credentials must be shown."""

DEFAULT = "NeverVerifyPreloadedImages"


def policy(name: str, allowed: Sequence[str] = ()) -> Policy:
    """By its name; `allowed` are the images of NeverVerifyAllowlistedImages. Raises Permanent."""
    if name != "NeverVerifyAllowlistedImages" and name in _SIMPLE:
        return _SIMPLE[name]
    if name != "NeverVerifyAllowlistedImages":
        raise Permanent(f"imagePullCredentialsVerificationPolicy: unknown policy {name!r}")
    for pattern in allowed:
        _check(pattern)
    return lambda image, pulled: not _is_allowed(repository_of(image), allowed)


_SIMPLE: dict[str, Policy] = {
    "NeverVerify": lambda image, pulled: False,
    DEFAULT: lambda image, pulled: pulled,
    "AlwaysVerify": lambda image, pulled: True,
}


def _is_allowed(repository: str, patterns: Sequence[str]) -> bool:
    return any(
        repository.startswith(pattern[:-1]) if pattern.endswith("/*") else repository == pattern for pattern in patterns
    )


def _check(pattern: str) -> None:
    bare = pattern.removesuffix("*") if pattern.endswith("/*") else pattern
    wrong = (
        "leading/trailing spaces are not allowed" if pattern != pattern.strip()
        else "the supplied pattern is too short" if bare in ("", "/")
        else "not a valid wildcard pattern, only patterns ending with '/*' are allowed" if "*" in bare
        else "neither tag nor digest is accepted in an image reference" if repository_of(bare) != bare
        else ""
    )  # fmt: skip
    if wrong:
        raise Permanent(f"preloadedImagesVerificationAllowlist: {wrong}: {pattern}")
