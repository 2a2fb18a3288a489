"""Structs and changes in refusals: shown by the names of Go's fields."""

from __future__ import annotations

import re

from tiphys.api.validation.goform import TABLE, difference, shown


def test_a_struct_is_shown_with_all_fields_under_their_go_names() -> None:
    volume = shown("Volume", {"name": "v", "configMap": {"name": "cm", "items": [{"key": "a", "path": "b"}]}})
    assert volume["Name"] == "v"
    assert volume["HostPath"] is None
    item = {"Key": "a", "Path": "b", "Mode": None}
    assert volume["ConfigMap"] == {"Name": "cm", "Items": [item], "DefaultMode": None, "Optional": None}


def test_the_metadata_of_a_template_shows_only_what_is_set() -> None:
    template = shown("PodTemplateSpec", {"metadata": {"labels": {"b": "1", "a": "2"}}, "spec": {"hostNetwork": True}})
    assert list(template) == ["labels", "Spec"]
    assert list(template["labels"]) == ["a", "b"]


def test_what_a_pod_shares_with_its_host_is_shown_in_its_security_context() -> None:
    spec = shown("PodSpec", {"hostPID": True, "securityContext": {"runAsUser": 7}})
    context = spec["SecurityContext"]
    assert (context["HostPID"], context["HostNetwork"], context["RunAsUser"]) == (True, False, 7)


def test_a_difference_is_a_unified_diff_with_three_lines_of_context() -> None:
    old = {"storageClassName": "a", "volumeName": "v"}
    assert difference("PersistentVolumeClaimSpec", old, {**old, "storageClassName": "b"}).splitlines() == [
        "@@ -6,7 +6,7 @@",
        '   "Requests": null',
        "  },",
        '  "VolumeName": "v",',
        '- "StorageClassName": "a",',
        '+ "StorageClassName": "b",',
        '  "VolumeMode": null,',
        '  "DataSource": null,',
        '  "DataSourceRef": null,',
    ]


def test_every_struct_that_a_form_names_has_a_form() -> None:
    lines = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    forms = {name for name, *_ in lines}
    for _, *fields in lines:
        for field in fields:
            sort = field[1:].partition("=")[0] if field[0] == "+" else field.rpartition(":")[2].strip("*[]{}?")
            assert sort in forms or re.fullmatch("[sbiqpdo]", sort), field


def test_the_volume_of_an_attachment_that_changed_is_shown_whole() -> None:
    spec = {"attacher": "a", "nodeName": "n", "source": {"inlineVolumeSpec": {"nfs": {"server": "s", "path": "/"}}}}
    volume = shown("VolumeAttachmentSpec", spec)["Source"]["InlineVolumeSpec"]
    assert volume["NFS"] == {"Server": "s", "Path": "/", "ReadOnly": False}
    assert list(volume)[:2] == ["Capacity", "GCEPersistentDisk"]
