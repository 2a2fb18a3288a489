"""What nftables maps a node has for its sandboxes' ports, and which commands change them."""

from __future__ import annotations

from tiphys.runtime.connectivity import PortMapping
from tiphys.runtime.hostports import TABLE, changes, contents, mapped, table

DUAL = ("10.1.0.2", "fd00::2")


def maps(*sandboxes: tuple[tuple[PortMapping, ...], tuple[str, ...]]) -> dict[tuple[str, str], str]:
    return contents([tuple(mapped(ports, addresses)) for ports, addresses in sandboxes])


def test_a_port_of_all_addresses_is_there_in_each_family() -> None:
    assert maps(((PortMapping("tcp", 80, 8080),), DUAL)) == {
        ("any4", "tcp . 80"): "10.1.0.2 . 8080",
        ("self4", "10.1.0.2 . 10.1.0.2"): "",
        ("any6", "tcp . 80"): "fd00::2 . 8080",
        ("self6", "fd00::2 . fd00::2"): "",
    }


def test_an_address_of_the_node_is_one_of_its_own_family() -> None:
    assert [key for key in maps(((PortMapping("udp", 53, 53, "::1"),), DUAL)) if key[0].startswith("one")] == [
        ("one6", "::1 . udp . 53")
    ]
    assert maps(((PortMapping("udp", 53, 53, "::1"),), ("10.1.0.2",))) == {}
    unspecified = maps(((PortMapping("tcp", 80, 80, "::"),), DUAL))
    assert [key for key in unspecified if "self" not in key[0]] == [("any6", "tcp . 80")]


def test_a_pods_new_sandbox_wins_over_its_old_one() -> None:
    ports = (PortMapping("tcp", 80, 80),)
    assert maps((ports, ("10.1.0.2",)), (ports, ("10.1.0.3",)))["any4", "tcp . 80"] == "10.1.0.3 . 80"


def test_only_what_differs_is_changed_and_old_values_go_first() -> None:
    ports = (PortMapping("tcp", 80, 80), PortMapping("tcp", 81, 81))
    before, after = maps((ports, ("10.1.0.2",))), maps((ports[:1], ("10.1.0.3",)))
    assert changes(before, after).splitlines() == [
        f"delete element inet {TABLE} any4 {{ tcp . 80 }}",
        f"delete element inet {TABLE} self4 {{ 10.1.0.2 . 10.1.0.2 }}",
        f"delete element inet {TABLE} any4 {{ tcp . 81 }}",
        f"add element inet {TABLE} any4 {{ tcp . 80 : 10.1.0.3 . 80 }}",
        f"add element inet {TABLE} self4 {{ 10.1.0.3 . 10.1.0.3 }}",
    ]
    assert changes(after, after) == ""


def test_the_table_replaces_itself() -> None:
    lines = table("pod").splitlines()
    assert lines[:2] == [f"table inet {TABLE} {{}}", f"delete table inet {TABLE}"]
    assert 'iifname "pod*" ip daddr 127.0.0.0/8 drop' in lines
