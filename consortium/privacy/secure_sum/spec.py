"""What all parties of one secure sum agree on, and what one node demands of it by its own policy."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Literal, NoReturn, Self, get_args

from consortium.encoding import Json, canonical, sha256
from consortium.errors import SecureSumError

MEMBERS_MIN = 3
MEMBERS_MAX = 100
LENGTH_MAX = 1 << 27
ROUND_MAX = (1 << 53) - 1
ID_BYTES = 32

WordBits = Literal[32, 128]

_HASHES = ("consortium", "job", "request", "input_model")
_INTEGERS = ("round", "length", "word_bits", "threshold")
_FIELDS = {*_HASHES, *_INTEGERS, "roster"}


def minimum_threshold(n: int) -> int:
    """The smallest t with 3 * t > 2 * n: two quorums of t share more than a third of the roster."""
    return 2 * n // 3 + 1


@dataclass(frozen=True)
class SumSpec:
    """One sum; `session` binds every field of it into every key, share and signature.

    Attributes:
        consortium: hash of the genesis entry, 32 bytes.
        job: id of the job, 32 bytes.
        round: number of the sum within the job; a node never serves one twice.
        roster: ids of the members (of their first keys), 32 bytes each, strictly sorted, 3 to 100.
        request: SHA-256 of the job request.
        input_model: SHA-256 of the model that the vectors were computed from; zeros for statistics.
        length: number of words of a vector, 1 to 2**27.
        word_bits: size of a word; sums are modulo 2**word_bits.
        threshold: t, how many members must vote and reveal; more than two thirds of the roster.

    Raises:
        SecureSumError: a field is out of these bounds.
    """

    consortium: bytes
    job: bytes
    round: int
    roster: tuple[bytes, ...]
    request: bytes
    input_model: bytes
    length: int
    word_bits: WordBits
    threshold: int

    def __post_init__(self) -> None:
        for name in _HASHES:
            if not _is_id(getattr(self, name)):
                _refuse(name, "must be 32 bytes")
        for name in _INTEGERS:
            if type(getattr(self, name)) is not int:
                _refuse(name, "must be an integer")
        if not 0 <= self.round <= ROUND_MAX:
            _refuse("round", "must be from 0 to 2**53 - 1")
        if not 1 <= self.length <= LENGTH_MAX:
            _refuse("length", f"must be from 1 to {LENGTH_MAX} words")
        if self.word_bits not in get_args(WordBits):
            _refuse("word_bits", "must be 32 or 128")
        self._check_roster()

    def _check_roster(self) -> None:
        n = len(self.roster)
        if not all(_is_id(member) for member in self.roster):
            _refuse("roster", "must hold 32-byte key ids")
        if not MEMBERS_MIN <= n <= MEMBERS_MAX:
            _refuse("roster", f"must have {MEMBERS_MIN} to {MEMBERS_MAX} members")
        if any(first >= second for first, second in itertools.pairwise(self.roster)):
            _refuse("roster", "must be strictly sorted")
        if not minimum_threshold(n) <= self.threshold <= n:
            _refuse("threshold", f"must be from {minimum_threshold(n)} (more than two thirds) to {n}")

    def to_json(self) -> Json:
        """The spec as a JSON object, hashes in hex."""
        return {
            **{name: getattr(self, name).hex() for name in _HASHES},
            **{name: getattr(self, name) for name in _INTEGERS},
            "roster": [member.hex() for member in self.roster],
        }

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """The spec that `to_json` wrote.

        Raises:
            SecureSumError: a field is missing, unknown, or out of bounds.
        """
        if not isinstance(value, dict) or set(value) != _FIELDS:
            _refuse("spec", f"must be an object with exactly the fields {', '.join(sorted(_FIELDS))}")
        if not isinstance(value["roster"], list):
            _refuse("roster", "must be a list of key ids in hex")
        return cls(
            consortium=unhex(value["consortium"], ID_BYTES, "consortium"),
            job=unhex(value["job"], ID_BYTES, "job"),
            round=value["round"],
            roster=tuple(unhex(member, ID_BYTES, "roster") for member in value["roster"]),
            request=unhex(value["request"], ID_BYTES, "request"),
            input_model=unhex(value["input_model"], ID_BYTES, "input_model"),
            length=value["length"],
            word_bits=value["word_bits"],
            threshold=value["threshold"],
        )

    @functools.cached_property
    def session(self) -> bytes:
        """SHA-256 of the canonical JSON of the spec: the name of this sum in every key and signature."""
        return sha256(canonical(self.to_json()))


@dataclass(frozen=True)
class LocalRules:
    """A node's own policy for sums; never taken from the coordinator.

    Attributes:
        accepted: key ids whose fingerprint the node's own steward accepted, its own included.
        members_min: how many accepted members the roster, and later the survivor set, must hold; at least 3.

    Raises:
        SecureSumError: `members_min` is below 3.
    """

    accepted: frozenset[bytes]
    members_min: int

    def __post_init__(self) -> None:
        if self.members_min < MEMBERS_MIN:
            _refuse("members_min", f"must be at least {MEMBERS_MIN}")

    def check(self, members: tuple[bytes, ...], where: str) -> None:
        """Refuses a roster or survivor set with too few members that the own steward accepted.

        Raises:
            SecureSumError: fewer than `members_min` of `members` are accepted.
        """
        count = len(self.accepted.intersection(members))
        if count < self.members_min:
            raise SecureSumError(
                f"Only {count} members of the {where} were accepted by this node's steward; "
                f"its policy asks for {self.members_min}.",
                where=where,
                mend="Compare fingerprints with the other members and accept them, or ask for a larger roster.",
            )


def unhex(value: Json, length: int, where: str) -> bytes:
    """The bytes of a lower-case hex string of `length` bytes.

    Raises:
        SecureSumError: it is anything else.
    """
    if isinstance(value, str) and len(value) == 2 * length:
        try:
            data = bytes.fromhex(value)
        except ValueError:
            data = b""
        if data.hex() == value:
            return data
    raise SecureSumError(f"The field {where} must be {length} bytes in lower-case hex.", where=where)


def _is_id(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == ID_BYTES


def _refuse(where: str, rule: str) -> NoReturn:
    raise SecureSumError(f"The {where} of a sum {rule}.", where=where, mend="Propose the sum anew within these bounds.")
