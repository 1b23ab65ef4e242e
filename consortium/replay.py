"""The fold: entries in, state out, and for each entry whether it counts or is void and why.

Every member, the coordinator and every auditor run this same code over the same bytes. A void entry stays in the log
and in the tree, without effect, so that a bad entry never wedges the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from consortium import governance, jobs
from consortium.errors import (
    CheckpointError,
    ConsortiumError,
    EntryError,
    ForkError,
    SettlementError,
    SignatureError,
)
from consortium.faults import Fault
from consortium.incentives import rules
from consortium.incentives.schedule import Schedule
from consortium.keys import check_public_key, key_id
from consortium.ledger.checkpoint import Checkpoint, NoteKey, open_checkpoint, parse_note
from consortium.ledger.cosignature import cosigners, quorum, witness_name
from consortium.ledger.entry import NO_PREVIOUS, Entry, read_entry
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.tree import Tree
from consortium.state import HeldKey, Member, State

Rule = Callable[[State, int, Entry], Fault | None]


def _propose(state: State, index: int, entry: Entry) -> Fault | None:
    schedule = entry.body["change"].get("fields", {}).get("schedule")
    if schedule is not None:
        Schedule.from_json(schedule)
    return governance.propose(state, index, entry)


RULES: Mapping[str, Rule] = {
    "enrolment": governance.enrol,
    "admission": governance.admit,
    "dataset": governance.offer,
    "committee": governance.seat_committee,
    "rotation": governance.rotate,
    "proposal": _propose,
    "vote": governance.cast,
    "app": governance.catalogue,
    "approval": governance.approve,
    "job": jobs.submit,
    "decision": jobs.decide,
    "spend": jobs.spend,
    "sum": jobs.add_sum,
    "result": jobs.answer,
    "abort": jobs.abort,
    "scores": rules.add_scores,
    "settlement": rules.add_settlement,
}
_UNSPOKEN = (0, NO_PREVIOUS)  # the chain of an author without entries
RULE_BOOKS: Mapping[int, Mapping[str, Rule]] = {1: RULES}  # by rule version; an old one stays as it was


class Step(NamedTuple):
    """What became of one entry: void if `fault` is given, and then `entry` is None where it could not even be read.

    `authentic` says whether the entry is readable and signed by its author.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    entry: Entry | None
    fault: Fault | None
    authentic: bool


