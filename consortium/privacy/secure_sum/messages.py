"""The five signed messages of a secure sum: what each holds, and how it is opened.

Each is a frame of `consortium.keys` around canonical JSON. Whatever `open_message` returns was signed by a member of
the roster for this session; everything else raises.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, TypeVar

from consortium.encoding import Json, canonical, parse
from consortium.errors import ConsortiumError, SecureSumError
from consortium.keys import Signer, key_id, open_frame, sign_frame
from consortium.privacy.secure_sum.shamir import SHARE_BYTES
from consortium.privacy.secure_sum.spec import ID_BYTES, SumSpec, unhex

FRAME_BYTES_MAX = 1 << 16
SEALED_BYTES = 2 * SHARE_BYTES + 16  # ChaCha20-Poly1305 tag
HASH_BYTES = 32


class Message(Protocol):
    """The body of one kind of message."""

    KIND: ClassVar[str]

    def to_json(self) -> dict[str, Json]: ...

    @classmethod
    def from_json(cls, value: dict[str, Json], spec: SumSpec) -> Self: ...


M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Advert:
    """A member's keys for this one sum, and the commitment to its self-mask seed."""

    KIND: ClassVar[str] = "advert"
    mask_key: bytes
    sealing_key: bytes
    seed_commitment: bytes

    def to_json(self) -> dict[str, Json]:
        return {
            "mask_key": self.mask_key.hex(),
            "sealing_key": self.sealing_key.hex(),
            "seed_commitment": self.seed_commitment.hex(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Json], spec: SumSpec) -> Self:  # noqa: ARG003 the shape all messages share
        _check_fields(value, "mask_key", "sealing_key", "seed_commitment")
        return cls(
            unhex(value["mask_key"], 32, "mask_key"),
            unhex(value["sealing_key"], 32, "sealing_key"),
            unhex(value["seed_commitment"], HASH_BYTES, "seed_commitment"),
        )


@dataclass(frozen=True)
class Shares:
    """One dealer's shares, sealed to each member of the roster in order, with commitments to each.

    Attributes:
        adverts: digest of all adverts, as the dealer saw them.
        sealed: for each recipient the ciphertext of a seed share and a key share.
        seed_commitments: for each recipient the commitment to its seed share.
        key_commitments: for each recipient the commitment to its key share.
    """

    KIND: ClassVar[str] = "shares"
    adverts: bytes
    sealed: tuple[bytes, ...]
    seed_commitments: tuple[bytes, ...]
    key_commitments: tuple[bytes, ...]

    def to_json(self) -> dict[str, Json]:
        return {
            "adverts": self.adverts.hex(),
            "sealed": [item.hex() for item in self.sealed],
            "seed_commitments": [item.hex() for item in self.seed_commitments],
            "key_commitments": [item.hex() for item in self.key_commitments],
        }

    @classmethod
    def from_json(cls, value: dict[str, Json], spec: SumSpec) -> Self:
        _check_fields(value, "adverts", "sealed", "seed_commitments", "key_commitments")
        count = len(spec.roster)
        return cls(
            unhex(value["adverts"], HASH_BYTES, "adverts"),
            _unhex_list(value["sealed"], count, SEALED_BYTES, "sealed"),
            _unhex_list(value["seed_commitments"], count, HASH_BYTES, "seed_commitments"),
            _unhex_list(value["key_commitments"], count, HASH_BYTES, "key_commitments"),
        )


@dataclass(frozen=True)
class Masked:
    """The commitment to a masked vector, after the set-up that the sender saw."""

    KIND: ClassVar[str] = "masked"
    setup: bytes
    vector: bytes

    def to_json(self) -> dict[str, Json]:
        return {"setup": self.setup.hex(), "vector": self.vector.hex()}

    @classmethod
    def from_json(cls, value: dict[str, Json], spec: SumSpec) -> Self:  # noqa: ARG003 the shape all messages share
        _check_fields(value, "setup", "vector")
        return cls(unhex(value["setup"], HASH_BYTES, "setup"), unhex(value["vector"], HASH_BYTES, "vector"))


@dataclass(frozen=True)
class Vote:
    """The one survivor set that a member agrees to unmask in this sum."""

    KIND: ClassVar[str] = "vote"
    setup: bytes
    survivors: tuple[bytes, ...]

    def to_json(self) -> dict[str, Json]:
        return {"setup": self.setup.hex(), "survivors": [member.hex() for member in self.survivors]}

    @classmethod
    def from_json(cls, value: dict[str, Json], spec: SumSpec) -> Self:
        _check_fields(value, "setup", "survivors")
        members = value["survivors"]
        if not isinstance(members, list) or len(members) > len(spec.roster):
            raise SecureSumError("The survivors must be a list of roster members.", where="survivors")
        survivors = tuple(unhex(member, ID_BYTES, "survivors") for member in members)
        check_survivors(survivors, spec)
        return cls(unhex(value["setup"], HASH_BYTES, "setup"), survivors)


@dataclass(frozen=True)
class Reveal:
    """One member's shares: of the self-mask seeds of the survivors, of the mask keys of the others; never both."""

    KIND: ClassVar[str] = "reveal"
    setup: bytes
    seed_shares: Mapping[bytes, bytes]
    key_shares: Mapping[bytes, bytes]

    def to_json(self) -> dict[str, Json]:
        return {
            "setup": self.setup.hex(),
            "seed_shares": {owner.hex(): share.hex() for owner, share in self.seed_shares.items()},
            "key_shares": {owner.hex(): share.hex() for owner, share in self.key_shares.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Json], spec: SumSpec) -> Self:
        _check_fields(value, "setup", "seed_shares", "key_shares")
        seeds = _unhex_shares(value["seed_shares"], "seed_shares")
        keys = _unhex_shares(value["key_shares"], "key_shares")
        if seeds.keys() & keys.keys():
            raise SecureSumError("The same member is both alive and dead in a reveal.", where="reveal")
        if seeds.keys() | keys.keys() != set(spec.roster):
            raise SecureSumError("A reveal must hold one share for every roster member.", where="reveal")
        return cls(unhex(value["setup"], HASH_BYTES, "setup"), seeds, keys)


