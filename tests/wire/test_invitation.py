"""The invitation file: private, read strictly, and for one consortium."""

from __future__ import annotations

import json
import stat

import pytest

from consortium.errors import ConfigError, InvitationError
from node.rpc.invitation import read_invitation, write_invitation

DOCUMENT = {
    "consortium": "高质量风电",
    "genesis": "ab" * 32,
    "enrolment_address": "consortium.example:7444",
    "address": "consortium.example:7443",
    "fleet_address": "consortium.example:7445",
    "server_pin": "cd" * 32,
    "secret": "ef" * 32,
    "legal_name": "甲公司",
    "expires": 1_800_000_000,
}


def test_an_invitation_is_read_as_it_was_written_into_a_private_file(tmp_path):
    path = tmp_path / "invitation.json"
    write_invitation(path, DOCUMENT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    invitation = read_invitation(path, bytes.fromhex(DOCUMENT["genesis"]))
    assert invitation.consortium == DOCUMENT["consortium"]
    assert invitation.secret == bytes.fromhex(DOCUMENT["secret"])
    assert invitation.server_pin == bytes.fromhex(DOCUMENT["server_pin"])
    assert invitation.expires == DOCUMENT["expires"]
    assert DOCUMENT["secret"] not in repr(invitation)
    assert str(invitation.secret) not in repr(invitation)


def test_an_invitation_replaces_no_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="already"):
        write_invitation(tmp_path / "file", DOCUMENT)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_not_an_invitation_is_not_written(tmp_path):
    with pytest.raises(InvitationError):
        write_invitation(tmp_path / "file", {"consortium": "x"})
    assert not (tmp_path / "file").exists()


def test_an_invitation_of_another_consortium_is_explained(tmp_path):
    write_invitation(tmp_path / "file", DOCUMENT)
    with pytest.raises(InvitationError, match="another consortium") as caught:
        read_invitation(tmp_path / "file", bytes(32))
    assert "--home" in caught.value.mend


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 10_000, b"{", b"[]", b"null", b'"text"', b" " * 20_000, b"{}"],
    ids=["empty", "binary", "deep", "cut", "list", "null", "text", "oversized", "no field"],
)
def test_a_malformed_file_is_explained(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvitationError) as caught:
        read_invitation(tmp_path / "file")
    assert caught.value.where.startswith(str(tmp_path / "file"))
    assert "Ask the coordinator" in caught.value.mend


def test_a_file_that_is_missing_is_explained(tmp_path):
    with pytest.raises(InvitationError, match="cannot be read"):
        read_invitation(tmp_path / "missing")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("consortium", ""),
        ("consortium", 3),
        ("legal_name", "a\x1b[2J"),
        ("genesis", "ab" * 31),
        ("genesis", "AB" * 32),
        ("server_pin", None),
        ("secret", "ef" * 8),
        ("address", "consortium.example"),
        ("enrolment_address", 7443),
        ("fleet_address", "http://x:1"),
        ("expires", -1),
        ("expires", 1.5),
        ("expires", True),
        ("expires", "1800000000"),
    ],
)
def test_a_malformed_field_is_named_and_its_value_is_not_repeated(tmp_path, key, value):
    (tmp_path / "file").write_text(json.dumps({**DOCUMENT, key: value}))
    with pytest.raises(InvitationError, match="malformed") as caught:
        read_invitation(tmp_path / "file")
    assert caught.value.where == f"{tmp_path / 'file'}, key {key}"


@pytest.mark.parametrize("change", [{"extra": 1}, {"secret": None}], ids=["unknown key", "missing key"])
def test_keys_must_be_exactly_those_of_an_invitation(tmp_path, change):
    document = {key: value for key, value in {**DOCUMENT, **change}.items() if value is not None}
    (tmp_path / "file").write_text(json.dumps(document))
    with pytest.raises(InvitationError, match="not an invitation"):
        read_invitation(tmp_path / "file")
