"""What an image is called: registry, repository, tag or digest.

The grammar and the defaults are those of the distribution project's reference package and the docker CLI:
"nginx" is docker.io/library/nginx:latest, "host:5000/a/b@sha256:..." is itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tiphys.runtime.types import InvalidSpec

DEFAULT_REGISTRY = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REGISTRY = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """`tag` or `digest` (or both) is set after `parse`."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.registry}/{self.path}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> Reference:
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse(text: str) -> Reference:
    """The full reference that `text` stands for. Raises InvalidSpec with the reason."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidSpec(f"image {text!r}: digest {digest!r} is not sha256: and 64 hexadecimal digits")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise InvalidSpec(f"image {text!r}: tag {tag!r} is invalid")
    registry, path = _split(head)
    if not _PATH.fullmatch(path) or len(path) > MAX_LENGTH:
        why = "must be lower case" if path.lower() != path else "invalid reference format"
        raise InvalidSpec(f"image {text!r}: repository {path!r}: {why}")
    if not _REGISTRY.fullmatch(registry):
        raise InvalidSpec(f"image {text!r}: registry {registry!r} is invalid")
    return Reference(registry, path, tag or ("" if digest else "latest"), digest)


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        registry, path = first, rest
    else:
        registry, path = DEFAULT_REGISTRY, name
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    return registry, path
