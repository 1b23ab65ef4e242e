"""The set-up that the whole roster must complete before anything is masked: adverts, and sealed shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from consortium.encoding import sha256
from consortium.errors import SecureSumError
from consortium.privacy.secure_sum.masks import agree, commit, derive
from consortium.privacy.secure_sum.messages import Advert, Shares, open_one_each
from consortium.privacy.secure_sum.shamir import SHARE_BYTES
from consortium.privacy.secure_sum.spec import SumSpec

_NONCE = bytes(12)  # every sealing key seals one message: one sender, one recipient, one set of adverts


@dataclass(frozen=True)
class Adverts:
    """All adverts of the roster, checked, and their digest."""

    by_member: Mapping[bytes, Advert]
    digest: bytes


@dataclass(frozen=True)
class Setup:
    """Adverts and shares of the whole roster, checked, and their digest, to which all later messages are bound."""

    adverts: Adverts
    shares: Mapping[bytes, Shares]
    digest: bytes


@dataclass(frozen=True)
class SharePair:
    """One recipient's shares of one dealer's two secrets."""

    seed: bytes
    key: bytes


def open_adverts(frames: Sequence[bytes], spec: SumSpec, public_keys: Mapping[bytes, bytes]) -> Adverts:
    """The adverts of the whole roster.

    Raises:
        SecureSumError: one is missing, doubled, wrongly signed, of another session, or repeats another's key.
    """
    opened = open_one_each(frames, spec, public_keys, Advert)
    keys = [key for _, advert in opened.values() for key in (advert.mask_key, advert.sealing_key)]
    if len(set(keys)) != len(keys):
        raise SecureSumError("Two adverts hold the same X25519 key.", where="advert", mend="Abort this sum.")
    digest = sha256(b"".join(sha256(frame) for frame, _ in opened.values()))
    return Adverts({member: advert for member, (_, advert) in opened.items()}, digest)


def open_shares(frames: Sequence[bytes], spec: SumSpec, public_keys: Mapping[bytes, bytes], adverts: Adverts) -> Setup:
    """The shares messages of the whole roster, all dealt for the same adverts.

    Raises:
        SecureSumError: one is missing, doubled, wrongly signed, of another session, or dealt for other adverts.
    """
    opened = open_one_each(frames, spec, public_keys, Shares)
    for member, (_, shares) in opened.items():
        if shares.adverts != adverts.digest:
            raise SecureSumError("Shares were dealt for other adverts.", where=f"shares of {member.hex()}")
    digest = sha256(adverts.digest + b"".join(sha256(frame) for frame, _ in opened.values()))
    return Setup(adverts, {member: shares for member, (_, shares) in opened.items()}, digest)


def commit_seed(spec: SumSpec, owner: bytes, seed: bytes) -> bytes:
    """The commitment to a self-mask seed that its owner signs in the advert."""
    return commit(spec, b"seed", owner, seed)


def commit_share(spec: SumSpec, secret: bytes, dealer: bytes, recipient: bytes, share: bytes) -> bytes:
    """The commitment to one share; `secret` is b"seed-share" or b"key-share"."""
    return commit(spec, secret, dealer, recipient, share)


def seal_pair(
    spec: SumSpec, adverts: Adverts, dealer: bytes, recipient: bytes, sealing_secret: bytes, pair: SharePair
) -> bytes:
    """The shares for one recipient, sealed with the dealer's X25519 secret (ChaCha20-Poly1305, RFC 8439)."""
    key = _sealing_key(spec, adverts, dealer, recipient, agree(sealing_secret, _sealing_public(adverts, recipient)))
    return ChaCha20Poly1305(key).encrypt(_NONCE, pair.seed + pair.key, None)


def unseal_pair(spec: SumSpec, setup: Setup, dealer: bytes, recipient: bytes, sealing_secret: bytes) -> SharePair:
    """The recipient's shares of one dealer, checked against the dealer's commitments.

    Raises:
        SecureSumError: it cannot be opened, or is not what the dealer committed to; blames the dealer.
    """
    shares, position = setup.shares[dealer], spec.roster.index(recipient)
    secret = agree(sealing_secret, _sealing_public(setup.adverts, dealer))
    key = _sealing_key(spec, setup.adverts, dealer, recipient, secret)
    where = f"shares of {dealer.hex()}"
    try:
        plain = ChaCha20Poly1305(key).decrypt(_NONCE, shares.sealed[position], None)
    except InvalidTag as error:
        raise SecureSumError("The sealed shares do not open.", where=where, blamed=(dealer,)) from error
    pair = SharePair(plain[:SHARE_BYTES], plain[SHARE_BYTES:])
    check_share(spec, setup, b"seed-share", dealer, recipient, pair.seed, blamed=dealer)
    check_share(spec, setup, b"key-share", dealer, recipient, pair.key, blamed=dealer)
    return pair


def check_share(
    spec: SumSpec, setup: Setup, secret: bytes, dealer: bytes, recipient: bytes, share: bytes, *, blamed: bytes
) -> None:
    """Checks a share against its dealer's commitment.

    Raises:
        SecureSumError: it is another share; blames `blamed`, who gave it.
    """
    shares, position = setup.shares[dealer], spec.roster.index(recipient)
    commitments = shares.seed_commitments if secret == b"seed-share" else shares.key_commitments
    if commit_share(spec, secret, dealer, recipient, share) != commitments[position]:
        raise SecureSumError(
            "A share is not the one its dealer committed to.",
            where=f"given by {blamed.hex()}, dealt by {dealer.hex()}",
            mend="The sum can still end with the shares of the others.",
            blamed=(blamed,),
        )


def _sealing_public(adverts: Adverts, member: bytes) -> bytes:
    return adverts.by_member[member].sealing_key


def _sealing_key(spec: SumSpec, adverts: Adverts, dealer: bytes, recipient: bytes, secret: bytes) -> bytes:
    return derive(secret, b"seal", spec.session, adverts.digest, dealer, recipient)