def check_survivors(survivors: Sequence[bytes], spec: SumSpec) -> None:
    """Refuses a survivor set that is not a sorted set of at least t roster members.

    Raises:
        SecureSumError: it is not.
    """
    if any(first >= second for first, second in itertools.pairwise(survivors)):
        raise SecureSumError("The survivors must be strictly sorted, each named once.", where="survivors")
    if not set(survivors) <= set(spec.roster):
        raise SecureSumError("A survivor is not on the roster.", where="survivors")
    if len(survivors) < spec.threshold:
        raise SecureSumError(
            f"The survivor set has {len(survivors)} members; the threshold is {spec.threshold}.",
            where="survivors",
            mend="Start a new round: this one stays masked.",
        )


def sign_message(signer: Signer, spec: SumSpec, message: Message) -> bytes:
    """The frame of a message, bound to the session."""
    payload = canonical({**message.to_json(), "session": spec.session.hex()})
    return sign_frame(signer, _payload_type(message.KIND), payload).data


def open_message(data: bytes, spec: SumSpec, public_keys: Mapping[bytes, bytes], kind: type[M]) -> tuple[bytes, M]:
    """The sender (a roster member whose signature was checked) and the message.

    Raises:
        SecureSumError: malformed, unsigned, from outside the roster, of another kind, or of another session.
    """
    try:
        if len(data) > FRAME_BYTES_MAX:
            raise SecureSumError(f"A frame has at most {FRAME_BYTES_MAX} bytes.")
        frame = open_frame(data)
        sender = member_with(frame.key_id, spec, public_keys)
        if sender is None:
            raise SecureSumError("The signer is not on the roster of this sum.", mend="Send only members' frames.")
        frame.verify(public_keys[sender])
    except ConsortiumError as error:
        raise SecureSumError(error.what, where=kind.KIND, mend=error.mend) from error
    try:
        if frame.payload_type != _payload_type(kind.KIND):
            raise SecureSumError("The frame holds another kind of message.")
        body = parse(frame.payload, bytes_max=FRAME_BYTES_MAX)
        if not isinstance(body, dict) or body.pop("session", None) != spec.session.hex():
            raise SecureSumError(
                "The message belongs to another sum.", mend="Send the frames of this session (round, roster, model)."
            )
    except ConsortiumError as error:
        # Not blamed: anybody can replay what a member signed for another purpose.
        raise SecureSumError(error.what, where=_place(kind.KIND, sender), mend=error.mend) from error
    try:
        return sender, kind.from_json(body, spec)
    except SecureSumError as error:
        place = f"{_place(kind.KIND, sender)}, {error.where}"
        raise SecureSumError(error.what, where=place, mend=error.mend, blamed=(sender,)) from error


def member_with(key: bytes, spec: SumSpec, public_keys: Mapping[bytes, bytes]) -> bytes | None:
    """The roster member that signs with the key of this id; a member whose key was never rotated bears its id."""
    if key in spec.roster and key in public_keys and key_id(public_keys[key]) == key:
        return key
    return next((member for member in spec.roster if key_id(public_keys.get(member, b"")) == key), None)


def open_one_each(
    frames: Sequence[bytes], spec: SumSpec, public_keys: Mapping[bytes, bytes], kind: type[M]
) -> dict[bytes, tuple[bytes, M]]:
    """The frame and message of every roster member, in roster order.

    Raises:
        SecureSumError: a frame does not open, or there is not exactly one of each member.
    """
    found: dict[bytes, tuple[bytes, M]] = {}
    for data in frames[: len(spec.roster) + 1]:
        sender, message = open_message(data, spec, public_keys, kind)
        if sender in found:
            raise SecureSumError("A member has two messages of one kind.", where=_place(kind.KIND, sender))
        found[sender] = (data, message)
    missing = [member.hex() for member in spec.roster if member not in found]
    if missing:
        raise SecureSumError(
            f"{len(missing)} of {len(spec.roster)} members sent no {kind.KIND}.",
            where=", ".join(missing),
            mend="Abort this sum; nothing was masked. Start anew without them.",
        )
    return {member: found[member] for member in spec.roster}


def _payload_type(kind: str) -> str:
    return f"application/vnd.consortium.secure-sum-{kind}.v1+json"


def _place(kind: str, sender: bytes) -> str:
    return f"{kind} of {sender.hex()}"


def _check_fields(value: dict[str, Json], *names: str) -> None:
    if set(value) != set(names):
        raise SecureSumError(
            f"The message must have exactly the fields {', '.join(names)} and session.", where="fields"
        )


def _unhex_list(value: Json, count: int, length: int, where: str) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise SecureSumError(f"The field {where} must be a list of {count} items.", where=where)
    return tuple(unhex(item, length, where) for item in value)


def _unhex_shares(value: Json, where: str) -> dict[bytes, bytes]:
    if not isinstance(value, dict):
        raise SecureSumError(f"The field {where} must be an object.", where=where)
    return {unhex(owner, ID_BYTES, where): unhex(share, SHARE_BYTES, where) for owner, share in value.items()}
