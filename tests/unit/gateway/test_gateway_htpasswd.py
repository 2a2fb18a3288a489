"""Passwords of htpasswd files, in every form that htpasswd(1) and openssl-passwd(1) write."""

from __future__ import annotations

import base64

import pytest

from tiphys.gateway import htpasswd

HASHES = {
    "apr1": "$apr1$8sXq9Ukj$7BtsV6OXmmcCoydFcmvEZ1",
    "sha": "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
    "sha512": "$6$saltsalt$bcXJ8qxwY5sQ4v8MTl.0B1jeZ0z0JlA9jjmbUoCGZMNVTYRm2iuvWVrvbGnAWZ5zQvVyv2TGQ9hbvbzPUiiq/",
    "plain": "{PLAIN}password",
}


def test_files_and_fields_are_read() -> None:
    users = htpasswd.parse("# comment\nalice:{PLAIN}a:extra\n\nbob:x\nbroken\n:none\n")
    assert users == {"alice": "{PLAIN}a", "bob": "x"}
    encoded = base64.b64encode(b"alice:a:b").decode()
    assert htpasswd.credentials(f"Basic {encoded}") == ("alice", "a:b")
    for bad in ("", "Bearer x", "Basic ***", "Basic " + base64.b64encode(b"alice").decode()):
        assert htpasswd.credentials(bad) is None


@pytest.mark.parametrize("kind", ["sha", "plain"])
def test_a_password_fits_its_hash_only(kind: str) -> None:
    assert htpasswd.fits("password", HASHES[kind])
    assert not htpasswd.fits("Password", HASHES[kind])


def test_hashes_of_this_machines_openssl() -> None:
    import shutil
    import subprocess

    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to compare with")
    for flag in ("-apr1", "-1", "-5", "-6"):
        for password in ("p", "password", "ünïcode and much longer than sixteen bytes"):
            made = subprocess.run(["openssl", "passwd", flag, password], capture_output=True, text=True, check=True)
            assert htpasswd.fits(password, made.stdout.strip()), (flag, password)
            assert not htpasswd.fits(password + "x", made.stdout.strip())


def test_nonsense_fits_nothing() -> None:
    for hashed in ("", "x", "$apr1$", "$2y$", "{SHA}", "{SSHA}x", "$6$", "*", "*0", "*" * 20):
        assert not htpasswd.fits("password", hashed)
        assert not htpasswd.fits("", hashed)
