"""The record of one sum from which anybody recomputes it: all signed frames, and the masked vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from consortium.encoding import canonical, parse
from consortium.errors import ConsortiumError, SecureSumError
from consortium.privacy.secure_sum.messages import FRAME_BYTES_MAX
from consortium.privacy.secure_sum.spec import SumSpec
from consortium.privacy.secure_sum.words import Words, check_words, wire_bytes

MAGIC = b"consortium secure sum transcript v1\n"
SPEC_BYTES_MAX = 1 << 14


@dataclass(frozen=True)
class Transcript:
    """The frames of each step in the order of their senders' ids, and each masked frame's vector beside it."""

    spec: SumSpec
    adverts: tuple[bytes, ...]
    shares: tuple[bytes, ...]
    masked: tuple[bytes, ...]
    votes: tuple[bytes, ...]
    reveals: tuple[bytes, ...]
    vectors: tuple[Words, ...] = field(repr=False, compare=False)  # the masked frames commit to them

    def to_bytes(self) -> bytes:
        """The binary form: magic, spec, five lists of frames (count, then length and bytes each), then vectors."""
        return b"".join(self._parts())

    def digest(self) -> bytes:
        """SHA-256 of `to_bytes()`, computed without building it."""
        state = hashlib.sha256()
        for part in self._parts():
            state.update(part)
        return state.digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The transcript that `to_bytes` wrote; its vectors are read-only views into `data`.

        Raises:
            SecureSumError: anything else, or beyond the limits of a sum.
        """
        reader = _Reader(data)
        if reader.take(len(MAGIC)) != MAGIC:
            raise SecureSumError("The bytes are not a transcript of a secure sum.", where="byte 0")
        try:
            spec = SumSpec.from_json(parse(bytes(reader.take(reader.number(SPEC_BYTES_MAX)))))
        except ConsortiumError as error:
            raise SecureSumError(error.what, where="spec", mend=error.mend) from error
        adverts, shares, masked, votes, reveals = (reader.frames(len(spec.roster)) for _ in range(5))
        vectors = tuple(reader.vector(spec) for _ in masked)
        reader.end()
        return cls(spec, adverts, shares, masked, votes, reveals, vectors)

    def _parts(self) -> Iterator[bytes | memoryview]:
        yield MAGIC
        spec = canonical(self.spec.to_json())
        yield len(spec).to_bytes(4)
        yield spec
        for frames in (self.adverts, self.shares, self.masked, self.votes, self.reveals):
            yield len(frames).to_bytes(4)
            for frame in frames:
                yield len(frame).to_bytes(4)
                yield frame
        for vector in self.vectors:
            check_words(vector, self.spec)
            yield wire_bytes(vector)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, count: int) -> memoryview:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise SecureSumError("The transcript is truncated.", where=f"byte {self._at}")
        self._at += count
        return part

    def number(self, limit: int) -> int:
        value = int.from_bytes(self.take(4))
        if value > limit:
            raise SecureSumError(f"A length in the transcript is above {limit}.", where=f"byte {self._at - 4}")
        return value

    def frames(self, count_max: int) -> tuple[bytes, ...]:
        return tuple(bytes(self.take(self.number(FRAME_BYTES_MAX))) for _ in range(self.number(count_max)))

    def vector(self, spec: SumSpec) -> Words:
        raw = self.take(spec.length * spec.word_bits // 8)
        if spec.word_bits == 32:
            return np.frombuffer(raw, "<u4").astype(np.uint32, copy=False)
        return np.frombuffer(raw, "<u8").astype(np.uint64, copy=False).reshape(spec.length, 2)

    def end(self) -> None:
        if self._at != len(self._data):
            raise SecureSumError("The transcript has bytes after its end.", where=f"byte {self._at}")
