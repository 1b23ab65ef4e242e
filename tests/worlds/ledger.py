"""A log and those who write to it: every entry gets its author's next number, predecessor and the present head."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Any

from consortium.encoding import Json
from consortium.keys import Signer
from consortium.ledger.checkpoint import Checkpoint, add_signature, format_note, parse_note, sign_checkpoint
from consortium.ledger.cosignature import cosign, witness_name
from consortium.ledger.entry import NO_PREVIOUS, Draft, Entry, Head, write_entry
from consortium.replay import Replay
from consortium.state import State


def snapshot(replay: Replay) -> tuple[object, ...]:
    """All that a replay knows, to compare before and after."""
    return copy.deepcopy(replay.state), replay.tree.size, replay.root


class Ledger:
    """A log as a sequencer keeps it; `force` adds what a sequencer would refuse."""

    def __init__(self) -> None:
        self.replay = Replay()
        self.frames: list[bytes] = []
        self.witnesses: tuple[Signer, ...] = ()
        self._keys = itertools.count()

    @classmethod
    def of(cls, frames: Iterable[bytes]) -> Ledger:
        """The log of these frames, whatever they are."""
        ledger = cls()
        for frame in frames:
            ledger.force(frame)
        return ledger

    @property
    def state(self) -> State:
        return self.replay.state

    @property
    def head(self) -> Head:
        return Head(self.state.size, self.replay.root)

    def sign(self, author: Signer, kind: str, body: Json, *, key: str = "", **place: Any) -> Entry:
        """A signed entry that is not yet in the log; `place` overrides consortium, head, prev or seq."""
        sequence, previous = self.state.chains.get(self.state.member_of(author.key_id), (0, NO_PREVIOUS))
        due = {"consortium": self.state.genesis, "head": self.head, "prev": previous, "seq": sequence}
        return write_entry(
            author, Draft(kind, key or f"{self.state.size}/{next(self._keys)}", body), **{**due, **place}
        )

    def add(self, author: Signer, kind: str, body: Json, *, key: str = "", **place: Any) -> Entry:
        """Appends an entry that must count."""
        entry = self.sign(author, kind, body, key=key, **place)
        assert self.refusal(entry.frame.data) == ""
        return entry

    def refused(self, author: Signer, kind: str, body: Json, *, key: str = "", **place: Any) -> str:
        """The code with which an entry is refused; "" if it was appended."""
        return self.refusal(self.sign(author, kind, body, key=key, **place).frame.data)

    def refusal(self, data: bytes) -> str:
        """The code with which the sequencer refuses these bytes, having changed nothing; "" if it appended them."""
        before = snapshot(self.replay)
        step = self.replay.offer(data)
        if step.fault is None:
            self.frames.append(data)
            return ""
        assert snapshot(self.replay) == before, "a refused entry changed the state"
        assert step.fault.text
        return step.fault.code

    def force(self, data: bytes) -> str:
        """Appends bytes whatever they are, and returns the code of their fault or ""."""
        step = self.replay.feed(data)
        self.frames.append(data)
        return "" if step.fault is None else step.fault.code

    def note(self, signer: Signer, *, origin: str = "", size: int | None = None) -> bytes:
        """A signed checkpoint over the first `size` entries, cosigned by those of `witnesses` who are its committee."""
        size = self.state.size if size is None else size
        origin = origin or self.state.charter["origin"]
        note = parse_note(sign_checkpoint(Checkpoint(origin, size, self.replay.tree.root(size)), signer, origin))
        for witness in self.witnesses:
            member = self.state.member_of(witness.key_id)
            if any(member in committee.members for committee in self.state.committees_at(size)):
                line = cosign(note.text, witness, witness_name(origin, member), timestamp=1)
                note = add_signature(note, line)
        return format_note(note).encode()
