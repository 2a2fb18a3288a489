"""What a ControllerRevision holds."""

from __future__ import annotations

import json

from tiphys.controllers import history


def test_names_are_in_order_so_that_equal_templates_are_equal_bytes() -> None:
    container = {"name": "c", "image": "i", "env": [{"value": "1", "name": "x"}]}
    template = {"spec": {"containers": [container], "affinity": {}}, "metadata": {"labels": {"b": "1", "a": "2"}}}
    held = json.dumps(history.patch({"spec": {"template": template}}))
    assert held == json.dumps(json.loads(held), sort_keys=True)
    assert json.loads(held) == {"spec": {"template": {**template, "$patch": "replace"}}}
