"""Keys and certificates: private files, sound certificates, and requests that are refused."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key, load_ssh_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import ClientVerifier, PolicyBuilder, Store, VerificationError

from consortium.errors import ConfigError, InvitationError
from consortium.keys import verify
from node import identity

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MEMBER = bytes(range(32))


@pytest.fixture
def ca(tmp_path: Path) -> identity.Ca:
    return identity.create_ca(tmp_path / "ca.pem", tmp_path / "ca.crt", "Test", NOW)


@pytest.fixture
def key(tmp_path: Path) -> identity.TlsKey:
    return identity.create_tls_key(tmp_path / "tls.pem")


def client_verifier(ca: identity.Ca) -> ClientVerifier:
    return PolicyBuilder().store(Store([ca.certificate])).time(NOW).build_client_verifier()


CREATE_AND_LOAD = {
    "ledger": (identity.create_ledger_key, identity.load_ledger_key),
    "tls": (identity.create_tls_key, identity.load_tls_key),
    "flower": (identity.create_flower_key, identity.load_flower_key),
}


@pytest.mark.parametrize("kind", CREATE_AND_LOAD)
def test_a_key_file_is_0600_and_not_replaced(tmp_path, kind):
    create, load = CREATE_AND_LOAD[kind]
    path = tmp_path / "key"
    create(path)
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    load(path)
    with pytest.raises(ConfigError, match="already"):
        create(path)
    assert path.read_bytes() == before
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]


@pytest.mark.parametrize("kind", CREATE_AND_LOAD)
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_key_file_open_to_others_is_refused(tmp_path, kind, mode):
    create, load = CREATE_AND_LOAD[kind]
    create(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(ConfigError, match="open to other users") as caught:
        load(tmp_path / "key")
    assert "chmod 600" in caught.value.mend


@pytest.mark.parametrize("kind", CREATE_AND_LOAD)
@pytest.mark.parametrize("content", [b"", b"not a key", b"\xff" * 100, b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_holds_no_key_is_refused(tmp_path, kind, content):
    identity.write_private(tmp_path / "key", content)
    with pytest.raises(ConfigError, match="does not hold"):
        CREATE_AND_LOAD[kind][1](tmp_path / "key")


def test_keys_of_one_kind_are_not_taken_for_another(tmp_path):
    identity.create_ledger_key(tmp_path / "ledger")
    identity.create_tls_key(tmp_path / "tls")
    identity.create_flower_key(tmp_path / "flower")
    for load, wrong in (
        (identity.load_ledger_key, "tls"),
        (identity.load_tls_key, "ledger"),
        (identity.load_flower_key, "tls"),
        (identity.load_ledger_key, "flower"),
    ):
        with pytest.raises(ConfigError, match="does not hold"):
            load(tmp_path / wrong)


def test_missing_linked_and_oversized_files_are_refused(tmp_path):
    identity.write_private(tmp_path / "big", bytes(identity.KEY_FILE_BYTES_MAX + 1))
    (tmp_path / "link").symlink_to(tmp_path / "big")
    for name in ("missing", "link", "big"):
        with pytest.raises(ConfigError) as caught:
            identity.read_private(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)


def test_a_folder_that_is_missing_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        identity.create_tls_key(tmp_path / "no" / "tls.pem")


def test_the_ledger_key_that_is_loaded_signs_as_the_one_that_was_made(tmp_path):
    made = identity.create_ledger_key(tmp_path / "k")
    loaded = identity.load_ledger_key(tmp_path / "k")
    verify(made.public_key, b"message", loaded.sign(b"message"))
    assert identity.create_ledger_key(tmp_path / "k2").key_id != made.key_id


def test_no_private_key_shows_in_a_repr(tmp_path, key, ca):
    ledger, flower = identity.create_ledger_key(tmp_path / "l"), identity.create_flower_key(tmp_path / "f")
    shown = repr((ledger, flower, key, ca))
    assert ledger.seed.hex() not in shown
    assert repr(ledger.seed) not in shown
    assert "PRIVATE" not in shown


def test_the_flower_key_is_what_flowers_supernode_reads(tmp_path):
    key = identity.create_flower_key(tmp_path / "flower")
    private = load_ssh_private_key((tmp_path / "flower").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert (tmp_path / "flower.pub").read_bytes().startswith(b"ecdsa-sha2-nistp384 ")
    assert load_der_public_key(key.public_der) == private.public_key()


def test_a_members_certificate_is_for_the_enrolled_key_and_for_clients_only(ca, key):
    pem = identity.client_certificate(ca, identity.certificate_request(key, MEMBER), MEMBER, key.spki_sha256, NOW)
    certificate = x509.load_pem_x509_certificate(pem)
    client_verifier_without_san = certificate.verify_directly_issued_by(ca.certificate)
    assert client_verifier_without_san is None
    assert identity.spki_sha256(certificate) == key.spki_sha256
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == MEMBER.hex()
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert certificate.not_valid_after_utc - NOW == timedelta(days=730)
    assert certificate.not_valid_before_utc < NOW


def test_the_certificate_takes_nothing_over_from_the_request_but_its_key(ca, key):
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key.private, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    certificate = x509.load_pem_x509_certificate(identity.client_certificate(ca, greedy, MEMBER, key.spki_sha256, NOW))
    assert certificate.subject.rfc4514_string() == f"CN={MEMBER.hex()}"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_the_server_certificate_verifies_for_its_hosts_and_no_other(ca, key):
    pem = identity.server_certificate(ca, key, ["consortium.example", "192.0.2.7"], NOW)
    certificate = x509.load_pem_x509_certificate(pem)
    builder = PolicyBuilder().store(Store([ca.certificate])).time(NOW)
    for name in ("localhost", "consortium.example"):
        builder.build_server_verifier(x509.DNSName(name)).verify(certificate, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(certificate, [])
    addresses = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in addresses.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "192.0.2.7"]


def test_a_server_certificate_is_not_taken_as_a_clients(ca, key):
    certificate = x509.load_pem_x509_certificate(identity.server_certificate(ca, key, [], NOW))
    with pytest.raises(VerificationError):
        client_verifier(ca).verify(certificate, [])


def request(private: object) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    algorithm = None if isinstance(private, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(private, algorithm).public_bytes(Encoding.DER)
    )


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "bad",
    [
        lambda key: b"",
        lambda key: b"not a request",
        lambda key: bytes(identity.CSR_BYTES_MAX + 1),
        lambda key: flipped(identity.certificate_request(key, MEMBER)),
        lambda key: request(ec.generate_private_key(ec.SECP384R1())),
        lambda key: request(ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["empty", "garbage", "oversized", "wrong signature", "P-384", "Ed25519"],
)
def test_an_unsound_certificate_request_is_refused(ca, key, bad):
    with pytest.raises(InvitationError, match="not a sound PKCS #10 request"):
        identity.client_certificate(ca, bad(key), MEMBER, key.spki_sha256, NOW)


def test_a_request_for_another_key_than_the_enrolled_one_is_refused(ca, key):
    with pytest.raises(InvitationError, match="another key than the enrolment"):
        identity.client_certificate(ca, identity.certificate_request(key, MEMBER), MEMBER, bytes(32), NOW)


def test_a_ca_is_loaded_with_its_own_certificate_only(tmp_path, ca):
    loaded = identity.load_ca(tmp_path / "ca.pem", tmp_path / "ca.crt")
    assert loaded.certificate == ca.certificate
    identity.create_ca(tmp_path / "ca2.pem", tmp_path / "ca2.crt", "Test", NOW)
    with pytest.raises(ConfigError, match="do not belong together"):
        identity.load_ca(tmp_path / "ca.pem", tmp_path / "ca2.crt")
    with pytest.raises(ConfigError, match="does not hold"):
        identity.load_ca(tmp_path / "ca.pem", tmp_path / "ca.pem")


def test_two_consortia_of_one_name_have_cas_of_different_names(tmp_path, ca):
    other = identity.create_ca(tmp_path / "ca2.pem", tmp_path / "ca2.crt", "Test", NOW)
    assert other.certificate.subject != ca.certificate.subject


def test_what_is_not_a_certificate_has_no_key_hash():
    with pytest.raises(ConfigError, match="not a certificate"):
        identity.spki_sha256_of_pem(b"nothing")
