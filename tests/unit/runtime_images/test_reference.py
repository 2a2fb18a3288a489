"""What images are called."""

from __future__ import annotations

import pytest

from tiphys.runtime.images.reference import parse
from tiphys.runtime.types import InvalidSpec

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("[::1]:5000/a/b", "[::1]:5000/a/b:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}"),
        ("a__b/c-d.e", "docker.io/a__b/c-d.e:latest"),
    ],
)
def test_names_are_completed(text: str, full: str) -> None:
    assert str(parse(text)) == full


@pytest.mark.parametrize(
    "text", ["", "Nginx", "nginx:", "nginx:a b", "a//b", "/a", "nginx@sha256:abc", "../x", "a/../b", "x" * 300, "-a"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        parse(text)
