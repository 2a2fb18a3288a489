"""What calls of the CEL libraries are estimated to cost, and cost."""

from __future__ import annotations

import pytest

from tiphys.api.cel import Budget, Environment
from tiphys.api.cel.libraries.jsonpatch import JSONPATCH

ENVIRONMENT = Environment.kubernetes().with_libraries(JSONPATCH)
LONG = "ABCDEFGHIJ abcdefghij"
MAX = 2**64 - 1


@pytest.mark.parametrize(
    ("expression", "least", "most", "spent"),
    [
        (f"'{LONG}'.lowerAscii()", 3, 3, 3),
        (f"strings.quote('{LONG}')", 3, 3, 3),
        (f"strings.quote('{LONG}') == strings.quote('{LONG}')", 7, 11, 9),
        ("'abc 123 def 123'.replace('123', '456')", 3, 3, 3),
        ("'abc 123 def 123'.split(' ')", 3, 3, 3),
        ("'abc 123 def 123'.substring(5)", 2, 2, 2),
        ("'abc 123 def 123 abc 123'.find('123')", 3, 3, 3),
        ("url('https:://kubernetes.io/').getHostname()", 4, 4, 4),
        ("[1, 2, 3].sum()", 13, 13, 3),
        ("[1, 2, 3].indexOf(2)", 13, 13, 3),
        ("quantity('1Gi').isGreaterThan(quantity('1Mi'))", 3, 3, 3),
        ("ip('192.168.0.1').family()", 3, 3, 3),
        ("cidr('192.168.0.0/24').containsIP('192.168.0.1')", 5, 8, 5),
        ("cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25')", 7, 11, 7),
        ("format.named('dns1123Subdomain').value().validate('my-name')", 34, 34, 17),
        ("format.named('dns1123Label').value() == format.named('dns1123Label').value()", 5, 11, 5),
        ("semver('1.2.3').major()", 2, 2, 2),
        ("jsonpatch.escapeKey('abc/def')", 1, 1, 1),
        ("sets.contains([1], [1])", 22, 22, 2),
        ("sets.equivalent([1, 2], [2, 1])", 29, 29, 9),
        ("lists.range(10)", 21, 21, 21),
        ("[1, 2, 3].sort()", 39, 39, 29),
    ],
)
def test_costs(expression: str, least: int, most: int, spent: int) -> None:
    program, budget = ENVIRONMENT.compile(expression), Budget()
    program.run({}, budget)
    assert (*program.estimated_cost(), budget.spent) == (least, most, spent)
