"""A node's keys and certificates: made on this machine, kept in files that only its owner can read.

Ledger identities are Ed25519. TLS keys are ECDSA P-256, because gRPC refuses Ed25519 certificates; the coordinator's CA
opens the transport only, and what names a member there is the SHA-256 of its TLS key's SubjectPublicKeyInfo, which
stands in its signed enrolment. Flower's node key is EC P-384 in OpenSSH format, as its SuperNode reads it.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consortium.encoding import sha256
from consortium.errors import ConfigError, InvitationError
from consortium.keys import KEY_ID_BYTES, SigningKey

VALIDITY = timedelta(days=730)
CLOCK_SKEW = timedelta(hours=1)  # a certificate must work at once on a machine whose clock is behind
KEY_FILE_BYTES_MAX = 16_384
CSR_BYTES_MAX = 4_096
COMMON_NAME_CHARS_MAX = 64  # RFC 5280, ub-common-name: a member's key id in hex just fits


@dataclass(frozen=True, repr=False)
class TlsKey:
    """An ECDSA P-256 key for TLS."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """PKCS #8, unencrypted: a secret."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def spki_sha256(self) -> bytes:
        """What the member's enrolment and the invitation's pin name."""
        return spki_sha256(self.private.public_key())


@dataclass(frozen=True, repr=False)
class FlowerKey:
    """An EC P-384 key for Flower's SuperNode."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public_der(self) -> bytes:
        """DER SubjectPublicKeyInfo, as the enrolment carries it in hex."""
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_ssh(self) -> bytes:
        """One line in OpenSSH format, as `flwr supernode register` reads it."""
        return self.private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


@dataclass(frozen=True, repr=False)
class Ca:
    """The coordinator's certificate authority."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def write_private(path: Path, data: bytes) -> None:
    """Writes a new file of mode 0600, whole or not at all; never replaces one.

    Raises:
        ConfigError: the file exists already, or cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # unlike rename, fails when the target exists
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise ConfigError(
            "A private file is there already and is not replaced.",
            where=str(path),
            mend="Choose another place, or move the old file away if you are sure that it is not needed.",
        ) from error
    except OSError as error:
        raise ConfigError(
            "A private file cannot be written.", where=str(path), mend="Check the folder, its owner and free space."
        ) from error


def read_private(path: Path) -> bytes:
    """The bytes of a private file.

    Raises:
        ConfigError: missing, a link, unreadable, too large, or readable by other users.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise ConfigError(
            "A private file is missing, a link or unreadable.", where=str(path), mend="Restore it from your backup."
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigError(
                "A private file is open to other users of this machine.",
                where=str(path),
                mend="Run `chmod 600` on it; if others may have read it, make a new key.",
            )
        data = file.read(KEY_FILE_BYTES_MAX + 1)
    if len(data) > KEY_FILE_BYTES_MAX:
        raise ConfigError(f"A private file has more than {KEY_FILE_BYTES_MAX} bytes.", where=str(path))
    return data


def create_ledger_key(path: Path) -> SigningKey:
    """A new Ed25519 identity, written as PKCS #8 PEM (RFC 8410). Raises ConfigError as `write_private`."""
    seed = os.urandom(32)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SigningKey(seed)


def load_ledger_key(path: Path) -> SigningKey:
    """Raises ConfigError as `read_private`, and when the file holds no Ed25519 key."""
    key = _load_pem(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise _not_a_key(path, "Ed25519 key in PKCS #8 PEM")
    return SigningKey(key.private_bytes_raw())


def create_tls_key(path: Path) -> TlsKey:
    """A new TLS key, written as PKCS #8 PEM. Raises ConfigError as `write_private`."""
    key = TlsKey(ec.generate_private_key(ec.SECP256R1()))
    write_private(path, key.pem)
    return key


def load_tls_key(path: Path) -> TlsKey:
    """Raises ConfigError as `read_private`, and when the file holds no P-256 key."""
    return TlsKey(_load_p256(path))


def create_flower_key(path: Path) -> FlowerKey:
    """A new Flower node key in OpenSSH format, its public half beside it as `.pub`. Raises ConfigError."""
    key = FlowerKey(ec.generate_private_key(ec.SECP384R1()))
    write_private(path, key.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    write_private(path.with_name(path.name + ".pub"), key.public_ssh + b"\n")
    return key


def load_flower_key(path: Path) -> FlowerKey:
    """Raises ConfigError as `read_private`, and when the file holds no P-384 key in OpenSSH format."""
    try:
        key = load_ssh_private_key(read_private(path), None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_a_key(path, "EC P-384 key in OpenSSH format") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _not_a_key(path, "EC P-384 key in OpenSSH format")
    return FlowerKey(key)


def spki_sha256(source: x509.Certificate | x509.CertificateSigningRequest | PublicKeyTypes) -> bytes:
    """SHA-256 (32 bytes) of the DER SubjectPublicKeyInfo (RFC 7469, 2.4) of a certificate, request or public key."""
    key = source.public_key() if isinstance(source, x509.Certificate | x509.CertificateSigningRequest) else source
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def spki_sha256_of_pem(certificate: bytes) -> bytes:
    """As `spki_sha256`, of a certificate in PEM.

    Raises:
        ConfigError: the bytes are not a certificate.
    """
    try:
        return spki_sha256(x509.load_pem_x509_certificate(certificate))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("The bytes are not a certificate in PEM.", mend="Restore it from your backup.") from error


def member_of_certificate(path: Path) -> bytes:
    """The member (32 bytes) that a client certificate in PEM was issued to.

    Raises:
        ConfigError: as `read_private`, and when it is not a member's certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(read_private(path))
        name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        member = bytes.fromhex(str(name))
    except (ValueError, IndexError, UnsupportedAlgorithm) as error:
        raise ConfigError("The file is not a member's certificate.", where=str(path)) from error
    if len(member) != KEY_ID_BYTES:
        raise ConfigError("The file is not a member's certificate.", where=str(path))
    return member


def check_tls_files(key: bytes, certificate: bytes, ca_certificate: bytes) -> None:
    """Checks PEM that gRPC gets: it ends the whole process when it is given anything else.

    Raises:
        ConfigError: a key or certificate is not one, or the two do not belong together.
    """
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError("The TLS key is not an unencrypted private key in PKCS #8 PEM.") from error
    spki_sha256_of_pem(ca_certificate)
    if spki_sha256_of_pem(certificate) != spki_sha256(private.public_key()):
        raise ConfigError(
            "The TLS key and certificate do not belong together.", mend="Restore both from one backup, or join again."
        )


def create_ca(key_path: Path, certificate_path: Path, consortium: str, now: datetime) -> Ca:
    """A new self-signed CA (P-256, path length 0), its key and certificate written.

    Raises:
        ConfigError: a file exists or cannot be written.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    # The serial keeps two consortia of one name apart in a client's trust store.
    name = _name(f"{consortium[:48]} CA {secrets.token_hex(4)}")
    certificate = (
        _builder(name, name, private.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    ca = Ca(private, certificate)
    write_private(key_path, TlsKey(private).pem)
    write_private(certificate_path, ca.certificate_pem)
    return ca


def load_ca(key_path: Path, certificate_path: Path) -> Ca:
    """Raises ConfigError as `read_private`, and when key and certificate do not belong together."""
    private = _load_p256(key_path)
    try:
        certificate = x509.load_pem_x509_certificate(read_private(certificate_path))
    except ValueError as error:
        raise _not_a_key(certificate_path, "certificate in PEM") from error
    if spki_sha256(certificate) != spki_sha256(private.public_key()):
        raise ConfigError("The CA's key and certificate do not belong together.", where=str(certificate_path))
    return Ca(private, certificate)


def server_certificate(ca: Ca, key: TlsKey, hosts: Sequence[str], now: datetime) -> bytes:
    """A server's certificate (PEM, 2 years) for `hosts` and always localhost and 127.0.0.1."""
    names = list(dict.fromkeys(["localhost", "127.0.0.1", *hosts]))
    alternatives = x509.SubjectAlternativeName([_general_name(host) for host in names])
    public = key.private.public_key()
    return _sign_leaf(
        ca,
        _builder(_name(names[-1][:COMMON_NAME_CHARS_MAX]), ca.certificate.subject, public, now)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False),
        public,
    )


def certificate_request(key: TlsKey, member: bytes) -> bytes:
    """A certificate signing request (PKCS #10, DER) for a member's TLS key; `member` is its key id, 32 bytes."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(member.hex()))
    return builder.sign(key.private, hashes.SHA256()).public_bytes(Encoding.DER)


def client_certificate(ca: Ca, csr: bytes, member: bytes, key_sha256: bytes, now: datetime) -> bytes:
    """A member's client certificate (PEM, 2 years); nothing of the request is taken over but its key.

    Args:
        ca: the coordinator's CA.
        csr: PKCS #10, DER.
        member: key id of the member, 32 bytes; becomes the common name.
        key_sha256: SPKI SHA-256 of the TLS key in the member's signed enrolment.
        now: the start of validity, less an hour for clocks that are behind.

    Raises:
        InvitationError: not a sound request, not P-256, or for another key than the enrolment's.
    """
    try:
        request = x509.load_der_x509_csr(csr) if len(csr) <= CSR_BYTES_MAX else None
        public = request.public_key() if request is not None and request.is_signature_valid else None
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _bad_request() from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise _bad_request()
    if spki_sha256(public) != key_sha256:
        raise InvitationError(
            "The certificate request is for another key than the enrolment names.",
            mend="Join again with the keys of this node.",
        )
    return _sign_leaf(
        ca,
        _builder(_name(member.hex()), ca.certificate.subject, public, now).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        ),
        public,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _sign_leaf(ca: Ca, builder: x509.CertificateBuilder, public: ec.EllipticCurvePublicKey) -> bytes:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.private.public_key())
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca.private, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_pem(path: Path) -> object:
    try:
        return load_pem_private_key(read_private(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _not_a_key(path, "unencrypted private key in PKCS #8 PEM") from error


def _load_p256(path: Path) -> ec.EllipticCurvePrivateKey:
    key = _load_pem(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _not_a_key(path, "EC P-256 key in PKCS #8 PEM")
    return key


def _not_a_key(path: Path, kind: str) -> ConfigError:
    return ConfigError(f"The file does not hold an {kind}.", where=str(path), mend="Restore it from your backup.")


def _bad_request() -> InvitationError:
    return InvitationError(
        "The certificate request is not a sound PKCS #10 request for a P-256 key.",
        mend="Make it with the consortium program.",
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
