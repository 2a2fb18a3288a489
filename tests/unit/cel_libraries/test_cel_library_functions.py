"""What the functions of the CEL libraries return, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.cel import CompileError, CostExceeded, Environment, EvaluationError

ENVIRONMENT = Environment.kubernetes()


def value(expression: str) -> Any:
    return ENVIRONMENT.compile(expression).run({})


@pytest.mark.parametrize(
    "expression",
    [
        # strings
        "'tacocat'.charAt(3) == 'o' && 'ab'.charAt(2) == ''",
        "'hello mellow'.indexOf('ello') == 1 && 'hello mellow'.indexOf('ello', 2) == 7 && 'a'.indexOf('', 5) == 5",
        "'hello mellow'.lastIndexOf('ello') == 7 && 'hello mellow'.lastIndexOf('ello', 6) == 1",
        "'a'.lastIndexOf('b') == -1 && 'abc'.lastIndexOf('') == 3 && 'abc'.lastIndexOf('c', 9) == -1",
        "'TacoCÆt'.lowerAscii() == 'tacocÆt' && 'tacoCæt'.upperAscii() == 'TACOCæT'",
        "'hello hello'.replace('he', 'we') == 'wello wello' && 'hello hello'.replace('he', 'we', 1) == 'wello hello'",
        "'abc'.replace('', '-') == '-a-b-c-' && 'abc'.replace('a', 'b', 0) == 'abc'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'a,b'.split(',', 0) == []",
        "'héé'.split('') == ['h', 'é', 'é'] && 'abc'.split('', 2) == ['a', 'bc'] && ''.split(',') == ['']",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco'",
        "' \\t\\u00a0x\\n'.trim() == 'x'",
        "['x', 'y'].join() == 'xy' && ['x', 'y'].join('-') == 'x-y' && [].join() == ''",
        "strings.quote('a\\n\"b') == '\"a\\\\n\\\\\"b\"'",
        # format
        "'%s|%%|%s'.format(['a', 'b']) == 'a|%|b'",
        "'%d %d'.format([1, -2]) == '1 -2' && '%x %X'.format([30, 30]) == '1e 1E' && '%x'.format(['hi']) == '6869'",
        "'%b %o'.format([5, 8]) == '101 10' && '%b'.format([true]) == '1'",
        "'%.2f'.format([1234567.891]) == '1,234,567.89' && '%f'.format([2.5]) == '2.500000'",
        "'%.3e'.format([1234.5]) == '1.234\\u202f\\u00d7\\u202f10\\u2070\\u00b3'",
        "'%f'.format([double('Infinity')]) == '\\u221e'",
        "'%s'.format([[1, 2]]) == '[1, 2]' && '%s'.format([['a', 'b']]) == '[\"a\", \"b\"]'",
        "'%s'.format([{'b': 1.5, 'a': 2.0}]) == '{\"a\":2.000000, \"b\":1.500000}'",
        "'%s %s'.format([dyn(null), dyn(true)]) == 'null true' && '%s'.format([2.71]) == '2.71'",
        "'%s'.format([[duration('90s')]]) == '[duration(\"90s\")]'",
        # lists
        "[1, 2, 2].isSorted() && !['b', 'a'].isSorted() && [].isSorted()",
        "[1, 2].sum() == 3 && [1.5, 2.5].sum() == 4.0 && [duration('1s'), duration('1m')].sum() == duration('61s')",
        "[3, 1, 2].min() == 1 && ['a', 'c'].max() == 'c' && [b'a', b'b'].max() == b'b' && [true, false].min() == false",
        "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && ['a'].indexOf('b') == -1",
        "[3, 1, 2].sort() == [1, 2, 3] && ['a', 'b'].reverse() == ['b', 'a'] && [1, 1, 2].distinct() == [1, 2]",
        "[{'n': 2}, {'n': 1}].sortBy(x, x.n)[0].n == 1 && lists.range(3) == [0, 1, 2]",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3]",
        "[dyn(1), dyn([dyn(2), dyn([3, 4])])].flatten(2) == [1, 2, 3, 4]",
        # sets
        "sets.contains([1, 2, 3], [2]) && !sets.contains([1], [2]) && sets.contains([], [])",
        "sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], [2])",
        # regex
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('x') == '' && 'abc 123 4'.findAll('[0-9]+') == ['123', '4']",
        "'a1b2c3'.findAll('[a-z][0-9]', 2) == ['a1', 'b2'] && 'ab'.findAll('') == ['', '', '']",
        "'foobar'.find('(?i)OOB') == 'oob' && 'x-y'.matches('^\\\\w-\\\\w$')",
        # urls
        "url('https://user@example.com:80/c?k=v').getHost() == 'example.com:80'",
        "url('https://example.com:80/p%20a?k=v&k=w').getQuery() == {'k': ['v', 'w']}",
        "url('https://a.com:80/p%20a').getEscapedPath() == '/p%20a' && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://example.com:80/').getPort() == '80' && url('/path').getScheme() == '' && isURL('https://a/b')",
        "!isURL('https://a:b/') && !isURL('../relative') && url('http://a') == url('HTTP://a')",
        # quantities
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50k').add(20) == quantity('50020')",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('5k').sub(quantity('10k')).asInteger() == -5000",
        "!quantity('1.5').isInteger() && quantity('50').isInteger() && isQuantity('20Mi') && !isQuantity('20Mo')",
        "quantity('50.703k').asApproximateFloat() == 50703.0 && sign(quantity('-1')) == -1",
        # ip and cidr
        "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && isIP('1.2.3.4') && !isIP('1.2.3.4.5')",
        "!isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0') && ip.isCanonical('::1') && !ip.isCanonical('0::1')",
        "ip('224.0.0.1').isLinkLocalMulticast() && ip('fe80::1').isLinkLocalUnicast()",
        "ip('8.8.8.8').isGlobalUnicast() && !ip('127.0.0.1').isGlobalUnicast()",
        "string(ip('2001:DB8::1')) == '2001:db8::1' && type(ip('::')) == net.IP && ip('::').isUnspecified()",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/8').containsCIDR(cidr('0.0.0.0/0'))",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
        "cidr('::1/128').prefixLength() == 128 && string(cidr('10.0.0.0/8')) == '10.0.0.0/8' && !isCIDR('10.0.0.0/33')",
        # semver
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').compareTo(semver('1.0.0')) == -1",
        "semver('v01.2', true) == semver('1.2.0') && !isSemver('v1.0') && isSemver('v1.0', true)",
        "semver('1.2.3-a.b+c').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('1.0.0-alpha.1').isGreaterThan(semver('1.0.0-alpha')) && semver('1.0.0+a') == semver('1.0.0+b')",
        # formats
        "!format.named('dns1123Label').value().validate('my-name').hasValue() && !format.named('no').hasValue()",
        "format.dns1123Label().validate('My').hasValue() && !format.dns1123LabelPrefix().validate('my-').hasValue()",
        "format.date().validate('2021-02-30').value() == ['invalid date'] && !format.uri().validate('https://a').hasValue()",
        "format.uuid().validate('x').hasValue() && !format.byte().validate('YWJj').hasValue()",
        "!format.datetime().validate('2021-02-03T04:05:06Z').hasValue() && format.labelValue() == format.labelValue()",
    ],
)  # fmt: skip
def test_holds(expression: str) -> None:
    assert value(expression) is True


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("'a'.charAt(2)", "index out of range: 2"),
        ("'a'.substring(2)", "index out of range: 2"),
        ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
        ("'a'.indexOf('a', -1)", "index out of range: -1"),
        ("'%d'.format(['a'].map(x, dyn(x)))", "error during formatting: decimal clause can only be used on integers, "
         "was given string"),
        ("'%z'.format([1].map(x, dyn(x)))", 'could not parse formatting clause: unrecognized formatting clause "z"'),
        ("'%s %s'.format(['a'].map(x, dyn(x)))", "index 1 out of range"),
        ("[].map(x, 1).min()", "min called on empty list"),
        ("[9223372036854775807, 1].sum()", "integer overflow"),
        ("[1].slice(0, 2)", "cannot slice(0, 2), list is length 1"),
        ("[[1]].flatten(-1)", "level must be non-negative"),
        ("'a'.find('a' + '(')", "Illegal regex: error parsing regexp: missing closing ): `a(`"),
        ("url('a b')", 'URL parse error during conversion from string: parse "a b": invalid URI for request'),
        ("url('https://a:b/')", 'URL parse error during conversion from string: parse "https://a:b/": '
         'invalid port ":b" after host'),
        ("quantity('10Mo')", "quantities must match the regular expression "
         "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ("quantity('1.5').asInteger()", "cannot convert value to integer"),
        ("ip('192.168.0.1.0')", 'IP Address "192.168.0.1.0" parse error during conversion from string: '
         'ParseAddr("192.168.0.1.0"): IPv4 address too long'),
        ("ip('2001:db8:::68')", 'IP Address "2001:db8:::68" parse error during conversion from string: '
         'ParseAddr("2001:db8:::68"): each colon-separated field must have at least one digit (at ":68")'),
        ("cidr('192.168.0.0/')", "network address parse error during conversion from string: network address parse "
         'error during conversion from string: netip.ParsePrefix("192.168.0.0/"): bad bits after slash: ""'),
        ("semver('1.2')", "No Major.Minor.Patch elements found"),
        ("semver('01.2.3')", 'Major number must not contain leading zeroes "01"'),
        ("semver('1.2.3-01')", 'Numeric PreRelease version must not contain leading zeroes "01"'),
    ],
)  # fmt: skip
def test_refuses(expression: str, text: str) -> None:
    with pytest.raises(EvaluationError) as raised:
        value(expression)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (
            "'%d'.format(['a'])",
            "error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("'%d %s'.format([1])", "index 1 out of range"),
        ("'%d'.format([1, 2])", "too many arguments supplied to string.format (expected 1, got 2)"),
        ("isQuantity([1, 2, 3])", "found no matching overload for 'isQuantity' applied to '(list(int))'"),
        ("isIP(cidr('192.168.0.0/24'))", "found no matching overload for 'isIP' applied to '(net.CIDR)'"),
        ("['a', 'b'].sum()", "found no matching overload for 'sum' applied to 'list(string).()'"),
        ("'abc'.reverse()", "found no matching overload for 'reverse' applied to 'string.()'"),
        ("jsonpatch.escapeKey('a')", "undeclared reference to 'jsonpatch' (in container '')"),
    ],
)
def test_does_not_compile(expression: str, text: str) -> None:
    with pytest.raises(CompileError, match="ERROR: <input>:1:") as raised:
        ENVIRONMENT.compile(expression)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    "expression",
    [
        "lists.range(1000000000)",
        "lists.range(5000).distinct()",
        "lists.range(5000).sort()",
        "sets.contains(lists.range(3000), lists.range(3000))",
    ],
)
def test_work_beyond_the_limit_is_refused_before_it_is_done(expression: str) -> None:
    with pytest.raises(CostExceeded):
        value(expression)


def test_texts_do_not_grow_without_limit() -> None:
    text = "lists.range(9000).map(x, 'aaaaaaaaaa').join()"
    with pytest.raises(EvaluationError, match="exceeds the limit"):
        value(f"{text}.replace('a', {text})")


def test_flattening_what_is_large_many_times_is_refused() -> None:
    with pytest.raises(CostExceeded):
        value("lists.range(2000).map(x, lists.range(0) + [1, 2, 3, 4, 5].map(y, y)).map(x, lists.range(600)).flatten()")


def test_formatting_what_is_large_counts() -> None:
    program = ENVIRONMENT.compile("lists.range(900).all(x, '%s'.format([lists.range(1000)]).size() > 0)")
    with pytest.raises(CostExceeded):
        program.run({})


def test_older_versions_have_fewer_libraries() -> None:
    with pytest.raises(CompileError):
        Environment.kubernetes((1, 29)).compile("ip('1.2.3.4')")
    Environment.kubernetes((1, 30)).compile("ip('1.2.3.4')")
