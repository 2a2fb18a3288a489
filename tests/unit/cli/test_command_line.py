"""The command line itself: what is wrong usage, and how it is said."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiphys.cli.main import VERBS, main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TIPHYS_HOME", str(tmp_path))
    monkeypatch.setenv("TIPHYS_RUN", str(tmp_path / "run"))
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help_quiet_and_output(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    if verb in ("image", "node", "ports"):
        code, out, _ = run(capsys, verb, "list", "--help")
    assert "--quiet" in out
    assert "--output" in out


def test_without_a_command_all_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("nonsense", "invalid choice: 'nonsense'"),
        ("up --nodes 0", "--nodes: '0': must be a whole number from 1 to 200"),
        ("up --nodes many", "--nodes: 'many': must be a whole number from 1 to 200"),
        ("up --port 65536", "--port: '65536': must be a whole number from 1 to 65535"),
        ("up Big", "NAME: cluster name 'Big' is invalid: 1 to 30 lower case letters"),
        ("status ../x", "NAME: cluster name '../x' is invalid"),
        ("node add A", "NODE: node name 'A' is invalid"),
        ("node list --name -", "--name: cluster name '-' is invalid"),
        ("down --grace -1", "--grace: '-1': must be a number of seconds, 0 or more"),
        ("down --grace nan", "--grace: 'nan': must be a number of seconds, 0 or more"),
        ("logs --tail x", "--tail: 'x': must be a whole number"),
        ("list -o yaml", "--output: invalid choice: 'yaml'"),
        ("delete --all x", "NAME: not allowed with argument --all"),
        ("image load", "required: TAR"),
        ("up --publish nonsense", "--publish: published port 'nonsense': not of the form [ADDRESS:]HOSTPORT:TARGET"),
        ("ports add 8080:80/sctp", "protocol 'sctp' is none of tcp, udp"),
        ("version extra", "unrecognized arguments: extra"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(words: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert why in line
    assert "--help`" in line


def test_flags_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--output", "json", "list")
    assert (code, json.loads(out)) == (0, [])
    code, out, _ = run(capsys, "-q", "list")
    assert (code, out) == (0, "")


def test_failures_are_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "status", "x") == (1, "", "tiphys: no cluster 'x'; clusters: none\n")


def test_errors_of_the_system_name_the_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "clusters").mkdir()
    (home / "clusters" / "x.json").mkdir()
    assert run(capsys, "status", "x") == (1, "", f"tiphys: {home}/clusters/x.json: Is a directory\n")
