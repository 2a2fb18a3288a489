"""Questions to the kernel about devices that are not there."""

from __future__ import annotations

from tiphys.base.netlink import Netlink


def test_a_device_that_is_gone_has_no_number_and_no_alias() -> None:
    with Netlink() as link:
        assert link.index("gone-away") == 0
        assert link.alias("gone-away") == ""
