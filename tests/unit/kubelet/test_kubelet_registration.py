"""Labels of a node that was registered before."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.registration import metadata_patch, node_labels

LABEL = "tiphys.io/cluster-dns"


class Amd:
    architecture = "amd64"


MACHINE = cast(Machine, Amd())
CONFIG = KubeletConfig(node_name="a", root_dir=Path("/"), node_labels={LABEL: "true", "team": "x"})


@pytest.mark.parametrize(
    ("known", "patched"),
    [({}, {LABEL: "true"}), ({LABEL: "false"}, {}), ({LABEL: "true"}, {}), ({"team": "y"}, {LABEL: "true"})],
)
def test_a_node_from_before_is_known_to_have_a_name_server_unless_it_is_told_otherwise(
    known: dict[str, str], patched: dict[str, str]
) -> None:
    before = {name: value for name, value in node_labels(CONFIG, MACHINE).items() if name not in (LABEL, "team")}
    annotations = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    existing = {"metadata": {"labels": before | known, "annotations": annotations}}
    expected = {"metadata": {"labels": patched}} if patched else {}
    assert metadata_patch(CONFIG, MACHINE, existing) == expected