@dataclass
class Replay:
    """A running fold over a log."""

    state: State = field(default_factory=State)
    tree: Tree = field(default_factory=Tree)

    @property
    def root(self) -> bytes:
        """The Merkle root of everything fed so far."""
        return self.tree.root()

    def feed(self, data: bytes, signed_by: bytes | None = None) -> Step:
        """Takes the next entry of a log that stands, whatever it is.

        Args:
            signed_by: a public key under which the caller has found the frame to verify (`Frame.verify`) already;
                where the entry must be signed by that key it is not verified a second time.
        """
        step = self._examine(data, signed_by)
        if step.fault is not None and step.authentic and step.entry is not None:
            # Void, but signed: its author's chain goes on from here, so that one bad entry makes one finding. Never
            # backwards: whoever repeats an old entry of another author must not void that author's next one.
            due, _ = self.state.chains.get(step.entry.author, _UNSPOKEN)
            if step.entry.seq >= due:
                self.state.chains[step.entry.author] = (step.entry.seq + 1, step.entry.leaf)
        self._grow(data, step)
        return step

    def offer(self, data: bytes) -> Step:
        """Takes the entry only if it has no fault; otherwise nothing has changed (the sequencer's intake)."""
        step = self._examine(data)
        if step.fault is None:
            self._grow(data, step)
        return step

    def recall(self, index: int, data: bytes) -> Step:
        """The step of an entry that was fed before and had no fault, from its bytes."""
        entry = read_entry(data)
        return Step(index, entry._replace(author=self.state.member_of(entry.author)), fault=None, authentic=True)

    def check_head(self, note: bytes) -> Checkpoint:
        """The checkpoint of a note that the log signed, a quorum of its committee cosigned, and this replay contains.

        Raises:
            CheckpointError: not signed by the log, or cosigned by too few witnesses.
            ForkError: it is of entries that are not those of this replay.
        """
        checkpoint = self.check_signed(note)
        size, members = checkpoint.size, self.state.members
        for committee in self.state.committees_at(size):
            names = {
                witness_name(checkpoint.origin, who): (who, members[who].key_at(size)) for who in committee.members
            }
            found = cosigners(parse_note(note), names)
            if len(found) < quorum(len(names)):
                raise CheckpointError(
                    f"{len(found)} of {len(names)} witnesses have cosigned the checkpoint; "
                    f"{quorum(len(names))} are needed.",
                    where=f"size {size}",
                    mend="Do not rely on it; ask another member for its checkpoint.",
                )
        return checkpoint

    def check_signed(self, note: bytes) -> Checkpoint:
        """The checkpoint of a note that the log signed and this replay contains; witnesses are not asked.

        Raises:
            CheckpointError: not signed by the log.
            ForkError: it is of entries that are not those of this replay.
        """
        origin = self.state.charter["origin"]
        checkpoint = open_checkpoint(note, [NoteKey(origin, self.state.members[self.state.coordinator].public_key)])
        known = checkpoint.origin == origin and checkpoint.size <= self.state.size
        if not known or self.tree.root(checkpoint.size) != checkpoint.root:
            raise ForkError(
                "The log signed a checkpoint that does not cover the entries that are here.",
                where=f"size {checkpoint.size}",
                mend="Keep both as evidence and compare checkpoints with the other members.",
            )
        return checkpoint

    def _grow(self, data: bytes, step: Step) -> None:
        self.tree.append(leaf_hash(data) if step.entry is None else step.entry.leaf)
        self.state.size += 1
        if self.state.due:
            governance.take_effect(self.state)

    def _examine(self, data: bytes, signed_by: bytes | None = None) -> Step:
        """On a fault the state is unchanged."""
        state = self.state
        index = state.size
        entry: Entry | None = None
        authentic = False
        try:
            entry = read_entry(data)
            identity = state.member_of(entry.author)
            if identity != entry.author:
                entry = entry._replace(author=identity)
            if index == 0 or entry.kind == "genesis":
                fault = self._found(index, entry)
                return Step(index, entry, fault, authentic=fault is None)
            member = state.members.get(identity)
            _verify_author(member, entry, signed_by)
            authentic = entry.consortium == state.genesis
            fault = self._judge(index, entry, member)
        except SignatureError as error:
            fault = Fault("bad-signature", str(error))
        except ConsortiumError as error:
            fault = Fault(error.code, str(error))
        return Step(index, entry, fault, authentic)

    def _judge(self, index: int, entry: Entry, member: Member | None) -> Fault | None:
        state, author, seq, leaf = self.state, entry.author, entry.seq, entry.leaf
        if entry.consortium != state.genesis:
            return Fault("other-consortium", "The entry was signed for another consortium.")
        earlier = state.index_of(author, entry.key)
        if earlier is not None:
            same = self.tree.leaf(earlier) == leaf
            return Fault("replayed" if same else "duplicate-key", f"Its idempotency key was used at index {earlier}.")
        fault = self._link(index, entry)
        if fault is None and entry.kind != "enrolment":
            fault = _absence(member)
        if fault is None:
            fault = self._apply(index, entry)
        if fault is None:
            state.chains[author] = (seq + 1, leaf)
            state.keys.setdefault(author, {})[entry.key] = index
        return fault

    def _apply(self, index: int, entry: Entry) -> Fault | None:
        state = self.state
        if entry.kind == "handover":
            fault = governance.check_handover(state, entry)
            return fault or governance.hand_over(state, index, self.check_head(entry.body["checkpoint"].encode()))
        return RULE_BOOKS[state.charter["rule_version"]][entry.kind](state, index, entry)

    def _link(self, index: int, entry: Entry) -> Fault | None:
        """The author's own chain, and the head that the author saw when signing."""
        sequence, previous = self.state.chains.get(entry.author, _UNSPOKEN)
        if entry.seq != sequence or entry.prev != previous:
            return Fault(
                "broken-chain",
                f"Its author signed it as number {entry.seq} of its own entries, but number {sequence} is due here: "
                "an entry of the author was dropped, repeated or moved.",
            )
        size, root = entry.head
        if size > index or self.tree.root(size) != root:
            return Fault(
                "other-history",
                f"Its author had seen another log of {size} entries than this one: history was rewritten.",
            )
        return None

    def _found(self, index: int, entry: Entry) -> Fault | None:
        if index != 0 or entry.kind != "genesis":
            return Fault("no-genesis", "A log begins with its genesis, and has one only.")
        founder = entry.body["coordinator"]
        public_key = bytes.fromhex(founder["public_key"])
        check_public_key(public_key)
        entry.frame.verify(public_key)
        if entry.consortium or entry.seq or entry.prev != NO_PREVIOUS or entry.head.size:
            return Fault("no-genesis", "A genesis has nothing before it.")
        if entry.body["members_min"] < governance.MEMBERS_MIN_FLOOR or entry.body["rule_version"] not in RULE_BOOKS:
            return Fault(
                "no-genesis", "The charter's minimum of participants or rule version is not one of this program."
            )
        try:
            Schedule.from_json(entry.body["schedule"])
            NoteKey(entry.body["origin"], public_key)
        except (SettlementError, CheckpointError) as error:
            return Fault("no-genesis", str(error))
        identity = key_id(public_key)
        self.state.genesis = entry.leaf
        self.state.charter = entry.body
        self.state.coordinator = identity
        self.state.chains[identity] = (1, entry.leaf)
        self.state.keys[identity] = {entry.key: 0}
        self.state.members[identity] = Member(
            id=identity,
            keys=(HeldKey(0, public_key, vouched=True),),
            legal_name=founder["legal_name"],
            sector=founder["sector"],
            size=founder["size"],
            owner_group="",
            tls_key_sha256=bytes.fromhex(founder["tls_key_sha256"]),
            flower_key=b"",
            enrolment=entry.leaf,
            admitted=0,
        )
        self.state.identities[identity] = identity
        return None


def _absence(member: Member | None) -> Fault | None:
    """Why a party cannot speak now; None if it can."""
    if member is None:
        return Fault("not-admitted", "Its author was not admitted.")
    if member.active:
        return None
    if member.removed is not None:
        return Fault("removed", f"Its author was removed from entry {member.removed} on.")
    if member.suspended is not None:
        return Fault("suspended", f"Its author is suspended from entry {member.suspended} on.")
    return Fault("not-admitted", "Its author was not admitted.")


def _verify_author(member: Member | None, entry: Entry, signed_by: bytes | None) -> None:
    if member is not None:
        public_key = member.public_key
    elif entry.kind == "enrolment":
        public_key = bytes.fromhex(entry.body["public_key"])
    else:
        raise EntryError("Its author is not enrolled in this consortium.", mend="Join with an invitation first.")
    if public_key != signed_by:
        entry.frame.verify(public_key)
